"""A run's folder before training: is it ours to use, and is there room?"""

import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

from .checkpoint import CHECKPOINTS, CONFIG, RECORD, read_config, read_record, write_config
from .config import TrainConfig
from .errors import RunError


def check_folder(config: TrainConfig, *, main: bool, flags: Path | None = None) -> None:
    """Refuse a folder that is in use, that cannot be written, or that there is nothing to resume in.

    Args:
        config: every flag.
        main: whether this process writes.
        flags: where those lie that --resume must go on with, if not in the folder's train_config.json.

    Raises:
        RunError: one of these.
    """
    run, file = config.output, config.output / CONFIG
    if config.resume:
        _check_resumed(config, flags or file)
        return
    if run.exists() and not run.is_dir():
        raise RunError(f"{run} is a file; a run is a folder. Choose another --output.")
    if main and run.exists() and any(not file.name.startswith(".") for file in run.iterdir()):
        if not config.overwrite:
            hint = "go on with it by --resume, " if (run / CHECKPOINTS).is_dir() else ""
            raise RunError(f"{run} exists already. Choose another --output, {hint}or replace it with --overwrite.")
        if not file.is_file():
            raise RunError(f"{run} is not a run of this program; it will not be replaced. Choose another --output.")


def _check_resumed(config: TrainConfig, file: Path) -> None:
    run = config.output
    if not file.is_file():
        raise RunError(f"--resume, but {run} holds no run. Start it without --resume.")
    if (run / RECORD).is_file() and read_record(run).complete:
        raise RunError(f"{run} is complete; there is nothing to resume. Train again with --overwrite.")
    was, now = asdict(replace(read_config(file), resume=True, overwrite=False)), asdict(config)
    changed = [
        f"--{name.replace('_', '-')} was {was[name]!r}, is {now[name]!r}"
        for name in now
        if name not in ("output", "config", "keep_checkpoints", "track") and was[name] != now[name]
    ]
    if changed:
        raise RunError(f"--resume goes on with the flags of {run}; these differ:\n  " + "\n  ".join(changed))


def make_folder(config: TrainConfig) -> None:
    """Empty the run's folder or make it. The configuration marks it as ours, so it goes last and comes first.

    Raises:
        RunError: it cannot be written.
    """
    run = config.output
    try:
        run.mkdir(parents=True, exist_ok=True)
        (run / RECORD).unlink(missing_ok=True)  # from here on the old run is no longer whole
        for old in run.iterdir():
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old)
            elif old.name != CONFIG:
                old.unlink()
        write_config(run / CONFIG, replace(config, resume=False, overwrite=False))
        (run / CHECKPOINTS).mkdir()
    except OSError as exc:
        raise RunError(
            f"{run} cannot be written: {exc.strerror}. Choose another --output, or mend its permissions."
        ) from exc


def check_space(config: TrainConfig, *, num_weights: int, num_trained: int) -> None:
    """Refuse to begin what the disk cannot hold to its end.

    Args:
        config: where the run goes, and how many states are kept.
        num_weights: numbers of the model.
        num_trained: those that have moments; with adapters, those alone that a state holds.

    Raises:
        RunError: there is less room than the run will fill.
    """
    saved = num_trained if config.lora_rank else num_weights
    state = 4 * saved + 8 * num_trained  # bytes: fp32 weights, AdamW's two moments
    num_copies = 3  # the best weights, those before them, and the run's own
    if config.average:  # at most: those that each kept state and the run itself need, and the mean
        num_copies += (config.keep_checkpoints + 1) * config.average + 1
    # The states that are kept and the one being written.
    needed = (config.keep_checkpoints + 1) * state + num_copies * 4 * num_weights
    folder = next(parent for parent in (config.output, *config.output.absolute().parents) if parent.exists())
    free = shutil.disk_usage(folder).free + _size(config.output)
    if free < needed:
        raise RunError(
            f"{config.output} will need {needed / 1e9:.1f} GB while training ({config.keep_checkpoints + 1} states of {state / 1e9:.1f} GB and {num_copies} times "
            f"the weights), and its disk has {free / 1e9:.1f} GB free. Make room, choose another --output, or lower --keep-checkpoints (it is {config.keep_checkpoints}){f' or --average (it is {config.average})' if config.average else ''}."
        )


def _size(folder: Path) -> int:
    """Count the bytes of a run that is replaced or gone on with."""
    return sum((Path(where) / name).lstat().st_size for where, _, names in os.walk(folder) for name in names)
