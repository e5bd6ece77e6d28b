"""States to resume from, in RUN/checkpoints/: written aside, renamed, the older one removed."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .errors import RunError


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: optimizer steps done.
        best_value: the best metric so far; None before the first evaluation.
        best_step: when it was reached.
        stale: evaluations since then.
    """

    step: int = 0
    best_value: float | None = None
    best_step: int | None = None
    stale: int = 0


def generator_states() -> dict[str, Any]:
    """Give the states of this process's random generators."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def save_state(
    folder: Path, *, progress: Progress, model: torch.nn.Module, optimizer: Any, generators: list[dict[str, Any]]
) -> None:
    """Save everything a run needs to go on; `generators` are the `generator_states` of each process, in order."""
    state = {
        "progress": vars(progress),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generators": generators,
    }
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f".state-{progress.step}.tmp"
    torch.save(state, fresh)
    fresh.replace(folder / f"state-{progress.step}.pt")
    for file in folder.glob("state-*.pt"):
        if file.name != f"state-{progress.step}.pt":
            file.unlink()


def latest_state(folder: Path) -> Path | None:
    """Find the newest state; unfinished ones do not count."""
    states = sorted(folder.glob("state-*.pt"), key=lambda file: int(file.stem.removeprefix("state-")))
    return states[-1] if states else None


def restore_state(file: Path, *, model: torch.nn.Module, optimizer: Any, process: int, num_processes: int) -> Progress:
    """Bring a model, its optimizer and this process's random generators to where they were.

    Raises:
        RunError: the file is damaged, or other numbers of processes wrote it.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as exc:  # what torch's zip and pickle readers raise: RuntimeError, EOFError, UnpicklingError …
        raise RunError(
            f"{file} is damaged: {str(exc).splitlines()[0] if str(exc) else type(exc).__name__}. "
            "Remove it, and --resume begins at the first step."
        ) from exc
    if len(state["generators"]) != num_processes:
        raise RunError(
            f"{file} was written by {len(state['generators'])} processes; --resume needs as many. Got {num_processes} instead."
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    generators = state["generators"][process]
    torch.set_rng_state(generators["cpu"])
    if generators["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(generators["cuda"])
    return Progress(**state["progress"])


def save_best(folder: Path, *, model: Any, tokenizer: Any) -> None:
    """Keep the best weights as a Hugging Face folder; a kill leaves the old ones or the new ones."""
    fresh, old = folder.with_name(".best.tmp"), folder.with_name(".best.old")
    for left in (fresh, old):
        shutil.rmtree(left, ignore_errors=True)
    model.save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def restore_best(folder: Path) -> None:
    """Bring the best weights back where a kill came between the two renames of `save_best`."""
    old = folder.with_name(".best.old")
    if old.exists() and not folder.exists():
        old.rename(folder)
