"""Our own programs, run as a user runs them, and not twice."""

import json
import subprocess
import sys
from pathlib import Path


def train_once(run: Path, *flags: str) -> None:
    """Train a run to its end, unless that was done before; one that was interrupted goes on."""
    if not is_complete(run):
        resume = ["--resume"] if (run / "train_config.json").is_file() else []
        run_module("trainer", f"--output={run}", *flags, *resume)


def is_complete(run: Path) -> bool:
    """Whether a run was trained to its end."""
    file = run / "run.json"
    return file.is_file() and bool(json.loads(file.read_text())["complete"])


def run_module(module: str, *arguments: str) -> None:
    """Run one of our programs, and say so."""
    command = [sys.executable, "-m", module, *arguments]
    print("$", " ".join(command[1:]), file=sys.stderr, flush=True)
    subprocess.run(command, check=True)
