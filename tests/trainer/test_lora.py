"""Adapters: what is trained beside them, that packed and padded passes agree on them, and that what is kept is what was trained."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from runtime.encode import Batch
from trainer import packed
from trainer.arithmetic import EXACT
from trainer.errors import ModelError, RunError
from trainer.layers import depths, reinitialise
from trainer.lora import Adapted, add_adapters
from trainer.model import graph_inputs
from trainer.network import choose_network, difference, try_out
from trainer.optim import make_adamw
from trainer.packed import Packed
from trainer.padded import Padded
from trainer.used_rows import train_used_rows

PACKED = ("bert", "roberta", "xlm-roberta", "distilbert", "electra", "modernbert")
PADDED = ("mpnet", "deberta-v2", "gpt2")
PRODUCTS = {"bert": 6, "roberta": 6, "xlm-roberta": 6, "distilbert": 6, "electra": 6, "mpnet": 6, "deberta-v2": 6, "modernbert": 4, "gpt2": 4}  # of a layer  # fmt: skip
HEADS = {"AutoModelForSequenceClassification": False, "AutoModelForTokenClassification": True}
LENGTHS = (31, 17, 17, 17, 9, 9, 4, 3, 2)

Load = Callable[..., Any]


@pytest.fixture
def load(make_encoder_folder: Callable[[str], Path]) -> Load:
    """Give a function: (family, class of its head) → a model."""

    def run(family: str, head: str = "AutoModelForSequenceClassification") -> Any:
        torch.manual_seed(1)
        return getattr(transformers, head).from_pretrained(
            make_encoder_folder(family), num_labels=5, dtype=torch.float32, pad_token_id=1
        )

    return run


def adapt(model: Any, **settings: Any) -> Adapted:
    return add_adapters(model, **{"rank": 4, "alpha": 8, "num_new": 0, **settings})


def inputs_of(model: Any, folder: Path) -> tuple[str, ...]:
    return graph_inputs(model, transformers.AutoTokenizer.from_pretrained(folder))


def draw_texts(model: Any) -> Batch:
    ids = np.random.default_rng(0).integers(5, model.config.vocab_size, sum(LENGTHS))
    return Batch(ids, np.zeros_like(ids), np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int32))


def trained(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def learn(model: Any, *, steps: int = 3) -> None:
    """Take a few steps towards nothing in particular, so that no adapter's product is 0."""
    optimizer = make_adamw(model, weight_decay=0.01)
    for group in optimizer.param_groups:
        group["lr"] = 0.05
    ids = torch.arange(5, 25)[None]
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=ids).logits.square().sum().backward()
        optimizer.step()


# what is trained


@pytest.mark.parametrize("family", [*PACKED, *PADDED])
def test_every_product_of_the_layers_has_an_adapter_and_the_head_is_trained_whole(family: str, load: Load) -> None:
    model = load(family)
    depth, top = depths(model), max(depths(model).values())
    adapt(model)
    names = trained(model)
    assert len([name for name in names if ".lora_A." in name]) == 2 * PRODUCTS[family]
    assert {name for name in names if "lora_" not in name} == {name for name in depth if depth[name] == top}


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert"])
def test_layers_that_start_anew_are_trained_whole_and_have_no_adapters(family: str, load: Load) -> None:
    model = load(family)
    reinitialise(model, 1)
    whole = {name for name, depth in depths(model).items() if depth >= 2}
    adapt(model, num_new=1)
    names = trained(model)
    assert {name for name in names if "lora_" not in name} == whole
    assert len([name for name in names if ".lora_A." in name]) == PRODUCTS[family]


