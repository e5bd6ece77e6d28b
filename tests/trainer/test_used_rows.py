"""A table of word vectors with the used rows trained alone: it answers, learns, saves and loads as the whole table would."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from trainer.optim import make_adamw, set_learning_rate
from trainer.used_rows import UsedRows, train_used_rows

IDS = np.array([7, 2, 2, 9, 0])


@pytest.fixture
def table() -> torch.nn.Embedding:
    torch.manual_seed(0)
    return torch.nn.Embedding(12, 3, padding_idx=0)


def test_it_answers_as_the_table_for_used_and_other_rows(table: torch.nn.Embedding) -> None:
    used = UsedRows(table, IDS).eval()
    ids = torch.tensor([[7, 3], [11, 2]])
    assert torch.equal(used(ids), table(ids))
    assert used.used.shape == (4, 3), "each used row once"


@pytest.mark.parametrize("ids", [[7, 2, 9], [0, 2, 2, 0]])
def test_the_used_rows_learn_as_in_the_whole_table_and_the_others_stay(
    ids: list[int], table: torch.nn.Embedding
) -> None:
    """Padding gets no gradient in either; decay is off, for it alone would move the other rows."""
    before = table.weight.detach().clone()
    used = UsedRows(table, IDS).train()
    for module in (table, used):
        optimizer = make_adamw(module, weight_decay=0.0)
        set_learning_rate(optimizer, 0.1)
        for _ in range(3):
            optimizer.zero_grad()
            (module(torch.tensor(ids)) ** 2).sum().backward()
            optimizer.step()
    torch.testing.assert_close(used.weight, table.weight.detach())
    moved = (used.weight != before).any(dim=1).nonzero().flatten().tolist()
    assert moved == sorted(set(ids) - {0})


def test_a_row_that_no_training_text_uses_cannot_be_trained(table: torch.nn.Embedding) -> None:
    with pytest.raises(IndexError):
        UsedRows(table, IDS).train()(torch.tensor([3]))


def test_a_models_state_is_that_of_the_whole_table_and_loads_into_both(
    make_encoder_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    def load(folder: Path) -> Any:
        return transformers.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)

    folder = make_encoder_folder("bert")
    plain, model = load(folder), load(folder)
    train_used_rows(model, IDS)
    assert list(model.state_dict()) == list(plain.state_dict())
    with torch.no_grad():
        model.get_input_embeddings().used.add_(1.0)
    model.save_pretrained(tmp_path / "saved")
    saved = load(tmp_path / "saved").state_dict()["bert.embeddings.word_embeddings.weight"]
    expected = plain.state_dict()["bert.embeddings.word_embeddings.weight"].clone()
    expected[np.unique(IDS)] += 1.0
    torch.testing.assert_close(saved, expected)

    twin = load(folder)
    train_used_rows(twin, IDS)
    twin.load_state_dict(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(twin.state_dict()[name], tensor), name


def test_a_table_that_is_tied_to_an_output_is_left_alone(make_encoder_folder: Callable[[str], Path]) -> None:
    model = transformers.AutoModelForMaskedLM.from_pretrained(make_encoder_folder("bert"))
    train_used_rows(model, IDS)
    assert isinstance(model.get_input_embeddings(), torch.nn.Embedding)
