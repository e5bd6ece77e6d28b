"""What an export promises beside agreement: who can read it, what it refuses, and with which exit code."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import runtime
from export.__main__ import main
from export.config import ExportConfig
from export.contract import contract_shapes
from runtime.engines.exactness import exact_options
from runtime.errors import InputError

Make = Callable[[str, str], Path]


@pytest.mark.filterwarnings("ignore")  # Optimum's and transformers' own deprecations
@pytest.mark.parametrize(
    ("shape", "model_class"),
    [("single-label", "ORTModelForSequenceClassification"), ("token", "ORTModelForTokenClassification")],
)
def test_optimum_opens_the_bundle_with_the_same_logits(
    shape: str, model_class: str, make_bundle: Make, texts: list[str]
) -> None:
    optimum = pytest.importorskip("optimum.onnxruntime")
    import transformers

    bundle = make_bundle("bert", shape)
    tokenizer = transformers.AutoTokenizer.from_pretrained(bundle)
    for variant, file in (("fp32", "model.onnx"), ("int8", "model_quantized.onnx")):
        model = getattr(optimum, model_class).from_pretrained(
            bundle, subfolder="onnx", file_name=file, session_options=exact_options()
        )
        classifier = runtime.load(bundle, variant=variant)
        for text in texts[:5]:
            feeds = tokenizer(text, return_tensors="np", truncation=True, max_length=classifier.manifest.max_length)
            np.testing.assert_allclose(classifier.predict(text).logits, model(**feeds).logits[0], atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_optimum_exports_under_the_same_checks(make_run: Make, tmp_path: Path) -> None:
    pytest.importorskip("optimum.exporters.onnx")
    bundle = tmp_path / "bundle"
    flags = ["--exporter=optimum", "--max-change=1", "--max-metric-drop=1"]
    assert main([str(make_run("bert", "single-label")), f"--output={bundle}", *flags]) == 0
    assert json.loads((bundle / "report.json").read_text())["exporter"] == "optimum"
    assert runtime.load(bundle).manifest.made_by["optimum"]


def test_a_limit_that_is_not_kept_stops_the_export_with_exit_code_1(
    make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "bundle"
    assert main([str(make_run("bert", "single-label")), f"--output={target}", "--max-fp32-difference=1e-12"]) == 1
    message = capsys.readouterr().err
    assert "differs from PyTorch by more than 1e-12" in message
    assert list(tmp_path.iterdir()) == []


def test_an_int8_model_below_the_limits_is_not_shipped(
    make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from export import variants

    def spoil(source: Path, target: Path, scheme: object) -> None:
        model = onnx.load(source)
        for tensor in model.graph.initializer:
            if len(tensor.dims) == 2 and tensor.data_type == onnx.TensorProto.FLOAT:
                noise = np.random.default_rng(0).normal(size=tuple(tensor.dims)).astype(np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(noise, tensor.name))
        onnx.save(model, target)

    monkeypatch.setitem(variants.QUANTIZERS, "int8", spoil)
    assert main([str(make_run("bert", "token")), "--exporter=torch", f"--output={tmp_path / 'b'}"]) == 1
    message = capsys.readouterr().err
    assert "--max-change is 0.50%. Leave it out of --variants, or allow more" in message
    assert "Nothing was written" in message
    assert not (tmp_path / "b").exists()


def test_weights_are_restored_until_the_limits_are_kept_and_the_report_shows_the_path(
    make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, run = tmp_path / "bundle", make_run("bert", "regression")
    flags = [str(run), f"--output={bundle}", "--variants=int8", "--max-metric-drop=1", "--max-change=0.001"]
    assert main([*flags, "--no-restore"]) == 1
    assert re.search(r"int8 moves answers by [\d.]+% of their standard deviation", capsys.readouterr().err)
    assert main(flags) == 0
    told = capsys.readouterr().err
    assert "looking for the weights that cost most" in told
    assert "Leave it out" not in told, "what is being mended needs no advice"
    (_, line) = json.loads((bundle / "report.json").read_text())["lines"]
    trials, errors = line["restored"]["trials"], line["restored"]["errors"]
    assert trials[0]["exact"] == []
    assert [bool(trials[place]["problems"]) for place in (0, -1)] == [True, False]
    assert len(errors) == line["restored"]["num_weights"]
    kept = {tensor.name for tensor in onnx.load(bundle / "onnx" / "model_quantized.onnx").graph.initializer}
    assert set(trials[-1]["exact"]) <= kept
    assert runtime.load(bundle).batch_invariant


def test_a_checkpoint_of_another_program_is_exported_when_its_task_is_named(
    make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / "foreign"
    shutil.copytree(make_run("roberta", "single-label"), foreign)
    for name in ("run.json", "train_config.json"):
        (foreign / name).unlink()
    assert main([str(foreign), f"--output={tmp_path / 'b'}"]) == 1
    assert "has no run.json" in capsys.readouterr().err
    assert main([str(foreign), f"--output={tmp_path / 'b'}", "--task=single-label"]) == 0
    assert "unverified" in capsys.readouterr().err
    assert runtime.load(tmp_path / "b").opened.variant == "fp32"
    rows = [
        {"text": "my parcel never came", "label": "track_delivery"},
        {"text": "refund me", "label": "request_refund"},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    verified = [
        str(foreign),
        f"--output={tmp_path / 'b'}",
        "--overwrite",
        "--task=single-label",
        f"--eval={tmp_path / 'rows.jsonl'}",
        "--variants=fp32",
        "int8",
    ]
    assert main([*verified, "--max-change=1", "--max-metric-drop=1"]) == 0
    assert runtime.load(tmp_path / "b").opened.variant == "int8"


def test_a_tokenizer_whose_files_disagree_is_shipped_as_transformers_reads_it(make_run: Make, tmp_path: Path) -> None:
    """tokenizer_config.json says that case counts, tokenizer.json lowers it: transformers follows the first."""
    import transformers

    foreign = tmp_path / "foreign"
    shutil.copytree(make_run("bert", "single-label"), foreign)
    (foreign / "run.json").unlink()
    settings = json.loads((foreign / "tokenizer_config.json").read_text())
    (foreign / "tokenizer_config.json").write_text(
        json.dumps({**settings, "tokenizer_class": "BertTokenizerFast", "do_lower_case": False})
    )
    expected = transformers.AutoTokenizer.from_pretrained(foreign)("My Parcel")["input_ids"]
    bundle = tmp_path / "b"
    assert main([str(foreign), f"--output={bundle}", "--task=single-label"]) == 0
    classifier = runtime.load(bundle)
    assert classifier.encode(["My Parcel"]).batch.input_ids.tolist() == expected
    assert classifier.encode(["my parcel"]).batch.input_ids.tolist() != expected


def test_other_token_ids_than_transformers_stop_the_export(
    make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from runtime.encode import Encoder

    encode = Encoder.encode

    def spoil(self: Encoder, texts: list[str]) -> object:
        encoded = encode(self, texts)
        encoded.batch.input_ids[3] += 1
        return encoded

    monkeypatch.setattr(Encoder, "encode", spoil)
    assert main([str(make_run("bert", "single-label")), f"--output={tmp_path / 'b'}"]) == 1
    assert "becomes other token ids at prediction than by" in capsys.readouterr().err


def test_evaluation_rows_that_changed_are_an_error(
    make_encoder_folder: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from trainer.__main__ import main as train

    rows = [{"text": f"number {index}", "label": "even" if index % 2 == 0 else "odd"} for index in range(40)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = tmp_path / "run"
    model = make_encoder_folder("bert")
    assert train([f"--model={model}", f"--train={file}", f"--output={run}", "--epochs=1", "--precision=fp32"]) == 0
    file.write_text(file.read_text() + json.dumps(rows[0]) + "\n")
    assert main([str(run), f"--output={tmp_path / 'b'}"]) == 1
    assert "was changed since the model was trained" in capsys.readouterr().err
    file.unlink()
    assert main([str(run), f"--output={tmp_path / 'b'}"]) == 1
    assert str(file) in capsys.readouterr().err


@pytest.mark.parametrize("variants", [("fp32",), ("int8",), ("fp32", "int8", "int8-channel")])
def test_any_subset_of_variants_is_a_bundle(variants: tuple[str, ...], make_run: Make, tmp_path: Path) -> None:
    flags = ["--max-change=1", "--max-metric-drop=1"]
    assert (
        main([str(make_run("bert", "single-label")), f"--output={tmp_path / 'b'}", "--variants", *variants, *flags])
        == 0
    )
    classifier = runtime.load(tmp_path / "b", verify=True)
    assert set(classifier.manifest.variants) == set(variants)
    assert len(list((tmp_path / "b" / "onnx").iterdir())) == len(variants)


def test_the_int8_graph_uses_standard_operators_alone_and_int8_weights(make_bundle: Make) -> None:
    model = onnx.load(make_bundle("bert", "single-label") / "onnx" / "model_quantized.onnx")
    assert {opset.domain for opset in model.opset_import} == {""}
    assert {node.domain for node in model.graph.node} == {""}
    operators = [node.op_type for node in model.graph.node]
    # A layer has query, key and value in one, attention's output and two of the feed-forward; in the last, the query is a product of its own.
    assert operators.count("MatMulInteger") == 4 + 5
    assert operators.count("QuantizeLinear") == 2 * 4
    float_tables = [
        t.name
        for t in model.graph.initializer
        if t.data_type == onnx.TensorProto.FLOAT and len(t.dims) == 2 and t.dims[0] > 256 and t.dims[1] > 1
    ]
    assert float_tables == []


def test_the_graph_has_named_axes_and_optimums_names(make_bundle: Make) -> None:
    graph = onnx.load(make_bundle("bert", "token") / "onnx" / "model.onnx").graph
    axes = {
        value.name: [axis.dim_param for axis in value.type.tensor_type.shape.dim][:2]
        for value in [*graph.input, *graph.output]
    }
    assert axes == {name: ["batch", "sequence"] for name in ("input_ids", "attention_mask", "token_type_ids", "logits")}


def test_the_contract_goes_from_one_by_one_to_the_maximum_under_every_mask() -> None:
    shapes = contract_shapes(128)
    assert (1, 1, "none") in shapes
    assert (1, 128, "none") in shapes
    assert {shape.mask for shape in shapes if shape.sequence == 128} == {"none", "right", "left", "holes"}


def test_all_wrong_flags_are_told_together() -> None:
    with pytest.raises(
        InputError,
        match=r"(?s)--max-change must be above 0 and at most 1. Got 1.5 instead.*--max-length must be more than 2. Got 1",
    ):
        ExportConfig(max_change=1.5, max_length=1).validate()


def test_variants_that_other_engines_compute_pass_the_same_gate(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("runtime.engines.openvino.cpu_flags", lambda: frozenset({"avx512_bf16", "avx512_vnni"}))
    bundle, run = tmp_path / "bundle", make_run("bert", "single-label")
    names = ["fp32", "fp16", "bf16", "int8-weights"]
    flags = ["--max-change=1", "--max-metric-drop=1", "--no-reuse"]
    assert main([str(run), f"--output={bundle}", "--variants", *names, *flags]) == 0
    manifest = runtime.load(bundle, variant="fp32").manifest
    assert [manifest.variants[name].precision for name in names] == names
    assert all(variant.passed for variant in manifest.variants.values())
    assert manifest.variants["bf16"].file == manifest.variants["fp32"].file
    half, whole = (bundle / "onnx" / name for name in ("model_fp16.onnx", "model.onnx"))
    assert half.stat().st_size < 0.7 * whole.stat().st_size
    texts = ["my parcel never came", "refund me"]
    exact = runtime.load(bundle, variant="fp32", engine="ort-cpu").predict(texts)
    for ours, theirs in zip(runtime.load(bundle, variant="fp16", engine="ort-cpu").predict(texts), exact, strict=True):
        np.testing.assert_allclose(ours.logits, theirs.logits, atol=2e-2)
    capsys.readouterr()
    monkeypatch.setattr("runtime.engines.openvino.cpu_flags", frozenset)
    assert main([str(run), f"--output={tmp_path / 'b'}", "--variants", *names, *flags]) == 0
    said = capsys.readouterr().err
    assert "note: bf16 cannot be verified here: " in said
    assert "note: int8-weights cannot be verified here: " in said
    assert not runtime.load(tmp_path / "b", variant="fp32").manifest.variants["bf16"].passed
