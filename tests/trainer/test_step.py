"""A step that does not fit into memory is computed in parts, and is the same step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from runtime.encode import Batch
from trainer.device import choose_place
from trainer.errors import TrainingError
from trainer.losses import LossOptions
from trainer.objectives import OBJECTIVES
from trainer.packed import Packed
from trainer.step import Stepper

LENGTHS = (9, 9, 7, 7, 5, 3, 3, 2)
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@pytest.fixture
def make_stepper(make_encoder_folder: Callable[[str], Path]) -> Callable[..., Stepper]:
    """Give a function: (most texts that fit at once, error that is raised beyond) → a stepper of a tiny BERT."""

    def make(fits: int = 99, error: Exception | None = None, num_parts: int = 1) -> Stepper:
        folder = make_encoder_folder("bert")
        torch.manual_seed(0)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(
            folder, num_labels=3, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
        )
        network = Packed(model, per_token=False, inputs=INPUTS)
        forward = network.forward

        def limited(packing: Any, noise: Any = None) -> Any:
            if len(packing.firsts) > fits:
                raise error or torch.OutOfMemoryError("CUDA out of memory")
            return forward(packing, noise=noise)

        network.forward = limited  # type: ignore[method-assign]
        ids = np.random.default_rng(0).integers(5, 300, sum(LENGTHS))
        said: list[str] = []
        stepper = Stepper(
            network=network,
            wrapped=network,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            objective=OBJECTIVES["single-label"],
            texts=Batch(ids, np.zeros_like(ids), np.concatenate([[0], np.cumsum(LENGTHS)]).astype(np.int32)),
            targets=[np.array(index % 3, dtype=np.int64) for index in range(len(LENGTHS))],
            loss=LossOptions(),
            max_grad_norm=1.0,
            place=choose_place(device="cpu", precision="fp32"),
            seed=0,
            num_parts=num_parts,
            say=said.append,
        )
        stepper.said = said  # type: ignore[attr-defined]
        return stepper

    return make


ALL_ROWS = np.arange(len(LENGTHS))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
        MemoryError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_batch_that_does_not_fit_is_halved_until_it_does_and_that_is_said(
    error: Exception, make_stepper: Callable[..., Stepper]
) -> None:
    stepper, whole = make_stepper(fits=2, error=error), make_stepper()
    torch.testing.assert_close(stepper.take(0, ALL_ROWS), whole.take(0, ALL_ROWS))
    assert stepper.num_parts == 4
    said: list[str] = stepper.said  # type: ignore[attr-defined]
    assert [line.partition(" parts")[0][-1] for line in said] == ["2", "4"]
    assert said[0].startswith("warning: too little memory for 8 rows of up to 9 tokens at step 1; from here on")
    for one, two in zip(stepper.network.parameters(), whole.network.parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)


def test_it_is_the_step_of_that_many_parts_to_the_bit(make_stepper: Callable[..., Stepper]) -> None:
    """So a run that is resumed with them, as its state says, is the undisturbed run."""
    stepper, parts = make_stepper(fits=4), make_stepper(num_parts=2)
    assert torch.equal(stepper.take(0, ALL_ROWS), parts.take(0, ALL_ROWS))
    for one, two in zip(stepper.network.parameters(), parts.network.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_single_text_that_does_not_fit_ends_the_run(make_stepper: Callable[..., Stepper]) -> None:
    stepper = make_stepper(fits=0)
    message = r"too little memory at step 5 for a single text of 9 tokens\. Lower --max-length"
    with pytest.raises(TrainingError, match=message):
        stepper.take(4, ALL_ROWS)


def test_among_several_processes_the_way_out_is_said(make_stepper: Callable[..., Stepper]) -> None:
    stepper = make_stepper(fits=0)
    accelerator: Any = type("Two", (), {"num_processes": 2, "process_index": 1, "device": torch.device("cpu")})()
    accelerator.no_sync = lambda model: pytest.fail("one part")
    stepper.place = stepper.place._replace(accelerator=accelerator)
    with pytest.raises(TrainingError, match=r"process 1 has too little memory at step 1\. Raise --gradient-acc"):
        stepper.take(0, ALL_ROWS)


def test_any_other_error_is_not_taken_for_it(make_stepper: Callable[..., Stepper]) -> None:
    stepper = make_stepper(fits=0, error=RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        stepper.take(0, ALL_ROWS)
