"""States to resume from and the best weights, in RUN/checkpoints/: written aside, renamed, the older ones removed.

state-400.pt   all that step 401 follows from: weights, moments, progress; what is dropped follows from the seed and the step
best-300/      the best weights of the evaluations so far, as a Hugging Face folder; the progress says which step's they are
evaluated-350/ the weights of an evaluation, of which there will be a mean (average.py)
"""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from .errors import RunError

WEIGHTS = "model.safetensors"


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: optimizer steps done.
        best_value: the best metric so far; None before the first evaluation.
        best_step: when it was reached.
        stale: evaluations since then.
        num_parts: what a process's share of a batch is computed in.
        losses: of the steps since the last line of the log.
    """

    num_parts: int
    step: int = 0
    best_value: float | None = None
    best_step: int | None = None
    stale: int = 0
    losses: list[float] = field(default_factory=list)


def save_state(
    folder: Path,
    *,
    progress: Progress,
    model: Any,
    optimizer: Any,
    data: dict[str, str],
    num_processes: int,
    keep: int,
) -> None:
    """Save everything a run needs to go on, and remove what no kept state needs.

    Args:
        folder: RUN/checkpoints.
        progress: how far the run is.
        model: the model, as it is kept (kept.py).
        optimizer: of its parameters.
        data: digests of the rows, by split.
        num_processes: that train.
        keep: states to keep, this one among them.

    Raises:
        RunError: the disk is full, or cannot be written; the states before are whole.
    """
    state = {
        "progress": vars(progress),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "data": data,
        "num_processes": num_processes,
    }
    fresh = folder / f".state-{progress.step}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with fresh.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(folder / f"state-{progress.step}.pt")
    except (OSError, RuntimeError) as exc:  # torch reports a full disk as a RuntimeError of its zip writer
        fresh.unlink(missing_ok=True)
        raise _unwritten(f"the state of step {progress.step}", folder, exc) from exc
    _remove_older(folder, keep)


def latest_state(folder: Path) -> Path | None:
    """Find the newest state; unfinished ones do not count."""
    states = _states(folder)
    return states[-1] if states else None


def restore_state(file: Path, *, model: Any, optimizer: Any, data: dict[str, str], num_processes: int) -> Progress:
    """Bring a model and its optimizer to where they were.

    Raises:
        RunError: the file is damaged, other rows were trained on, or other numbers of processes wrote it.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as exc:  # what torch's zip and pickle readers raise: RuntimeError, EOFError, UnpicklingError …
        raise RunError(
            f"{file} is damaged: {str(exc).splitlines()[0] if str(exc) else type(exc).__name__}. "
            "Remove it, and --resume begins at the state before, or at the first step."
        ) from exc
    changed = [f"--{split}" for split in sorted(data | state["data"]) if data.get(split) != state["data"].get(split)]
    if changed:
        raise RunError(
            f"the rows of {', '.join(changed)} are not those that {file} was trained on. Bring the old ones back, or train anew with --overwrite."
        )
    if state["num_processes"] != num_processes:
        raise RunError(
            f"{file} was written by {state['num_processes']} processes; --resume needs as many. Got {num_processes} instead."
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return Progress(**state["progress"])


def save_best(folder: Path, step: int, *, model: Any, tokenizer: Any) -> None:
    """Keep the weights of a step as a Hugging Face folder, best-STEP.

    Raises:
        RunError: the disk is full, or cannot be written; the folders before are whole.
    """
    _save_folder(best_of(folder, step), step, model, tokenizer)


def save_evaluated(folder: Path, step: int, *, model: Any, count: int) -> None:
    """Keep the weights of an evaluation, evaluated-STEP, and remove what neither the last `count` nor those of a kept state need.

    Raises:
        RunError: the disk is full, or cannot be written; the folders before are whole.
    """
    _save_folder(folder / f"evaluated-{step}", step, model)
    needed = {
        file for until in (step, *map(step_of, _states(folder))) for file in last_evaluated(folder, until, count=count)
    }
    for evaluated in folder.glob("evaluated-*"):
        # Newer ones are of a run that got farther before it was killed.
        if step_of(evaluated) <= step and evaluated not in needed:
            shutil.rmtree(evaluated)


def last_evaluated(folder: Path, step: int, *, count: int) -> list[Path]:
    """Find the weights of the last `count` evaluations up to a step, or as many as there were."""
    found = sorted(folder.glob("evaluated-*"), key=step_of)
    return [evaluated for evaluated in found if step_of(evaluated) <= step][-count:]


def step_of(kept: Path) -> int:
    """Read from its name the step of what was kept."""
    return int(kept.stem.partition("-")[2])


def _save_folder(folder: Path, step: int, *parts: Any) -> None:
    fresh = folder.with_name(f".{folder.name}.tmp")
    try:
        for left in (fresh, folder):  # of a run that was killed here, and now comes by again
            if left.exists():
                shutil.rmtree(left)
        for part in parts:
            part.save_pretrained(fresh)
        fresh.rename(folder)
    except (OSError, SafetensorError) as exc:
        shutil.rmtree(fresh, ignore_errors=True)
        raise _unwritten(f"the weights of step {step}", folder.parent, exc) from exc


def best_of(folder: Path, step: int) -> Path:
    """Where `save_best` keeps the weights of a step."""
    return folder / f"best-{step}"


def _remove_older(folder: Path, keep: int) -> None:
    """Remove all but the newest states, and the best weights that none of those speaks of."""
    states = _states(folder)
    for old in states[:-keep]:
        old.unlink()
    newest, bests = step_of(states[-1]), sorted(folder.glob("best-*"), key=step_of)
    needed = {
        max((best for best in bests if step_of(best) <= step_of(state)), key=step_of, default=None)
        for state in states[-keep:]
    }
    for best in bests:
        # Newer ones are of a run that got farther before it was killed.
        if step_of(best) <= newest and best not in needed:
            shutil.rmtree(best)


def _states(folder: Path) -> list[Path]:
    return sorted(folder.glob("state-*.pt"), key=step_of)


def _unwritten(what: str, folder: Path, exc: Exception) -> RunError:
    free = shutil.disk_usage(folder).free if folder.exists() else 0
    return RunError(
        f"{what} cannot be written to {folder}: {str(exc).splitlines()[0] if str(exc) else type(exc).__name__} ({free / 1e9:.2f} GB free). "
        "What was saved before is whole: make room, then go on with the same command and --resume."
    )
