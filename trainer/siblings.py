"""Runs that one command trains in folders below its own, of which the best becomes the command's run: what `seeds` and `search` have in common."""

import os
import shutil
from pathlib import Path

from runtime.errors import InputError

from .checkpoint import CHECKPOINTS, CONFIG, RECORD, take_over
from .config import TrainConfig
from .run_folder import check_folder, make_folder


def begin(config: TrainConfig, *, flag: str, way_out: str, flags: Path | None = None) -> None:
    """Make the command's folder, or see that it can be gone on with.

    Args:
        config: every flag.
        flag: what asks for several runs.
        way_out: what several processes could do instead.
        flags: where the command's flags lie, if not in its folder's train_config.json.

    Raises:
        InputError: several processes.
        RunError: the folder cannot be used.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(f"{flag} is for one process. {way_out}")
    check_folder(config, main=True, flags=flags)
    if not config.resume:
        make_folder(config)


def ship(run: Path, output: Path) -> None:
    """Make a run's files those of the command's folder, all but its flags; run.json last."""
    files = [file for file in run.iterdir() if file.is_file() and file.name != CONFIG and not file.name.startswith(".")]
    take_over(sorted(files, key=lambda file: file.name == RECORD), output)


def drop_weights(run: Path) -> None:
    """Free the disk of a run that is not kept, or was taken over; its figures stay."""
    (run / "model.safetensors").unlink(missing_ok=True)
    if (run / CHECKPOINTS).is_dir():
        shutil.rmtree(run / CHECKPOINTS)
