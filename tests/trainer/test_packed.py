"""Packed training gives the loss and the gradients of transformers' own padded forward pass, dropout off."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from runtime.encode import Batch
from trainer.batch_shapes import BatchShape
from trainer.model import graph_inputs
from trainer.network import choose_network
from trainer.noise import Noise
from trainer.packed import PACKED, Packed
from trainer.padded import Padded

FAMILIES = ("bert", "roberta", "distilbert", "electra", "xlm-roberta", "modernbert")
HEADS = {"AutoModelForSequenceClassification": False, "AutoModelForTokenClassification": True}
LENGTHS = (31, 17, 17, 17, 9, 9, 4, 3, 2)


def texts_for(model: Any, *, types: bool) -> Batch:
    """Draw packed texts, a padding token in the middle of one of them: a text may spell it."""
    generator = np.random.default_rng(0)
    ids = generator.integers(5, model.config.vocab_size, sum(LENGTHS))
    ids[[7, 40]] = model.config.pad_token_id
    second = generator.integers(0, 2, len(ids)) if types else np.zeros_like(ids)
    return Batch(ids, second, np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int32))


@pytest.fixture
def load(make_encoder_folder: Callable[[str], Path]) -> Callable[..., tuple[Any, tuple[str, ...]]]:
    """Give a function: (family, class of its head, settings) → a model and the names of its inputs."""

    def run(family: str, head: str, **settings: Any) -> tuple[Any, tuple[str, ...]]:
        folder = make_encoder_folder(family)
        torch.manual_seed(1)
        model = getattr(transformers, head).from_pretrained(folder, num_labels=5, dtype=torch.float32, **settings)
        return model, graph_inputs(model, transformers.AutoTokenizer.from_pretrained(folder))

    return run


@pytest.fixture(params=["as on a CPU", "as on a GPU"])
def device_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let attention go by blocks of one length, and in a rectangle."""
    if request.param == "as on a GPU":
        monkeypatch.setattr("trainer.packed.BY_BLOCKS", ())


@pytest.mark.usefixtures("device_kind")
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_the_padded_model(
    family: str, head: str, load: Callable[..., Any], loss_and_gradients: Callable[..., Any]
) -> None:
    model, inputs = load(family, head)
    model.eval()  # no dropout
    texts = texts_for(model, types="token_type_ids" in inputs)
    padded = Padded(model, inputs=inputs, pad_token_id=model.config.pad_token_id)
    packed = Packed(model, per_token=HEADS[head], inputs=inputs)
    expected, reference = loss_and_gradients(padded, texts, per_token=HEADS[head])
    loss, gradients = loss_and_gradients(packed, texts, per_token=HEADS[head])
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    assert gradients.keys() == reference.keys()
    for name, gradient in reference.items():
        if not name.endswith(("key.bias", "k_lin.bias")):  # softmax does not see them: their gradient is rounding
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=2e-6 * float(expected), msg=name)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_that_is_padded_to_a_shape_gives_the_same(
    family: str,
    head: str,
    load: Callable[..., Any],
    loss_and_gradients: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As for CUDA graphs; tokens behind the last text are nobody's."""
    monkeypatch.setattr("trainer.packed.BY_BLOCKS", ())
    model, inputs = load(family, head)
    model.eval()
    texts = texts_for(model, types="token_type_ids" in inputs)
    packed = Packed(model, per_token=HEADS[head], inputs=inputs)
    expected, reference = loss_and_gradients(packed, texts, per_token=HEADS[head])
    shape = BatchShape(len(LENGTHS), sum(LENGTHS) + 5, max(LENGTHS) + 3)
    loss, gradients = loss_and_gradients(packed, texts, per_token=HEADS[head], shape=shape)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    assert gradients.keys() == reference.keys()
    for name, gradient in reference.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=2e-6 * float(expected), msg=name)