def test_an_adapter_is_trained_at_its_layers_rate_and_decays(load: Load) -> None:
    model = load("bert")
    adapt(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    scales = {
        names[id(parameter)]: (group["lr_scale"], group["weight_decay"])
        for group in make_adamw(model, weight_decay=0.01, layer_decay=0.5).param_groups
        for parameter in group["params"]
    }
    assert scales["bert.encoder.layer.1.attention.self.query.lora_A.default.weight"] == (0.5, 0.01)
    assert scales["bert.encoder.layer.0.output.dense.lora_B.default.weight"] == (0.25, 0.01)
    assert scales["classifier.bias"] == (1.0, 0.0)
    assert scales.keys() == trained(model)


def test_word_vectors_stay_as_pretrained(load: Load) -> None:
    model = load("bert")
    adapt(model)
    train_used_rows(model, np.arange(10))
    assert isinstance(model.get_input_embeddings(), torch.nn.Embedding)
    assert not model.get_input_embeddings().weight.requires_grad


def test_a_rank_that_is_wider_than_a_product_is_refused(load: Load) -> None:
    with pytest.raises(
        ModelError, match=r"--lora-rank must be at most 32, the width of this model's products\. Got 33"
    ):
        adapt(load("bert"), rank=33)


def test_a_model_without_old_layers_is_refused(load: Load) -> None:
    with pytest.raises(ModelError, match=r"this bert has none below those of --reinit-layers\. Leave it out"):
        adapt(load("bert"), num_new=2)


# the packed pass


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", PACKED)
def test_loss_and_gradients_are_those_of_the_padded_model(
    family: str,
    head: str,
    load: Load,
    make_encoder_folder: Callable[[str], Path],
    loss_and_gradients: Callable[..., Any],
) -> None:
    model = load(family, head)
    adapted = adapt(model)
    model.eval()  # no dropout
    texts, inputs = draw_texts(model), inputs_of(model, make_encoder_folder(family))
    padded = Padded(model, inputs=inputs, pad_token_id=1)
    packed = Packed(model, per_token=HEADS[head], inputs=inputs)
    with adapted.on_trial(), torch.enable_grad():
        expected, reference = loss_and_gradients(padded, texts, per_token=HEADS[head])
        loss, gradients = loss_and_gradients(packed, texts, per_token=HEADS[head])
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    assert gradients.keys() == reference.keys() >= {name for name in trained(model) if "lora_" in name}
    for name, gradient in reference.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=2e-6 * float(expected), msg=name)


@pytest.mark.parametrize("family", PACKED)
def test_a_model_with_adapters_is_packed(family: str, load: Load, make_encoder_folder: Callable[[str], Path]) -> None:
    model = load(family)
    adapted, texts = adapt(model), draw_texts(model)
    with adapted.on_trial():
        choice = choose_network(
            model, per_token=False, inputs=inputs_of(model, make_encoder_folder(family)), pad_token_id=1, texts=texts
        )
        adapted.check(choice.network, texts)
    assert choice.description == "texts are packed: no padding is computed"


def test_under_autocast_no_row_is_copied_to_fp32_for_an_adapter(
    load: Load, make_encoder_folder: Callable[[str], Path]
) -> None:
    """Of the attention's output and the activation, which are bf16 then."""
    model = load("bert")
    adapt(model)
    packed = Packed(model, per_token=False, inputs=inputs_of(model, make_encoder_folder("bert")))
    seen: dict[str, torch.dtype] = {}
    for name, module in model.named_modules():
        if name.endswith(("attention.output.dense.lora_A.default", "0.output.dense.lora_A.default")):
            module.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0].dtype}))
    with torch.autocast("cpu", torch.bfloat16):
        packed(packed.feed(draw_texts(model)))
    assert len(seen) == 3
    assert set(seen.values()) == {torch.bfloat16}


