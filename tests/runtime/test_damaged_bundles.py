"""A real bundle that was damaged, or changed on purpose, is refused or found out."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import onnx
import pytest
from safetensors.numpy import load_file

import runtime
from runtime.__main__ import main
from runtime.bundle import MANIFEST, read, stored_files
from runtime.errors import BundleError

MODEL = "onnx/model.onnx"


@pytest.fixture(scope="session")
def untouched(make_bundle: Callable[[str, str], Path]) -> Path:
    """Give a real bundle that no test may change."""
    return make_bundle("bert", "single-label")


def reseal(bundle: Path) -> None:
    """Rewrite sizes and digests, as somebody would who changes a bundle on purpose."""
    fields = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    fields["files"] = {name: asdict(entry) for name, entry in stored_files(bundle).items()}
    (bundle / MANIFEST).write_text(json.dumps(fields), encoding="utf-8")


def flip(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)


def test_a_real_manifest_cut_anywhere_never_opens(bundle: Path) -> None:
    content = (bundle / MANIFEST).read_bytes()
    for end in range(0, len(content) - 1, 50):
        (bundle / MANIFEST).write_bytes(content[:end])
        with pytest.raises(BundleError, match="is not valid JSON"):
            runtime.load(bundle)


def test_a_whole_bundle_passes_its_check(untouched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(untouched)]) == 0
    assert "fp32, int8 answer as they should" in capsys.readouterr().out
    assert runtime.load(untouched, verify=True).predict("ok").label in runtime.load(untouched).manifest.labels


@pytest.mark.parametrize("name", ["onnx/model.onnx", "onnx/model_quantized.onnx", "tokenizer.json"])
def test_a_cut_a_grown_and_a_missing_file_are_refused_without_reading_them(bundle: Path, name: str) -> None:
    file = bundle / name
    content = file.read_bytes()
    for changed_content in (content[:-1], content + b"\0", b""):
        file.write_bytes(changed_content)
        with pytest.raises(
            BundleError, match=f"{name} has {len(changed_content)} bytes, bundle.json says {len(content)}"
        ):
            runtime.load(bundle)
    file.unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        runtime.load(bundle)


def test_one_flipped_bit_in_any_file_is_found_by_verify_and_check(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in read(bundle).files:
        file = bundle / name
        flip(file, file.stat().st_size // 2)
        with pytest.raises(BundleError, match=f"1 changed files\n  {name} was changed after export"):
            runtime.load(bundle, verify=True)
        assert main(["check", str(bundle)]) == 1
        assert capsys.readouterr().err.startswith(f"error: {name} was changed after export: its SHA-256")
        flip(file, file.stat().st_size // 2)
    assert main(["check", str(bundle)]) == 0


def unreadable_models(content: bytes) -> Iterator[bytes]:
    yield bytes(len(content))
    yield b"not a model".ljust(len(content), b"!")
    yield content[: len(content) // 2].ljust(len(content), b"\xff")
    yield content.replace(b"MatMul", b"MadMul")
    yield content.replace(b"input_ids", b"output_id")


def test_a_model_that_onnxruntime_cannot_open_is_refused_even_with_matching_digests(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = bundle / MODEL
    for content in unreadable_models(file.read_bytes()):
        file.write_bytes(content)
        reseal(bundle)
        with pytest.raises(BundleError, match=r"onnxruntime cannot open .*model.onnx|has the inputs .*'output_id'"):
            runtime.load(bundle, variant="fp32", verify=True)
        assert main(["check", str(bundle)]) == 1
        assert capsys.readouterr().err.startswith("error: ")


def outside_code() -> onnx.ModelProto:
    """A graph whose operator would come from a library beside the model."""
    ids = onnx.helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["batch", "sequence"])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["batch", 8])
    node = onnx.helper.make_node("Evil", ["input_ids"], ["logits"], domain="evil.example")
    graph = onnx.helper.make_graph([node], "g", [ids], [logits])
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("evil.example", 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


def outside_data(location: str) -> onnx.ModelProto:
    """A graph whose weights lie in a file of the writer's choice."""
    ids = onnx.helper.make_tensor_value_info("input_ids", onnx.TensorProto.INT64, ["batch", "sequence"])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [8])
    weights = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=[8], data_location=1)
    for key, value in {"location": location, "offset": "0", "length": "32"}.items():
        weights.external_data.add(key=key, value=value)
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["w"], ["logits"])], "g", [ids], [logits])
    graph.initializer.append(weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def test_a_graph_that_needs_code_or_data_from_outside_the_bundle_is_refused(bundle: Path) -> None:
    secret = bundle.parent / "secret.bin"
    secret.write_bytes(bytes(64))
    for model in (outside_code(), outside_data("../../secret.bin"), outside_data(str(secret))):
        (bundle / MODEL).write_bytes(model.SerializeToString())
        reseal(bundle)
        with pytest.raises(BundleError, match=r"onnxruntime cannot open .*model.onnx"):
            runtime.load(bundle, variant="fp32")


@pytest.mark.parametrize(
    ("name", "content"),
    [("tokenizer.json", "{}"), ("tokenizer.json", "["), ("tokenizer_config.json", "[]"), ("tokenizer_config.json", "")],
)
def test_a_tokenizer_that_cannot_be_read_is_refused_even_with_matching_digests(
    bundle: Path, name: str, content: str
) -> None:
    (bundle / name).write_text(content)
    reseal(bundle)
    with pytest.raises(BundleError, match="the tokenizer cannot be read"):
        runtime.load(bundle)


def test_changed_weights_with_matching_digests_are_found_by_their_answers(
    bundle: Path, make_run: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The golden logits are PyTorch's; a graph that answers otherwise is told, whatever its digest says."""
    bias = load_file(make_run("bert", "single-label") / "model.safetensors")["classifier.bias"]
    content = (bundle / MODEL).read_bytes()
    assert content.count(bias.tobytes()) == 1
    (bundle / MODEL).write_bytes(content.replace(bias.tobytes(), (bias + 0.01).tobytes()))
    reseal(bundle)
    runtime.load(bundle, variant="fp32", verify=True)
    assert main(["check", str(bundle)]) == 1
    assert re.search(r"error: fp32 on ort-cpu is off by 0\.01 for .*; at most 0\.001 is exp", capsys.readouterr().err)


def test_a_changed_vocabulary_with_matching_digests_is_found_by_its_token_ids(
    bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = json.loads((bundle / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["normalizer"] = None
    (bundle / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    reseal(bundle)
    assert main(["check", str(bundle)]) == 1
    assert "the tokenizer gives other token ids for " in capsys.readouterr().err
