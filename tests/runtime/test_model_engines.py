"""What opens a model: engines and variants, which of them are chosen, and which are refused."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import runtime
from runtime.bundle import read
from runtime.engines import Settings, open_engine
from runtime.errors import BundleError, EngineUnavailable, InputError
from runtime.testing import LABELS, FakeEngine, tiny_bundle

from .classifiers import change, engine_for


def change_variant(folder: Path, name: str, **changes: Any) -> None:
    variants = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))["variants"]
    change(folder, variants={**variants, name: {**variants[name], **changes}})


def test_an_unknown_engine_or_variant_is_refused_with_those_there_are(bundle: Path) -> None:
    with pytest.raises(
        InputError, match=r"engine must be 'auto' or one of 'ort-cuda', 'native', 'ort-cpu', 'openvino'. Got 'tpu'"
    ):
        runtime.load(bundle, engine="tpu")
    with pytest.raises(InputError, match=r"variant must be 'auto' or one of 'fp32', 'int8'. Got 'int4' instead"):
        runtime.load(bundle, variant="int4")


def test_an_engine_of_ones_own_is_used_and_nothing_else_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    engine = FakeEngine(num_labels=2)
    classifier = runtime.load(tiny_bundle(tmp_path / "bundle"), engine=engine)
    assert classifier.opened.engine is engine
    assert (classifier.opened.name, classifier.opened.reason) == ("custom", "given")
    assert classifier.predict("late").label in LABELS["single-label"]


@pytest.mark.parametrize("task", LABELS)
def test_an_engine_that_wants_no_batches_gets_all_texts_in_one_as_they_come(tmp_path: Path, task: str) -> None:
    class Packed(FakeEngine):
        num_lanes = None  # type: ignore[assignment]

        def run(self, batches: Any) -> Any:
            seen.append([batch.lengths.tolist() for batch in batches])
            return super().run(batches)

    seen: list[Any] = []
    folder = tiny_bundle(tmp_path / "b", task=task)
    engine = Packed(num_labels=len(LABELS[task]), per_token=task == "token")
    texts = ["late", "my parcel never came", "it", "the parcel came late"]
    answers = runtime.load(folder, engine=engine, max_batch_tokens=8).predict(texts)
    assert seen == [[[3, 6, 3, 6]]]
    assert answers == runtime.load(folder, engine=engine_for(task)).predict(texts)


@pytest.mark.parametrize(
    "option", [{"variant": "fp32"}, {"variant": "nonsense"}, {"threads": 2}, {"instruction_set": "avx2"}]
)
def test_options_that_an_engine_of_ones_own_could_not_follow_are_refused(tmp_path: Path, option: Any) -> None:
    with pytest.raises(
        InputError, match="variant, threads and instruction_set are for engines that are opened by name"
    ):
        runtime.load(tiny_bundle(tmp_path / "bundle"), engine=FakeEngine(num_labels=2), **option)


def test_without_any_engine_the_error_says_what_to_install(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnxruntime", "openvino", "portabert_native"):
        monkeypatch.setitem(sys.modules, package, None)
    missing = "{} is not installed: pip install {}"
    with pytest.raises(
        EngineUnavailable,
        match=r"engine 'ort-cpu' cannot run here: " + missing.format("onnxruntime", r"'portabert\[cpu\]'"),
    ):
        runtime.load(bundle, engine="ort-cpu")
    each = "; ".join(
        f"not {engine}: {missing.format(package, what)}"
        for engine, package, what in (
            ("ort-cuda", "onnxruntime", r"'portabert\[gpu\]'"),
            ("native", "portabert-native", "portabert-native"),
            ("ort-cpu", "onnxruntime", r"'portabert\[cpu\]'"),
            ("openvino", "OpenVINO", r"'portabert\[openvino\]'"),
        )
    )
    with pytest.raises(EngineUnavailable, match="no engine can run here: " + each):
        runtime.load(bundle)


def test_cuda_that_is_not_there_is_an_error_by_name_and_a_reason_by_auto(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(EngineUnavailable, match="engine 'ort-cuda' cannot run here: this onnxruntime has no CUDA"):
        runtime.load(bundle, engine="ort-cuda")
    opened = runtime.load(bundle).opened
    assert opened.name == "ort-cpu"
    assert opened.reason.startswith("first that runs here; not ort-cuda: this onnxruntime has no CUDA")


def test_auto_takes_int8_where_its_gate_passed_and_else_fp32(bundle: Path) -> None:
    for passed, expected in ((True, "int8"), (False, "fp32")):
        change_variant(bundle, "int8", passed=passed)
        assert runtime.load(bundle, engine="ort-cpu").opened.variant == expected
    assert runtime.load(bundle, variant="int8", engine="ort-cpu").opened.variant == "int8"


def test_where_no_gate_passed_a_variant_must_be_named(bundle: Path) -> None:
    for name in ("fp32", "int8"):
        change_variant(bundle, name, passed=False)
    with pytest.raises(
        InputError, match=r"no variant of this bundle passed its accuracy gate; name one .*: fp32, int8"
    ):
        runtime.load(bundle)
    assert runtime.load(bundle, variant="fp32").predict("late").label


def test_the_number_of_threads_is_the_engines(bundle: Path) -> None:
    ort = f"onnxruntime {onnxruntime.__version__}"
    assert runtime.load(bundle, engine="ort-cpu", threads=1).opened.engine.description.startswith(
        f"{ort}, CPU, 1 thread"
    )
    assert runtime.load(bundle, engine="ort-cpu", threads=3).opened.engine.description.startswith(
        f"{ort}, CPU, 3 threads"
    )
    with pytest.raises(InputError, match=r"threads must be a positive integer. Got 0 instead"):
        runtime.load(bundle, threads=0)


@pytest.mark.parametrize("variant", ["fp32", "int8"])
@pytest.mark.parametrize("how", [Settings(threads=4, streams=2), Settings(threads=2, streams=1, spinning=False)])
def test_settings_change_no_answer(bundle: Path, variant: str, how: Settings) -> None:
    texts = ["late", "the parcel is late again", "where", "a b c d e f"] * 3
    opened = open_engine("ort-cpu", path=bundle, manifest=read(bundle), variant=variant, settings=how)
    assert opened.engine.num_lanes == how.streams
    expected = runtime.load(bundle, engine="ort-cpu", variant=variant, threads=1)
    own = runtime.load(bundle, engine=opened.engine, max_batch_tokens=16)
    for ours, theirs in zip(own.predict(texts), expected.predict(texts), strict=True):
        np.testing.assert_allclose(ours.logits, theirs.logits, rtol=0, atol=0 if variant == "int8" else 1e-5)


@pytest.mark.parametrize("streams", [0, 3])
def test_more_streams_than_threads_are_refused(bundle: Path, streams: int) -> None:
    how = Settings(threads=2, streams=streams)
    with pytest.raises(InputError, match=rf"streams must be between 1 and threads \(2\). Got {streams} instead"):
        open_engine("ort-cpu", path=bundle, manifest=read(bundle), variant="fp32", settings=how)


def test_a_precision_an_engine_does_not_compute_in_is_refused_and_never_converted(bundle: Path) -> None:
    change_variant(bundle, "fp32", precision="bf16")
    with pytest.raises(
        EngineUnavailable, match=r"computes in int8 or fp32 or fp16, and variant 'fp32' is bf16. Choose another variant"
    ):
        runtime.load(bundle, engine="ort-cpu", variant="fp32")
    change_variant(bundle, "int8", passed=False)
    with pytest.raises(EngineUnavailable, match="this bundle's verified variants are fp32"):
        runtime.load(bundle, engine="ort-cpu")


def test_whether_answers_depend_on_the_batch_was_measured_at_export(bundle: Path) -> None:
    assert runtime.load(bundle, variant="int8").batch_invariant
    change_variant(bundle, "int8", batch_invariant=False)
    assert not runtime.load(bundle, variant="int8").batch_invariant


def test_a_model_file_that_is_no_model_is_refused_with_its_name(bundle: Path) -> None:
    file = bundle / "onnx/model.onnx"
    file.write_bytes(b"x" * file.stat().st_size)
    with pytest.raises(BundleError, match=r"onnxruntime cannot open .*model\.onnx: .* export the model again"):
        runtime.load(bundle, variant="fp32", engine="ort-cpu")
    with pytest.raises(BundleError, match=r"1 changed files\n  onnx/model\.onnx was changed after export"):
        runtime.load(bundle, verify=True)


def test_graph_inputs_other_than_the_manifests_are_refused(bundle: Path) -> None:
    change_variant(bundle, "fp32", inputs=["input_ids", "attention_mask"])
    with pytest.raises(
        BundleError, match=r"has the inputs \[.*'token_type_ids'.*\], bundle.json says \['input_ids', 'attention"
    ):
        runtime.load(bundle, variant="fp32", engine="ort-cpu")


def test_a_budget_of_no_tokens_is_refused(tmp_path: Path) -> None:
    classifier = runtime.load(tiny_bundle(tmp_path / "b"), engine=FakeEngine(num_labels=2), max_batch_tokens=0)
    with pytest.raises(InputError, match=r"max_batch_tokens must be a positive integer. Got 0 instead"):
        classifier.predict("late")
