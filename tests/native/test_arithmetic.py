"""What portabert-native computes: what the ONNX graph of the same weights says, the same bits on every instruction set, alone and in any batch."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.encoder_graph import EXACT, row_wise, write_graph
from export.encoder_weights import EncoderWeights
from export.native_weights import FORMS
from export.row_wise import PLAIN, Scheme
from runtime.batching import pad
from runtime.encode import Batch
from runtime.engines.exactness import exact_options

from . import reference
from .conftest import INPUTS, MAX_LENGTH, all_exact, native, open_model, random_batch, random_weights, run, write

ACCELERATED = [name for name in native.instruction_sets() if name != "scalar"]

KINDS: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"padding_idx": 1, "types": False},
    "distilbert": {"types": False, "head": "relu", "activation": "relu"},
    "electra": {"embedding": 24, "head": "gelu"},
    "mpnet": {"relative": True, "padding_idx": 1, "types": False},
    "bert by tanh": {"activation": "gelu_new"},
    "tagger": {"per_token": True, "head": None},
    "ragged": {"heads": 3, "head_size": 20, "hidden": 44, "intermediate": 70, "labels": 17},
}


def sizes() -> st.SearchStrategy[dict[str, Any]]:
    """Encoders of any kind, with widths that are multiples of nothing."""
    return st.fixed_dictionaries(
        {
            "seed": st.integers(0, 2**32 - 1),
            "layers": st.integers(1, 3),
            "heads": st.integers(1, 4),
            "head_size": st.integers(1, 70),
            "hidden": st.integers(1, 90),
            "embedding": st.none() | st.integers(1, 40),
            "intermediate": st.integers(1, 150),
            "activation": st.sampled_from(["gelu", "gelu_new", "relu"]),
            "per_token": st.booleans(),
            "relative": st.booleans(),
            "padding_idx": st.sampled_from([None, 1]),
            "types": st.booleans(),
            "labels": st.integers(1, 40),
            "head": st.sampled_from([None, "tanh", "gelu", "relu"]),
        }
    )


lengths = st.lists(st.integers(1, MAX_LENGTH), min_size=1, max_size=9)


def ask_onnx(weights: EncoderWeights, batch: Batch, scheme: Scheme | None) -> Any:
    """Compute a batch by the ONNX graph of the same weights: exact, or row-wise int8."""
    graph = write_graph(weights, inputs=INPUTS, arithmetic=EXACT if scheme is None else row_wise(scheme))
    session = onnxruntime.InferenceSession(graph.SerializeToString(), exact_options())
    padded = pad(batch, inputs=[node.name for node in session.get_inputs()], pad_token_id=weights.padding_idx or 0)
    (logits,) = session.run(None, padded.feeds)
    return logits[padded.mask] if weights.per_token else logits


@pytest.mark.parametrize("kind", KINDS)
def test_exact_weights_give_what_the_exact_graph_gives(kind: str, tmp_path: Path) -> None:
    """Wiring, attention, norms and heads, apart from the rounding of weights. Attention's to bf16 gives some 3e-3, and GELU, within 2e-4 of its own, as much in two layers."""
    weights = random_weights(**KINDS[kind])
    model = open_model(write(tmp_path / "f", weights, scheme=all_exact(weights)))
    batch = random_batch(1, [1, 7, 16, 17, 33, MAX_LENGTH])
    limit = 4e-3 if weights.activation == "relu" else 8e-3
    np.testing.assert_allclose(run(model, batch), ask_onnx(weights, batch, None), atol=limit, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_int8_is_the_arithmetic_of_the_int8_graph(kind: str, tmp_path: Path) -> None:
    """Both round alike but in attention, and where a number lies between two steps, so they agree better than either does with fp32."""
    weights = random_weights(**KINDS[kind])
    model = open_model(write(tmp_path / "f", weights))
    batch = random_batch(2, [5] * 20 + [23, MAX_LENGTH])
    exact, graph, ours = (
        ask_onnx(weights, batch, None),
        ask_onnx(weights, batch, PLAIN),
        run(model, batch),
    )
    rounding = np.abs(graph - exact).mean()
    assert np.abs(ours - graph).mean() < 0.9 * rounding
    assert np.abs(ours - exact).mean() < 1.25 * rounding


@pytest.mark.parametrize("form", reference.FORMS)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_rounded_but_what_the_documentation_says(kind: str, form: str, tmp_path: Path) -> None:
    """To a few units of fp32, but where a number that lies between two steps falls on the other side. GELU, a polynomial, has the tests above."""
    weights = random_weights(**{**KINDS[kind], "activation": "relu", "head": "tanh"})
    scheme = all_exact(weights) if form == "exact" else PLAIN
    model = open_model(write(tmp_path / "f", weights, scheme=scheme, form="int8" if form == "exact" else form))
    batch = random_batch(1, [1, 5, 7, 16, 17, 23, 33, MAX_LENGTH])
    errors = np.abs(run(model, batch) - reference.logits_of(weights, batch, form))
    assert np.median(errors) < 2e-6
    assert errors.max() < 2e-3


@pytest.mark.parametrize("kind", KINDS)
def test_bf16_is_far_closer_to_fp32_than_int8(kind: str, tmp_path: Path) -> None:
    weights, batch = random_weights(**KINDS[kind]), random_batch(2, [5] * 20 + [23, MAX_LENGTH])
    exact = ask_onnx(weights, batch, None)
    errors = {
        form: np.abs(run(open_model(write(tmp_path / form, weights, form=form)), batch) - exact).mean()
        for form in FORMS
    }
    assert errors["bf16"] < 0.6 * errors["int8"]


@pytest.mark.parametrize("instruction_set", ACCELERATED)
@settings(max_examples=60, deadline=None)
@given(sizes=sizes(), lengths=lengths, exact=st.sampled_from([0.0, 0.4, 1.0]), form=st.sampled_from(sorted(FORMS)))
def test_every_instruction_set_gives_the_bits_of_its_reference(
    instruction_set: str, sizes: dict[str, Any], lengths: list[int], exact: float, form: str
) -> None:
    """`exact` is the share of weights that stay in fp32. AMX adds products of bf16 in an order of its own."""
    reference = "amx-emulated" if form == "bf16" and instruction_set.startswith("amx") else "scalar"
    weights, batch = random_weights(**sizes), random_batch(sizes["seed"], lengths)
    names, generator = sorted(all_exact(weights).exact), np.random.default_rng(sizes["seed"])
    scheme = Scheme(frozenset(name for name in names if generator.random() < exact))
    with TemporaryDirectory() as folder:
        file = write(Path(folder, "f"), weights, scheme=scheme, form=form)
        expected = run(open_model(file, instruction_set=reference), batch)
        actual = run(open_model(file, instruction_set=instruction_set), batch)
    np.testing.assert_array_equal(actual, expected)


@settings(max_examples=60, deadline=None)
@given(
    sizes=sizes(),
    lengths=lengths,
    threads=st.integers(1, 3),
    together=st.booleans(),
    form=st.sampled_from(sorted(FORMS)),
)
def test_a_text_has_the_same_bits_alone_and_in_any_batch(
    sizes: dict[str, Any], lengths: list[int], threads: int, together: bool, form: str
) -> None:
    weights, batch = random_weights(**sizes), random_batch(sizes["seed"], lengths)
    with TemporaryDirectory() as folder:
        file = write(Path(folder, "f"), weights, form=form)
        logits = run(open_model(file, threads=threads), batch, together=together)
        alone = open_model(file)
        for index in range(len(lengths)):
            part = slice(*batch.cu_seqlens[index : index + 2]) if weights.per_token else slice(index, index + 1)
            np.testing.assert_array_equal(run(alone, batch.take(np.array([index]))), logits[part])


def test_many_texts_are_cut_into_chunks_that_do_not_show(tmp_path: Path) -> None:
    """10,000 texts in batches of random sizes, which no chunk of tokens fits."""
    generator = np.random.default_rng(0)
    model = open_model(write(tmp_path / "f", random_weights()), threads=2)
    batch = random_batch(3, generator.integers(1, MAX_LENGTH + 1, 10_000).tolist())
    expected, order = run(model, batch), generator.permutation(10_000)
    start = 0
    while start < len(order):
        chosen = order[start : start + int(generator.integers(1, 400))]
        np.testing.assert_array_equal(run(model, batch.take(chosen)), expected[chosen])
        start += len(chosen)