def test_a_packed_pass_that_leaves_adapters_out_is_not_trusted(
    load: Load, make_encoder_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    around = EXACT._replace(
        multiply=lambda x, *linears, **_: torch.cat(
            [getattr(linear, "base_layer", linear)(x) for linear in linears], dim=1
        )
    )
    monkeypatch.setattr(packed, "EXACT", around)
    model = load("bert")
    adapted, texts = adapt(model), draw_texts(model)
    given = {"per_token": False, "inputs": inputs_of(model, make_encoder_folder("bert")), "pad_token_id": 1}
    assert isinstance(choose_network(model, texts=texts, **given).network, Packed), "before training they are 0"
    with adapted.on_trial():
        assert isinstance(choose_network(model, texts=texts, **given).network, Padded)


# what is kept


@pytest.mark.parametrize("family", [*PACKED, *PADDED])
def test_the_weights_that_are_kept_give_the_logits_in_training_without_peft(
    family: str, load: Load, tmp_path: Path
) -> None:
    model = load(family)
    names = list(load(family).state_dict())
    adapted, before = adapt(model), load(family)
    learn(model)
    model.eval()
    with torch.no_grad():
        expected = model(input_ids=torch.arange(5, 25)[None]).logits
        adapted.save_pretrained(tmp_path)
        shipped = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
        found = shipped(input_ids=torch.arange(5, 25)[None]).logits
        unadapted = before.eval()(input_ids=torch.arange(5, 25)[None]).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert float((found - unadapted).abs().max()) > 0.1, "it learnt something"
    assert list(shipped.state_dict()) == names
    assert not (tmp_path / "adapter_config.json").exists()


def test_keeping_changes_no_bit_of_what_is_trained(load: Load, tmp_path: Path) -> None:
    model = load("bert")
    adapted = adapt(model)
    learn(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapted.save_pretrained(tmp_path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_loaded_again_it_computes_with_the_kept_weights_alone(family: str, load: Load, tmp_path: Path) -> None:
    model = load(family)
    adapted, ids = adapt(model), torch.arange(5, 25)[None]
    learn(model)
    adapted.save_pretrained(tmp_path)
    learn(model)  # goes on
    adapted.load_pretrained(tmp_path)
    shipped = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    for name, tensor in shipped.state_dict().items():
        own = f"{name.rpartition('.')[0]}.base_layer.{name.rpartition('.')[2]}"
        assert torch.equal(model.state_dict().get(own, model.state_dict().get(name)), tensor), name
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(input_ids=ids).logits, shipped.eval()(input_ids=ids).logits)


def test_a_state_holds_what_is_trained_and_brings_it_back(load: Load) -> None:
    model, twin = load("bert"), load("bert")
    adapted = adapt(model)
    learn(model)
    state = adapted.state_dict()
    assert state.keys() - {"frozen"} == trained(model)
    adapt(twin).load_state_dict(state)
    for (name, one), two in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, two), name


def test_a_state_beside_other_pretrained_weights_is_refused(load: Load) -> None:
    model, other = load("bert"), load("bert")
    with torch.no_grad():
        other.bert.encoder.layer[0].output.dense.weight[0, 0] += 1e-6
    with pytest.raises(RunError, match="the weights of --model are not those that the adapters were trained beside"):
        adapt(other).load_state_dict(adapt(model).state_dict())


def test_a_model_that_reads_weights_around_their_adapters_is_refused(
    load: Load, make_encoder_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load("bert")
    adapted, texts = adapt(model), draw_texts(model)
    network = Padded(model, inputs=inputs_of(model, make_encoder_folder("bert")), pad_token_id=1)
    dense = model.bert.encoder.layer[0].output.dense
    with adapted.on_trial():
        adapted.check(network, texts)
        monkeypatch.setattr(dense, "forward", lambda x: torch.nn.functional.linear(x, dense.weight, dense.bias))
        with pytest.raises(
            ModelError, match="--lora-rank is not for this bert: it reads weights around their adapters"
        ):
            adapted.check(network, texts)


def test_a_trial_leaves_nothing_behind(load: Load, make_encoder_folder: Callable[[str], Path]) -> None:
    model = load("bert")
    adapted, texts = adapt(model), draw_texts(model)
    network = Padded(model, inputs=inputs_of(model, make_encoder_folder("bert")), pad_token_id=1)
    before, logits = {n: t.clone() for n, t in model.state_dict().items()}, try_out(network, texts)
    seed = torch.get_rng_state()
    with adapted.on_trial():
        assert difference(try_out(network, texts), logits) > 0.01
        adapted.check(network, texts)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert np.array_equal(try_out(network, texts), logits)
    assert torch.equal(torch.get_rng_state(), seed)
    assert "bert.encoder.layer.0.output.dense.lora_A.default.weight" in trained(model)
