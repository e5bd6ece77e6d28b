"""The OpenVINO engine beside onnxruntime on the same files, what it refuses, and that it keeps to what it is told."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtime
from runtime.bundle import read
from runtime.encode import Batch
from runtime.engines import Engine, Settings, open_engine
from runtime.engines import openvino as engine_file
from runtime.engines.lanes import Rivals
from runtime.errors import BundleError, EngineUnavailable, InputError
from runtime.machine import cpu_flags

FAMILIES = ("bert", "roberta", "distilbert", "electra", "mpnet", "deberta-v2", "xlm-roberta", "modernbert", "gpt2")
CASES = [*((family, "single-label") for family in FAMILIES), ("bert", "token"), ("roberta", "token"), ("bert", "pair")]
CPUS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
# bf16 has 8 bits of mantissa: a product is off by 2^-9 of itself, and the tiny models' logits lie between -15 and 15.
BF16_TOLERANCE = 0.25

pytestmark = pytest.mark.filterwarnings("ignore:texts longer than:UserWarning")
needs_bf16 = pytest.mark.skipif(not cpu_flags() & BF16_FLAGS, reason="this CPU does not compute in bf16")


def add_bf16(bundle: Path) -> None:
    """Give a bundle the variant bf16, which shares the file of fp32."""
    file = bundle / "bundle.json"
    manifest = json.loads(file.read_text(encoding="utf-8"))
    manifest["variants"]["bf16"] = {**manifest["variants"]["fp32"], "precision": "bf16"}
    file.write_text(json.dumps(manifest), encoding="utf-8")


def open_with(bundle: Path, engine: str, variant: str = "fp32", **settings: Any) -> Engine:
    how = Settings(**{"threads": 1, **settings})
    return open_engine(engine, path=bundle, manifest=read(bundle), variant=variant, settings=how).engine


def random_batch(lengths: list[int], *, pair: bool = False) -> Batch:
    """Make texts of random tokens; a pair's second half is its second text."""
    ids = np.random.default_rng(sum(lengths)).integers(5, 300, sum(lengths))
    types = np.concatenate([np.arange(length) >= (length + 1) // 2 for length in lengths]) & pair
    return Batch(ids, types.astype(np.int64), np.cumsum([0, *lengths]).astype(np.int32))


# Answers


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_fp32_agrees_with_onnxruntime_at_every_length_alone_and_in_a_batch(
    family: str, shape: str, make_bundle: Callable[[str, str], Path]
) -> None:
    bundle = make_bundle(family, shape)
    longest = read(bundle).max_length
    lengths = [[length] for length in range(1, longest + 1)]
    lengths += [[length, max(1, length // 2), 1] for length in (1, 2, 3, 7, longest // 2, longest - 1, longest)]
    batches = [random_batch(row, pair=shape == "pair") for row in lengths]
    ours, theirs = (open_with(bundle, engine).run(batches) for engine in ("openvino", "ort-cpu"))
    for batch, a, b in zip(batches, ours, theirs, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=f"lengths {batch.lengths.tolist()}")


@needs_bf16
@pytest.mark.parametrize(("family", "shape"), [("bert", "single-label"), ("bert", "token"), ("deberta-v2", "pair")])
def test_bf16_is_near_fp32_and_is_not_it(
    family: str, shape: str, make_bundle: Callable[[str, str], Path], tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(make_bundle(family, shape), bundle)
    add_bf16(bundle)
    batches = [random_batch([length, 3], pair=shape == "pair") for length in (3, 17, 40)]
    exact = np.concatenate(open_with(bundle, "ort-cpu").run(batches))
    rough = np.concatenate(open_with(bundle, "openvino", "bf16").run(batches))
    assert 1e-4 < np.abs(exact - rough).max() < BF16_TOLERANCE


@pytest.mark.parametrize("shape", ["single-label", "token"])
def test_threads_that_share_a_model_get_the_answers_of_one(
    shape: str, make_bundle: Callable[[str, str], Path], texts: list[str]
) -> None:
    bundle = make_bundle("bert", shape)
    expected = runtime.load(bundle, engine="ort-cpu", variant="fp32", threads=1).predict(texts[:48])
    shared = runtime.load(bundle, engine="openvino", variant="fp32", threads=min(2, CPUS))
    # Lone texts take both ways to compute; lists go through all lanes meanwhile.
    asked = [*texts[:48], *(texts[start : start + 16] for start in (0, 16, 32))] * 2
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(shared.predict, asked))
    for question, answer in zip(asked, answers, strict=True):
        alone = isinstance(question, str)
        for text, ours in zip([question] if alone else question, [answer] if alone else answer, strict=True):
            np.testing.assert_allclose(ours.logits, expected[texts.index(text)].logits, rtol=1e-4, atol=1e-4)


# Settings


@pytest.mark.skipif(CPUS < 2, reason="one CPU has one stream")
@pytest.mark.parametrize("streams", [1, 2])
def test_settings_change_no_answer(streams: int, bundle: Path, texts: list[str]) -> None:
    engine = open_with(bundle, "openvino", threads=2, streams=streams)
    assert engine.num_lanes == streams
    assert engine.description.endswith("CPU, 2 threads" + (" in 1 stream" if streams == 1 else ""))
    many = runtime.load(bundle, engine=engine, max_batch_tokens=64)
    expected = runtime.load(bundle, engine="ort-cpu", variant="fp32").predict(texts[:40])
    alone = [many.predict(text) for text in texts[: 2 * Rivals.TRIALS + 2]]
    for answers in (many.predict(texts[:40]), alone):
        for ours, theirs in zip(answers, expected, strict=False):
            np.testing.assert_allclose(ours.logits, theirs.logits, rtol=1e-4, atol=1e-4)


def test_a_stream_a_thread_is_the_default(bundle: Path) -> None:
    assert open_with(bundle, "openvino", threads=min(2, CPUS)).num_lanes == min(2, CPUS)


def test_a_setting_that_would_do_nothing_is_refused(bundle: Path) -> None:
    for spinning in (True, False):
        with pytest.raises(
            EngineUnavailable,
            match=f"'openvino' cannot run here: it has no setting for spinning; leave it out. Got .*{spinning}",
        ):
            open_with(bundle, "openvino", spinning=spinning)


def test_more_threads_than_openvino_takes_are_refused(bundle: Path) -> None:
    with pytest.raises(InputError, match=rf"OpenVINO takes {CPUS} threads? .* Got threads={CPUS + 3} "):
        open_with(bundle, "openvino", threads=CPUS + 3)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux tells a thread's CPUs")
def test_no_thread_is_tied_to_a_cpu(bundle: Path) -> None:
    """Or two processes of one thread each would share the first CPU. In a process of its own, for onnxruntime ties the threads of sessions that other tests left."""
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from tests.runtime.test_openvino import open_with, random_batch\n"
        "open_with(Path(sys.argv[1]), 'openvino', threads=1).run([random_batch([5])])\n"
        "threads = [int(name) for name in os.listdir('/proc/self/task')]\n"
        "assert all(os.sched_getaffinity(thread) == os.sched_getaffinity(0) for thread in threads)\n"
    )
    command = [sys.executable, "-c", code, str(bundle)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# Refusals


def test_bf16_is_refused_by_name_and_passed_over_by_auto_where_the_cpu_lacks_it(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_bf16(bundle)
    monkeypatch.setattr(engine_file, "cpu_flags", lambda: frozenset({"avx2", "avx512f"}))
    lacking = "bf16 needs a CPU with avx512_bf16 or amx_bf16, and /proc/cpuinfo lists neither here"
    with pytest.raises(EngineUnavailable, match=f"'openvino' cannot run here: {lacking}. Choose another variant"):
        runtime.load(bundle, engine="openvino", variant="bf16")
    assert runtime.load(bundle, engine="openvino").opened.variant == "fp32"
    manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    manifest["variants"]["fp32"]["passed"] = False
    (bundle / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(EngineUnavailable, match=f"verified variants are int8, bf16; {lacking}"):
        runtime.load(bundle, engine="openvino")


@pytest.mark.parametrize("flag", sorted(BF16_FLAGS))
def test_bf16_is_what_auto_takes_where_the_cpu_has_it(flag: str, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not cpu_flags() & BF16_FLAGS:
        pytest.skip("this CPU does not compute in bf16")
    add_bf16(bundle)
    monkeypatch.setattr(engine_file, "cpu_flags", lambda: frozenset({flag}))
    assert runtime.load(bundle, engine="openvino").opened.variant == "bf16"


def test_the_row_wise_int8_file_is_refused(bundle: Path) -> None:
    """OpenVINO opens it without a complaint and gives no logits at all."""
    with pytest.raises(
        EngineUnavailable, match="it computes in bf16 or int8-weights or fp32, and variant 'int8' is int8"
    ):
        runtime.load(bundle, engine="openvino", variant="int8")


def test_a_model_file_that_is_no_model_is_refused_with_its_name(bundle: Path) -> None:
    file = bundle / "onnx/model.onnx"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2].ljust(file.stat().st_size, b"x"))
    with pytest.raises(BundleError, match=r"OpenVINO cannot open .*model\.onnx: (.|\n)* export the model again"):
        runtime.load(bundle, variant="fp32", engine="openvino")


def test_graph_inputs_other_than_the_manifests_are_refused(bundle: Path) -> None:
    file = bundle / "bundle.json"
    manifest = json.loads(file.read_text(encoding="utf-8"))
    manifest["variants"]["fp32"]["inputs"] = ["input_ids", "attention_mask"]
    file.write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(BundleError, match=r"has the inputs \[.*'token_type_ids'.*\], bundle.json says \['input_ids', "):
        runtime.load(bundle, variant="fp32", engine="openvino")


def test_a_computation_that_fails_is_an_error_with_the_batchs_size(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine_file._Requests, "infer", fail)
    engine = open_with(bundle, "openvino")
    with pytest.raises(BundleError, match=r"onnx/model\.onnx cannot compute a batch of 2×9 tokens: out of memory"):
        engine.run([random_batch([9, 2])])


def test_without_openvino_the_error_says_what_to_install(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    missing = r"OpenVINO is not installed: pip install 'portabert\[openvino\]'"
    with pytest.raises(EngineUnavailable, match=rf"engine 'openvino' cannot run here: {missing}"):
        runtime.load(bundle, engine="openvino")


# Telemetry

WATCHED = """
import sys, time
seen = []
names = ("socket.connect", "socket.getaddrinfo", "http.client.connect", "urllib.Request")
sys.addaudithook(lambda event, arguments: seen.append(event) if event in names else None)
import runtime
runtime.load(sys.argv[1], engine="openvino", variant="fp32").predict("late")
time.sleep(0.5)  # the sender is a thread
print(seen, [name for name in sys.modules if name.startswith("openvino_telemetry")])
"""


def test_nothing_is_sent_and_nothing_written_home(bundle: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, str(bundle)],
        env={**environment, "HOME": str(home)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout.strip(), done.returncode) == ("[] []", 0), done.stderr
    assert list(home.iterdir()) == []
