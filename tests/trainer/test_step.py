"""A step that does not fit into memory is computed in parts, and is the same step."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from trainer.errors import TrainingError
from trainer.step import Stepper

ALL_ROWS = np.arange(8)


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
