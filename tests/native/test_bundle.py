"""The variant native-int8 from export to answer: what is written, when, and how the runtime chooses it."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

import runtime
from export import speed
from export.__main__ import main
from runtime.__main__ import main as runtime_main
from runtime.bundle import read
from runtime.engines import Settings
from runtime.errors import BundleError, EngineUnavailable
from runtime.model import open_classifier
from trainer.checkpoint import open_run

from .conftest import native

FAMILIES = ("bert", "roberta", "distilbert", "electra", "mpnet", "xlm-roberta")
CASES = [
    *((family, shape) for family in FAMILIES for shape in ("single-label", "token")),
    *(("bert", shape) for shape in ("multi-label", "regression", "pair")),
]
LIMITS = ["--max-change=1", "--max-metric-drop=1"]  # random weights decide by a hair


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time exports on few texts; speed is not what these tests are about."""
    for name, value in {"MAX_TEXTS": 16, "REPEATS": 1, "LATENCY_TEXTS": 2}.items():
        monkeypatch.setattr(speed, name, value)


def export(run: Path, bundle: Path, *flags: str) -> Path:
    assert main([str(run), f"--output={bundle}", *LIMITS, *flags]) == 0
    return bundle


@pytest.fixture(scope="module")
def usual(make_run: Callable[[str, str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the bundle that an export without --variants makes."""
    return export(make_run("bert", "single-label"), tmp_path_factory.mktemp("usual") / "b")


@pytest.mark.parametrize(("family", "shape"), CASES)
def test_it_answers_as_transformers_does(
    family: str, shape: str, make_run: Callable[[str, str], Path], tmp_path: Path, texts: list[str]
) -> None:
    run = make_run(family, shape)
    classifier = runtime.load(export(run, tmp_path / "b", "--variants=native-int8"))
    assert classifier.opened.name == "native"
    tokenizer, model = transformers.AutoTokenizer.from_pretrained(run), open_run(run).load_model()
    chosen = [text for text in texts if len(text) < 60][:24]
    rows = list(zip(chosen, reversed(chosen), strict=True)) if shape == "pair" else chosen
    for row, prediction in zip(rows, classifier.predict(rows), strict=True):
        parts = row if isinstance(row, tuple) else (row,)
        feeds = tokenizer(*parts, return_tensors="pt", truncation=True, max_length=classifier.manifest.max_length)
        with torch.no_grad():
            expected = model(**feeds).logits[0].numpy()
        np.testing.assert_allclose(prediction.logits, expected, atol=0.2, rtol=0.2)


def test_an_export_writes_it_where_it_can_be_verified(usual: Path) -> None:
    variant = read(usual).variants["native-int8"]
    assert (variant.file, variant.precision) == ("native/int8.safetensors", "native-int8")
    assert variant.passed
    assert variant.batch_invariant


def test_an_export_without_portabert_native_says_what_it_leaves_out(
    make_run: Callable[[str, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "portabert_native", None)
    bundle = export(make_run("bert", "single-label"), tmp_path / "b")
    assert set(read(bundle).variants) == {"fp32", "int8"}
    assert "native-int8 is left out: portabert-native is not installed" in capsys.readouterr().err


def test_an_architecture_it_does_not_know_is_exported_without_it(
    make_run: Callable[[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("modernbert", "single-label")
    assert set(read(export(run, tmp_path / "b")).variants) == {"fp32", "int8"}
    assert main([str(run), f"--output={tmp_path / 'c'}", "--variants=native-int8"]) == 1
    error = capsys.readouterr().err
    assert "--variants native-int8: written from an encoder's weights, but modernbert is not among" in error
    assert not (tmp_path / "c").exists()


def test_auto_prefers_it(usual: Path) -> None:
    opened = runtime.load(usual).opened
    assert (opened.name, opened.variant) == ("native", "native-int8")
    assert opened.engine.description.startswith(
        f"portabert-native {native.__version__}, {native.instruction_sets()[0]}"
    )


def test_loading_brings_no_other_engine(usual: Path) -> None:
    code = "import runtime, sys; runtime.load(sys.argv[1]).predict('late'); print('onnxruntime' in sys.modules, 'portabert_native' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code, str(usual)], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "True"]


def test_auto_without_it_says_why_and_takes_another(usual: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "portabert_native", None)
    opened = runtime.load(usual).opened
    assert (opened.name, opened.variant) == ("ort-cpu", "int8")
    assert "not native: portabert-native is not installed: pip install portabert-native" in opened.reason


def test_a_bundle_passes_its_check_and_info_names_it(usual: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runtime_main(["check", str(usual)]) == 0
    assert runtime_main(["info", str(usual)]) == 0
    told = capsys.readouterr().out
    assert "native-int8 on portabert-native" in told
    assert "the same to the bit as alone" in told


@pytest.mark.parametrize("name", native.instruction_sets())
def test_the_environment_forces_an_instruction_set(name: str, usual: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = runtime.load(usual).predict("Where is my parcel?").logits
    monkeypatch.setenv("PORTABERT_INSTRUCTION_SET", name)
    classifier = runtime.load(usual)
    assert f", {name}, " in classifier.opened.engine.description
    np.testing.assert_array_equal(classifier.predict("Where is my parcel?").logits, expected)


def test_an_instruction_set_that_is_not_there_is_refused(usual: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTABERT_INSTRUCTION_SET", "sse9")
    with pytest.raises(EngineUnavailable, match=r"PORTABERT_INSTRUCTION_SET must be one of .*scalar.* Got 'sse9'"):
        runtime.load(usual, engine="native")


def test_the_option_comes_before_the_environment(usual: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTABERT_INSTRUCTION_SET", "sse9")
    assert "scalar" in runtime.load(usual, instruction_set="scalar").opened.engine.description
    with pytest.raises(EngineUnavailable, match=r"instruction_set must be one of .*scalar.* Got 'sse8'"):
        runtime.load(usual, engine="native", instruction_set="sse8")


def test_an_engine_that_chooses_for_itself_refuses_an_instruction_set(usual: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"it chooses its instruction set itself; leave it out. Got .*'avx2'"):
        runtime.load(usual, engine="ort-cpu", instruction_set="avx2")


@pytest.mark.parametrize("streams", [None, 1, 4])
def test_streams_and_batches_do_not_change_answers(streams: int | None, usual: Path, texts: list[str]) -> None:
    manifest = read(usual)
    settings = Settings(threads=4, streams=streams)
    classifier = open_classifier(usual, manifest, engine="native", settings=settings, max_batch_tokens=64)
    alone = open_classifier(usual, manifest, engine="native", settings=Settings(threads=1))
    short = [text for text in texts if len(text) < 60]
    for text, prediction in zip(short, classifier.predict(short), strict=True):
        np.testing.assert_array_equal(prediction.logits, alone.predict(text).logits)


def test_streams_between_one_and_all_threads_are_refused(usual: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"streams must be 1 or as many as threads \(4\). Got 2"):
        open_classifier(usual, read(usual), engine="native", settings=Settings(threads=4, streams=2))


def test_a_file_that_was_changed_is_a_bundle_error(usual: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(usual, tmp_path / "b"))
    file = bundle / "native" / "int8.safetensors"
    stored = file.read_bytes()
    file.write_bytes(stored.replace(b"layer_0_up_scale", b"layer_0_up_smile"))
    with pytest.raises(BundleError, match=r"'layer_0_up_smile' is no tensor of such a model. Export the model again"):
        runtime.load(bundle, engine="native")