@pytest.mark.usefixtures("device_kind")
def test_modernbert_that_averages_its_tokens(load: Callable[..., Any], loss_and_gradients: Callable[..., Any]) -> None:
    model, inputs = load("modernbert", "AutoModelForSequenceClassification", classifier_pooling="mean")
    model.eval()
    texts = texts_for(model, types=False)
    networks = (
        Padded(model, inputs=inputs, pad_token_id=model.config.pad_token_id),
        Packed(model, per_token=False, inputs=inputs),
    )
    (one, reference), (two, gradients) = (loss_and_gradients(network, texts, per_token=False) for network in networks)
    torch.testing.assert_close(two, one, rtol=1e-6, atol=1e-6)
    for name, gradient in reference.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.usefixtures("device_kind")
@pytest.mark.parametrize("family", FAMILIES)
def test_training_drops_what_the_noise_says_and_evaluation_nothing(family: str, load: Callable[..., Any]) -> None:
    settings = {"classifier_dropout": 0.2, "attention_dropout": 0.2} if family == "modernbert" else {}
    model, inputs = load(family, "AutoModelForSequenceClassification", **settings)
    packed = Packed(model, per_token=False, inputs=inputs)
    feed = packed.feed(texts_for(model, types=False))
    plain = packed.eval()(feed, noise=Noise(1))
    packed.train()
    first, again, other = (packed(feed, noise=Noise(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, plain)
    torch.testing.assert_close(packed(feed), plain)  # without noise there is none


@pytest.mark.usefixtures("device_kind")
def test_dropout_is_where_transformers_has_it(load: Callable[..., Any]) -> None:
    """On average over many draws both passes give the same logits, with the same spread."""
    model, inputs = load("bert", "AutoModelForSequenceClassification")
    texts = texts_for(model, types=True)
    networks = (
        Packed(model, per_token=False, inputs=inputs).train(),
        Padded(model, inputs=inputs, pad_token_id=model.config.pad_token_id).train(),
    )
    with torch.no_grad():
        draws = [
            torch.stack([network(network.feed(texts), noise=Noise(seed)) for seed in range(400)])
            for network in networks
        ]
    spread = draws[1].std(dim=0)
    assert float(((draws[0].mean(dim=0) - draws[1].mean(dim=0)) / spread).abs().max()) < 5 * (2 / 400) ** 0.5
    torch.testing.assert_close(draws[0].std(dim=0), spread, rtol=0.25, atol=0)


# choosing


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_that_can_be_packed_is_and_the_line_says_so(family: str, load: Callable[..., Any]) -> None:
    model, inputs = load(family, "AutoModelForTokenClassification")
    choice = choose_network(
        model,
        per_token=True,
        inputs=inputs,
        pad_token_id=model.config.pad_token_id,
        texts=texts_for(model, types=False),
    )
    assert isinstance(choice.network, Packed)
    assert choice.description == "texts are packed: no padding is computed"


def test_where_attention_pads_the_line_says_so(load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.packed.BY_BLOCKS", ())
    model, inputs = load("bert", "AutoModelForTokenClassification")
    packed = Packed(model, per_token=True, inputs=inputs)
    assert packed.description == "texts are packed: padding is computed in attention alone"


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("mpnet", "its attention has a relative bias"),
        ("deberta-v2", "deberta-v2 is not among bert, roberta, .*modernbert"),
        ("gpt2", "gpt2 is not among bert"),
    ],
)
def test_any_other_is_padded_and_the_line_says_why(family: str, reason: str, load: Callable[..., Any]) -> None:
    model, inputs = load(family, "AutoModelForSequenceClassification", pad_token_id=1)
    choice = choose_network(model, per_token=False, inputs=inputs, pad_token_id=1, texts=texts_for(model, types=False))
    assert isinstance(choice.network, Padded)
    assert re.search(rf"padded to their batch's longest: no packed pass for this model \({reason}", choice.description)


def test_a_pass_that_gives_other_answers_is_not_trusted(
    load: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a version of transformers that computes something else."""
    model, inputs = load("bert", "AutoModelForSequenceClassification")
    walk = PACKED["bert"]

    def make(model: Any, *, per_token: bool) -> Any:
        made = walk.make(model, per_token=per_token)
        made.num_heads //= 2
        return made

    monkeypatch.setitem(PACKED, "bert", walk._replace(make=make))
    choice = choose_network(model, per_token=False, inputs=inputs, pad_token_id=0, texts=texts_for(model, types=True))
    assert isinstance(choice.network, Padded)
    assert "this version of transformers computes something else: logits differ by" in choice.description
