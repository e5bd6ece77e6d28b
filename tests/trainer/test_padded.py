"""Rectangles: what a model is fed and what its logits are compared with, padded or packed."""

import numpy as np
import pytest
import torch

from runtime.encode import Batch
from trainer.losses import IGNORED, Target
from trainer.packed import Packed
from trainer.padded import Padded

PAD = 9
ALL = ("input_ids", "attention_mask", "token_type_ids")
TEXTS = Batch(np.array([7, 8, 9, 1, 2]), np.array([0, 1, 1, 0, 0]), np.array([0, 3, 5], dtype=np.int32))


def padded(inputs: tuple[str, ...] = ALL) -> Padded:
    return Padded(torch.nn.Linear(1, 1), inputs=inputs, pad_token_id=PAD)


def test_inputs_are_padded_on_the_right_to_the_longest_of_the_batch() -> None:
    feeds = padded().feed(TEXTS)
    assert list(feeds) == list(ALL)
    assert feeds["input_ids"].tolist() == [[7, 8, 9], [1, 2, PAD]]
    assert feeds["attention_mask"].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert feeds["token_type_ids"].tolist() == [[0, 1, 1], [0, 0, 0]]
    assert {tensor.dtype for tensor in feeds.values()} == {torch.int64}


def test_a_model_gets_the_inputs_it_takes_and_no_other() -> None:
    assert set(padded(ALL[:2]).feed(TEXTS)) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize(
    ("targets", "rectangle", "flat"),
    [
        pytest.param([np.array(n, dtype=np.int64) for n in (6, 4)], [6, 4], [6, 4], id="single-label"),
        pytest.param(
            [np.array([n, 1 - n], dtype=np.float32) for n in (1, 0)],
            [[1, 0], [0, 1]],
            [[1, 0], [0, 1]],
            id="multi-label",
        ),
        pytest.param([np.array(n, dtype=np.float32) for n in (1, 0.25)], [1, 0.25], [1, 0.25], id="regression"),
        pytest.param(
            [np.array(row, dtype=np.int64) for row in ([IGNORED, 1, 2], [IGNORED, 3])],
            [[IGNORED, 1, 2], [IGNORED, 3, IGNORED]],
            [IGNORED, 1, 2, IGNORED, 3],
            id="token",
        ),
    ],
)
def test_targets_of_each_task_stand_beside_their_logits(
    targets: list[Target], rectangle: list[float], flat: list[float]
) -> None:
    lengths = TEXTS.lengths
    assert padded().stack(targets, lengths).tolist() == rectangle
    stacked = Packed.stack(None, targets, lengths)  # type: ignore[arg-type]  # needs no model
    assert stacked.tolist() == flat
    assert stacked.dtype == torch.from_numpy(targets[0]).dtype


def test_every_text_gets_its_own_logits_back() -> None:
    rectangle = np.arange(12, dtype=np.float32).reshape(2, 3, 2)  # the second text's third token is padding
    flat = np.concatenate([rectangle[0], rectangle[1, :2]])
    split = Packed.split(None, flat, TEXTS.lengths)  # type: ignore[arg-type]  # needs no model
    for one, two in zip(padded().split(rectangle, TEXTS.lengths), split, strict=True):
        np.testing.assert_array_equal(one, two)
    assert [len(row) for row in split] == [3, 2]
