"""A state brings everything back: weights, optimizer, progress, and each process's own random generators."""

from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.errors import RunError
from trainer.states import Progress, generator_states, latest_state, restore_state, save_state


@pytest.fixture
def trained() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def save(folder: Path, trained: tuple[Any, Any], generators: list[dict[str, Any]]) -> Path:
    model, optimizer = trained
    save_state(folder, progress=Progress(step=7, best_step=5), model=model, optimizer=optimizer, generators=generators)
    file = latest_state(folder)
    assert file is not None
    return file


def drawn_after(seed: int) -> tuple[dict[str, Any], torch.Tensor]:
    """Give a generator's states and what it draws next."""
    torch.manual_seed(seed)
    states = generator_states()
    return states, torch.rand(4)


def test_each_process_goes_on_with_the_random_numbers_it_would_have_drawn(tmp_path: Path, trained: Any) -> None:
    (first, draws_0), (second, draws_1) = drawn_after(1), drawn_after(2)
    file = save(tmp_path, trained, [first, second])
    model, optimizer = torch.nn.Linear(3, 2), None
    for process, expected in ((0, draws_0), (1, draws_1)):
        optimizer = torch.optim.AdamW(model.parameters())
        progress = restore_state(file, model=model, optimizer=optimizer, process=process, num_processes=2)
        assert torch.equal(torch.rand(4), expected)
        assert progress == Progress(step=7, best_step=5)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), trained[0].parameters(), strict=True))


def test_another_number_of_processes_is_refused_with_both(tmp_path: Path, trained: Any) -> None:
    file = save(tmp_path, trained, [generator_states()] * 2)
    model, optimizer = trained
    with pytest.raises(RunError, match=r"was written by 2 processes; --resume needs as many. Got 1 instead"):
        restore_state(file, model=model, optimizer=optimizer, process=0, num_processes=1)
