"""What --quant-aware trains in is what an export writes: the same answers, within a quarter of what int8 changes of them at all."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

from export import speed
from export.__main__ import main
from export.encoder_graph import EXACT, row_wise, write_graph
from export.encoder_weights import EncoderWeights, read_weights
from export.graph import save
from export.quantize import quantize_row_wise
from export.reference import Reference
from export.row_wise import INT8, PLAIN, round_to_nearest
from export.trace import trace
from export.variants import FILES
from runtime.batching import pad
from runtime.encode import Encoded
from runtime.engines.exactness import exact_options
from runtime.tasks import TASKS
from trainer.checkpoint import Checkpoint, open_run

Make = Callable[[str, str], Path]
BOUND = 0.25  # of the mean difference between int8 and fp32
WRITTEN = [(family, shape) for family in ("bert", "roberta", "distilbert", "electra") for shape in ("token", "pair")]


def trained_in_int8(run: Path) -> Checkpoint:
    """Open a run as if its last epoch had been in int8."""
    checkpoint = open_run(run)
    return replace(checkpoint, config=replace(checkpoint.config, quant_aware=1))


def encode(checkpoint: Checkpoint) -> Encoded:
    records = checkpoint.evaluation_records(None)
    assert records is not None
    return checkpoint.encoder().encode([record.model_input for record in records[:40]])


def logits_of(file: Path, encoded: Encoded, reference: Reference) -> npt.NDArray[np.float32]:
    """Run a graph text by text."""
    session = onnxruntime.InferenceSession(str(file), exact_options(), disabled_optimizers=["SkipLayerNormFusion"])
    found = []
    for index in range(len(encoded.batch.lengths)):
        batch = encoded.batch.take(np.array([index]))
        feeds = pad(batch, inputs=reference.inputs, pad_token_id=reference.pad_token_id).feeds
        found.append(session.run(None, feeds)[0].ravel())
    return np.concatenate(found)


def compare(checkpoint: Checkpoint, exact: Path, quantized: Path) -> tuple[float, float]:
    """Give the mean differences of the graph in int8: from training's int8, and from fp32."""
    encoded, reference = encode(checkpoint), Reference.load(checkpoint)
    answers = checkpoint.int8_logits(encoded)
    assert answers is not None
    in_int8, in_fp32 = (logits_of(file, encoded, reference) for file in (quantized, exact))
    emulated = np.concatenate([logits.ravel() for logits in answers])
    return float(np.abs(in_int8 - emulated).mean()), float(np.abs(in_int8 - in_fp32).mean())


@pytest.mark.parametrize(("family", "shape"), WRITTEN)
def test_training_computes_what_a_written_graph_does(family: str, shape: str, make_run: Make, tmp_path: Path) -> None:
    checkpoint = trained_in_int8(make_run(family, shape))
    reference = Reference.load(checkpoint)
    per_token = TASKS[checkpoint.config.task].per_token
    weights = read_weights(reference.model, per_token=per_token, max_length=checkpoint.max_length)
    assert isinstance(weights, EncoderWeights)
    files = {}
    for name, arithmetic in (("exact", EXACT), ("int8", row_wise())):
        files[name] = tmp_path / f"{name}.onnx"
        save(write_graph(weights, inputs=reference.inputs, arithmetic=arithmetic), files[name])
    from_training, from_fp32 = compare(checkpoint, files["exact"], files["int8"])
    assert from_fp32 > 0
    assert from_training < BOUND * from_fp32


@pytest.mark.parametrize("shape", ["single-label", "token"])
def test_training_computes_what_a_rewritten_trace_does(shape: str, make_run: Make, tmp_path: Path) -> None:
    checkpoint = trained_in_int8(make_run("modernbert", shape))
    exact, quantized = tmp_path / "exact.onnx", tmp_path / "int8.onnx"
    trace(checkpoint, reference=Reference.load(checkpoint), exporter="torch", file=exact)
    quantize_row_wise(exact, quantized, PLAIN)
    from_training, from_fp32 = compare(checkpoint, exact, quantized)
    assert from_fp32 > 0
    assert from_training < BOUND * from_fp32


def test_a_run_that_was_not_trained_in_int8_has_no_answers_in_it(make_run: Make) -> None:
    checkpoint = open_run(make_run("bert", "single-label"))
    assert checkpoint.int8_logits(encode(checkpoint)) is None


@pytest.fixture(scope="module")
def run(make_encoder_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a run whose only epoch was in int8."""
    from trainer.__main__ import main as train

    folder = tmp_path_factory.mktemp("quant-aware") / "run"
    flags = ["--epochs=1", "--batch-size=128", "--precision=fp32", "--quant-aware=1"]
    assert train([f"--model={make_encoder_folder('bert')}", f"--output={folder}", *flags]) == 0
    return folder


@pytest.fixture
def export(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Give a function that exports it: variants beside fp32 → the lines of the report, by name; the bundle is `tmp_path / "bundle"`."""
    for name, value in (("MAX_TEXTS", 16), ("REPEATS", 1), ("LATENCY_TEXTS", 2)):
        monkeypatch.setattr(speed, name, value)

    def make(*variants: str) -> dict[str, Any]:
        bundle = tmp_path / "bundle"
        limits = ["--max-change=0.1", "--max-metric-drop=1"]
        assert main([str(run), f"--output={bundle}", "--variants", "fp32", *variants, "--no-reuse", *limits]) == 0
        return {line["name"]: line for line in json.loads((bundle / "report.json").read_text())["lines"]}

    return make


def is_rounded_to_nearest(bundle: Path, run: Path, variant: str = "int8") -> bool:
    weights = read_weights(open_run(run).load_model(), per_token=False, max_length=64)
    assert isinstance(weights, EncoderWeights)
    stored = {tensor.name: tensor for tensor in onnx.load(bundle / FILES[variant]).graph.initializer}
    values = onnx.numpy_helper.to_array(stored[f"layer_0_up{INT8}"])
    return np.array_equal(values, round_to_nearest(weights.layers[0].up.weight).values)


def test_its_weights_are_rounded_as_in_training_and_its_answers_held_to_those_in_int8(
    run: Path, export: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    lines = export("int8")
    assert list(lines) == ["pytorch", "pytorch int8", "fp32", "int8"]
    from_fp32, from_int8 = lines["pytorch int8"]["rows"], lines["int8"]["rows"]
    assert from_int8["mean_difference"] < BOUND * from_fp32["mean_difference"]
    assert is_rounded_to_nearest(tmp_path / "bundle", run)


def test_where_that_does_not_pass_int8_is_made_as_of_any_other_run(
    run: Path,
    export: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As when an engine computes attention otherwise than training did."""
    answers = Checkpoint.int8_logits
    monkeypatch.setattr(
        Checkpoint, "int8_logits", lambda self, encoded: [row[::-1] for row in answers(self, encoded) or []]
    )
    lines = export("int8")
    assert "made anew as if it had not been trained in int8" in capsys.readouterr().err
    assert lines["int8"]["rows"]["mean_difference"] < lines["pytorch int8"]["rows"]["mean_difference"]
    assert not is_rounded_to_nearest(tmp_path / "bundle", run)


def test_int8_of_another_arithmetic_is_made_as_of_any_other_run(
    run: Path, export: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    export("int8-weights")
    assert not is_rounded_to_nearest(tmp_path / "bundle", run, "int8-weights")
