"""What makes int8 lose nothing: observing, smoothing, rounding, restoring, and the gate that decides."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.calibrate import Moments, observe, round_columns
from export.config import ExportConfig
from export.encoder_graph import EXACT, row_wise, write_graph
from export.encoder_weights import EncoderWeights, read_weights
from export.gate import Rows, gate_reduced
from export.graph import DATA_SUFFIX, remove, save, size_of
from export.parity import RowFigures, expected_change
from export.products import products
from export.restore import restore
from export.row_wise import Scheme, Stored, round_to_nearest
from export.saturation import emulate
from export.sizes import size_by_layer
from export.smooth import smooth
from trainer.checkpoint import open_run

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
Make = Callable[[str, str], Path]


def moments_of(x: Any) -> Moments:
    return Moments(np.abs(x).max(axis=0), x.T @ x, x)


def weights_of(run: Path) -> EncoderWeights:
    weights = read_weights(open_run(run).load_model(), per_token=False, max_length=64)
    assert isinstance(weights, EncoderWeights)
    return weights


def feeds(seed: int, batch: int, sequence: int) -> dict[str, Any]:
    ids = np.random.default_rng(seed).integers(5, 400, (batch, sequence))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def run(model: onnx.ModelProto, values: dict[str, Any]) -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString(), disabled_optimizers=["SkipLayerNormFusion"])
    return session.run(None, {node.name: values[node.name] for node in session.get_inputs()})[0]


def observed(run_folder: Path, tmp_path: Path) -> tuple[EncoderWeights, dict[str, Moments]]:
    checkpoint, weights = open_run(run_folder), weights_of(run_folder)
    save(write_graph(weights, inputs=INPUTS, arithmetic=EXACT), tmp_path / "fp32.onnx")
    encoded = checkpoint.encoder().encode(["my parcel never came", "refund me please", "where is it now"])
    return weights, observe(tmp_path / "fp32.onnx", encoded, inputs=INPUTS, pad_token_id=0)


def test_what_is_observed_is_each_products_input(make_run: Make, tmp_path: Path) -> None:
    run_folder = make_run("bert", "single-label")
    weights, moments = observed(run_folder, tmp_path)
    model = write_graph(weights, inputs=INPUTS, arithmetic=EXACT)
    assert moments.keys() == {node.input[1] for node, _ in products(model.graph)}
    first = next(node.input[0] for node, _ in products(model.graph))
    model.graph.output.extend([onnx.helper.make_empty_tensor_value_info(first)])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    rows = []
    for text in ("my parcel never came", "refund me please", "where is it now"):
        ids = open_run(run_folder).encoder().encode([text]).batch.input_ids[None].astype(np.int64)
        values = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        rows.append(session.run([first], {name: values[name] for name in INPUTS})[0])
    x = np.concatenate(rows)
    found = moments["layer_0_query_key_value"]
    np.testing.assert_allclose(found.second, x.T @ x, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.largest, np.abs(x).max(axis=0), rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "electra", "mpnet", "xlm-roberta"])
def test_a_smoothed_encoder_computes_what_it_did(family: str, make_run: Make, tmp_path: Path) -> None:
    weights, moments = observed(make_run(family, "single-label"), tmp_path)
    smoothed, _ = smooth(weights, moments)
    assert smoothed.layers[0].attention_norm.residual is not None
    values = feeds(1, 3, 12)
    exact = run(write_graph(weights, inputs=INPUTS, arithmetic=EXACT), values)
    again = run(write_graph(smoothed, inputs=INPUTS, arithmetic=EXACT), values)
    np.testing.assert_allclose(again, exact, atol=1e-5)


def test_smoothing_evens_out_columns(make_run: Make, tmp_path: Path) -> None:
    weights, moments = observed(make_run("bert", "single-label"), tmp_path)
    norm = weights.embedding_norm
    spiked = norm._replace(weight=np.where(np.arange(len(norm.weight)) == 3, 40 * norm.weight, norm.weight))
    weights = replace(weights, embedding_norm=spiked)
    name = "layer_0_query_key_value"
    loud = moments[name]
    factor = np.where(np.arange(len(norm.weight)) == 3, np.float32(1 / 40), np.float32(1))
    moments[name] = loud.divided(factor)
    _, after = smooth(weights, moments)
    before = moments[name].largest
    assert after[name].largest.max() / np.median(after[name].largest) < before.max() / np.median(before) / 3


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(2, 150), width=st.integers(1, 20))
def test_rounding_with_care_beats_rounding_to_nearest_where_inputs_go_together(
    seed: int, rows: int, width: int
) -> None:
    generator = np.random.default_rng(seed)
    weight = generator.normal(size=(rows, width)).astype(np.float32)
    hidden = generator.normal(size=(400, max(1, rows // 4)))  # fewer causes than columns: they go together
    x = (hidden @ generator.normal(size=(hidden.shape[1], rows))).astype(np.float32)
    careful, nearest = round_columns(weight, moments_of(x)), round_to_nearest(weight)
    np.testing.assert_array_equal(careful.scale, nearest.scale)

    def error(stored: Stored) -> float:
        return float(np.square(x @ (stored.values * stored.scale - weight)).mean())

    assert error(careful) <= 1.05 * error(nearest)
    if rows >= 32:
        assert error(careful) < 0.7 * error(nearest)


def test_moments_that_rounding_made_uneven_can_be_rounded_by() -> None:
    """Summed in fp32, xᵀx is not quite symmetric; where columns say much the same, an inverse makes much of it."""
    generator = np.random.default_rng(0)
    scales = np.r_[15, np.ones(383)]
    x = (generator.normal(size=(2000, 20)) @ generator.normal(size=(20, 384)) * scales).astype(np.float32)
    noise = generator.normal(size=(384, 384)).astype(np.float32)
    moments = moments_of(x)
    uneven = moments._replace(second=moments.second + (noise - noise.T) * np.abs(moments.second).max() * 3e-8)
    weight = generator.normal(size=(384, 8)).astype(np.float32)
    even, found = (
        np.square(x @ (stored.values * stored.scale - weight)).mean()
        for stored in (round_columns(weight, moments), round_columns(weight, uneven))
    )
    assert found < 1.1 * even


def test_inputs_that_never_vary_do_not_stop_rounding() -> None:
    weight = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    stored = round_columns(weight, moments_of(np.zeros((4, 6), dtype=np.float32)))
    np.testing.assert_array_equal(stored.values, round_to_nearest(weight).values)


RESTORED = frozenset({"layer_0_down", "layer_1_query", "layer_1_up", "layer_1_output", "layer_0_query_key_value"})


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(2, 30), padding=st.integers(0, 20))
def test_weights_in_fp32_keep_answers_the_same_to_the_bit_in_any_batch(
    seed: int, length: int, padding: int, make_run: Make
) -> None:
    model = _mixed(make_run("bert", "single-label"))
    text = feeds(seed, 1, length)
    beside = feeds(seed + 1, 2, length + padding)
    wide = {name: np.concatenate([np.pad(text[name], ((0, 0), (0, padding))), beside[name]]) for name in text}
    np.testing.assert_array_equal(_run_cached(model, text)[0], _run_cached(model, wide)[0])


_SESSIONS: dict[str, Any] = {}


def _mixed(run_folder: Path) -> str:
    if "mixed" not in _SESSIONS:
        graph = write_graph(weights_of(run_folder), inputs=INPUTS, arithmetic=row_wise(Scheme(exact=RESTORED)))
        names = {tensor.name for tensor in graph.graph.initializer}
        assert names >= RESTORED
        assert not {f"{name}_int8" for name in RESTORED} & names
        _SESSIONS["mixed"] = onnxruntime.InferenceSession(
            graph.SerializeToString(), disabled_optimizers=["SkipLayerNormFusion"]
        )
    return "mixed"


def _run_cached(name: str, values: dict[str, Any]) -> Any:
    session = _SESSIONS[name]
    return session.run(None, {node.name: values[node.name] for node in session.get_inputs()})[0]


# The gate


def figures(**changes: Any) -> RowFigures:
    values: dict[str, Any] = {
        "metrics": {"accuracy": 0.9},
        "agreement": 1.0,
        "differing": 0,
        "decisions": 1000,
        "expected_change": 0.001,
        "metric_change": 0.0,
        "metric_interval": 0.001,
        "max_difference": 0.1,
        "mean_difference": 0.01,
        "quantiles": (0.01, 0.02, 0.05),
    }
    return RowFigures(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({}, None),
        ({"expected_change": 0.0049}, None),
        ({"expected_change": 0.0051}, "int8 is expected to change 0.51% of decisions; --max-change is 0.50%"),
        ({"expected_change": float("nan")}, "int8 is expected to change nan% of decisions"),
        ({"differing": 8}, None),  # of 1,000: may be chance
        ({"differing": 20}, "int8 changes 20 of 1000 decisions; --max-change is 0.50%"),
        ({"metric_change": -0.01, "metric_interval": 0.009}, None),
        (
            {"metric_change": -0.01, "metric_interval": 0.007},
            "int8 loses 0.0100 ± 0.0070 of accuracy on 2 rows; --max-metric-drop is 0.002",
        ),
        ({"metric_change": float("nan")}, "int8 loses nan"),
    ],
)
def test_what_is_over_the_limits_beyond_chance_is_refused(
    changes: dict[str, Any], problem: str | None, make_run: Make
) -> None:
    rows = Rows(open_run(make_run("bert", "single-label")), [None, None], None, [])  # type: ignore[list-item, arg-type]
    problems = gate_reduced("int8", figures(**changes), rows, ExportConfig())
    assert [text.startswith(str(problem)) for text in problems] == ([] if problem is None else [True])


def test_expected_change_is_what_equal_errors_would_do() -> None:
    margins = np.linspace(0, 10, 1001)
    errors = np.where(np.arange(1001) % 2, 1.0, -1.0)
    assert expected_change(margins, errors) == pytest.approx(
        0.05, abs=0.001
    )  # a tenth is within reach, half of it against
    assert expected_change(margins, np.zeros(1001)) == 0
    assert expected_change(np.array([]), np.array([])) == 0


def test_expected_change_counts_errors_of_like_margins_only() -> None:
    margins = np.concatenate([np.full(500, 0.01), np.full(500, 5.0)])
    sure_errs = np.concatenate([np.zeros(500), np.full(500, 1.0)])
    undecided_errs = sure_errs[::-1]
    assert expected_change(margins, sure_errs) < 0.02
    assert expected_change(margins, undecided_errs) > 0.23


@settings(max_examples=60, deadline=None)
@given(
    errors=st.dictionaries(st.text("abcdefgh", min_size=1, max_size=3), st.floats(0.001, 1), min_size=1, max_size=12),
    limit=st.floats(0.0005, 3),
)
def test_restoring_finds_the_shortest_list_that_fits(errors: dict[str, float], limit: float) -> None:
    """Errors of weights that add up as squares, as step 3 supposes, and sizes all alike."""
    state: dict[str, frozenset[str]] = {}

    def write(exact: frozenset[str]) -> dict[str, int]:
        state["exact"] = exact
        return {name: 100 for name in errors if name not in exact}

    def error() -> float:
        return sum(value**2 for name, value in errors.items() if name not in state["exact"]) ** 0.5

    def judge() -> tuple[RowFigures, tuple[str, ...]]:
        return figures(mean_difference=error()), () if error() <= limit else ("over",)

    said: list[str] = []
    found = restore(write, judge, error, say=said.append)
    by_error = sorted(errors, key=lambda name: -errors[name])
    shortest = next(
        count for count in range(len(errors) + 1) if sum(errors[name] ** 2 for name in by_error[count:]) ** 0.5 <= limit
    )
    assert len(found.chosen.exact) == shortest
    assert not found.chosen.problems
    assert state["exact"] == frozenset(found.chosen.exact), "what was written last is not what was chosen"
    assert bool(said) == (shortest > 0)


def test_restoring_everything_in_vain_is_told() -> None:
    found = restore(lambda exact: {"a": 1, "b": 1}, lambda: (figures(), ("over",)), lambda: 1.0, say=lambda line: None)
    assert found.chosen.problems == ("over",)


# Other CPUs, large files, sizes


def test_saturation_is_what_sixteen_bits_do_to_pairs() -> None:
    """By hand: 255 · 127 + 255 · 127 = 64,770 sticks at 32,767."""
    rows = np.array([[127.0, 127.0]], dtype=np.float32)
    loud = emulate(rows, Stored(np.array([[127], [127]], dtype=np.int8), np.ones(1, dtype=np.float32)))
    assert loud.share == 1
    assert loud.error == pytest.approx((64_770 - 32_767) / (127 * 127 * 2))
    still = emulate(rows, Stored(np.array([[60], [60]], dtype=np.int8), np.ones(1, dtype=np.float32)))
    assert still == (0, 0)


def test_a_model_beyond_protobufs_limit_gets_a_second_file_and_answers_alike(
    make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = weights_of(make_run("bert", "single-label"))
    save(write_graph(weights, inputs=INPUTS, arithmetic=EXACT), tmp_path / "one.onnx")
    monkeypatch.setattr("export.graph.MAX_FILE_BYTES", 10_000)
    for _ in range(2):  # the second time over the first
        save(write_graph(weights, inputs=INPUTS, arithmetic=EXACT), tmp_path / "two.onnx")
    assert (tmp_path / f"two.onnx{DATA_SUFFIX}").is_file()
    assert size_of(tmp_path / "two.onnx") == pytest.approx(size_of(tmp_path / "one.onnx"), rel=0.1)
    values = feeds(3, 2, 9)
    logits = [
        onnxruntime.InferenceSession(str(tmp_path / name)).run(None, values)[0] for name in ("one.onnx", "two.onnx")
    ]
    np.testing.assert_array_equal(*logits)
    remove(tmp_path / "two.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["one.onnx"]


def test_sizes_are_by_layer_and_add_up(make_run: Make, tmp_path: Path) -> None:
    weights = weights_of(make_run("bert", "single-label"))
    save(write_graph(weights, inputs=INPUTS, arithmetic=row_wise()), tmp_path / "int8.onnx")
    sizes = size_by_layer(tmp_path / "int8.onnx")
    assert {"layer 0", "layer 1", "words", "nodes"} <= sizes.keys()
    assert sum(sizes.values()) == size_of(tmp_path / "int8.onnx")
    assert sizes["layer 0"] >= sum(
        len(linear.weight.ravel()) for linear in (weights.layers[0].query, weights.layers[0].up, weights.layers[0].down)
    )
