"""A state brings everything back: weights, moments, progress; what is not needed any more is removed, and a full disk costs nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trainer.errors import RunError
from trainer.states import Progress, best_of, latest_state, restore_state, save_best, save_state

PROGRESS = Progress(num_parts=4, step=7, best_value=0.5, best_step=5, stale=1, losses=[0.25, 0.5])
DATA = {"train": "aa", "eval": "bb"}


@pytest.fixture
def trained() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path, trained: tuple[Any, Any]) -> Save:
    """Give a function that saves a state: (progress, what differs) → its file."""

    def run(progress: Progress = PROGRESS, **settings: Any) -> Path:
        model, optimizer = trained
        given = {"data": DATA, "num_processes": 2, "keep": 1, **settings}
        save_state(tmp_path, progress=progress, model=model, optimizer=optimizer, **given)
        file = latest_state(tmp_path)
        assert file is not None
        return file

    return run


def restore(file: Path, **settings: Any) -> tuple[Progress, torch.nn.Module, torch.optim.Optimizer]:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    given = {"data": DATA, "num_processes": 2, **settings}
    return restore_state(file, model=model, optimizer=optimizer, **given), model, optimizer


def test_weights_moments_and_progress_come_back(save: Save, trained: Any) -> None:
    progress, model, optimizer = restore(save())
    assert progress == PROGRESS
    for one, two in zip(model.parameters(), trained[0].parameters(), strict=True):
        assert torch.equal(one, two)
        for name, moment in trained[1].state[two].items():
            assert torch.equal(optimizer.state[one][name], moment), name


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_processes": 1}, r"was written by 2 processes; --resume needs as many. Got 1 instead"),
        (
            {"data": {"train": "aa", "eval": "cc"}},
            r"the rows of --eval are not those that .*state-7\.pt was trained on",
        ),
        ({"data": {"train": "xx"}}, r"the rows of --eval, --train are not those"),
    ],
)
def test_what_cannot_go_on_alike_is_refused(settings: dict[str, Any], message: str, save: Save) -> None:
    with pytest.raises(RunError, match=message):
        restore(save(), **settings)


def test_a_damaged_state_is_refused(save: Save) -> None:
    file = save()
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RunError, match=r"state-7\.pt is damaged: .*Remove it, and --resume begins at the state before"):
        restore(file)


@pytest.mark.parametrize(("keep", "left"), [(1, [40]), (2, [30, 40]), (9, [10, 20, 30, 40])])
def test_as_many_states_are_kept_as_asked_for(keep: int, left: list[int], save: Save, tmp_path: Path) -> None:
    for step in (10, 20, 30, 40):
        save(Progress(num_parts=1, step=step), keep=keep)
    assert sorted(int(file.stem.removeprefix("state-")) for file in tmp_path.glob("*.pt")) == left


class Saved:
    """Stand for a model and its tokenizer."""

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "model.safetensors").write_text("weights")


def test_the_best_weights_that_a_kept_state_speaks_of_are_kept(save: Save, tmp_path: Path) -> None:
    """And newer ones: they are of a run that got farther before it was killed."""
    for step in (5, 15, 25, 45):
        save_best(tmp_path, step, model=Saved(), tokenizer=Saved())
    for step in (10, 20, 30, 40):
        save(Progress(num_parts=1, step=step, best_step=step - 5 if step < 40 else 25), keep=2)
    assert sorted(folder.name for folder in tmp_path.glob("best-*")) == ["best-25", "best-45"]


def test_a_run_that_comes_by_again_replaces_its_best_weights(tmp_path: Path) -> None:
    for _ in range(2):
        save_best(tmp_path, 5, model=Saved(), tokenizer=Saved())
    (tmp_path / ".best-6.tmp").mkdir()  # killed while it wrote
    save_best(tmp_path, 6, model=Saved(), tokenizer=Saved())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-5", "best-6"]
    assert best_of(tmp_path, 6) == tmp_path / "best-6"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")])
def test_a_full_disk_is_told_and_the_state_before_is_whole(
    error: Exception, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = save()

    def fail(state: Any, stream: Any) -> None:
        stream.write(b"half")
        raise error

    monkeypatch.setattr(torch, "save", fail)
    message = r"the state of step 8 cannot be written to .*GB free\)\. What was saved before is whole: make room"
    with pytest.raises(RunError, match=message):
        save(Progress(num_parts=1, step=8))
    assert list(tmp_path.iterdir()) == [before]
    assert restore(before)[0] == PROGRESS


def test_a_full_disk_while_the_best_weights_are_written_is_told_too(tmp_path: Path) -> None:
    class Full(Saved):
        def save_pretrained(self, folder: Path) -> None:
            super().save_pretrained(folder)
            raise OSError(28, "No space left on device")

    with pytest.raises(RunError, match=r"the weights of step 3 cannot be written to .*No space left on device"):
        save_best(tmp_path, 3, model=Full(), tokenizer=Saved())
    assert list(tmp_path.iterdir()) == []
