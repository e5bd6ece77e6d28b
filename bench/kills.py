"""Does a run that is killed at any moment and resumed end as if nothing had happened?

    python -m bench.kills [--num-kills 20] [--work runs/kills]

Trains the embedded demo once undisturbed; then, `num-kills` times, trains it anew, kills the process (SIGKILL) at a random moment between its first step and
its end, goes on with --resume, and compares the weights, the log and run.json byte for byte. Prints a line a kill, then one JSON document as its last line.
"""

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from bench.comparison import finish
from bench.machine import describe_machine

FLAGS = ("--train=demo:intent", "--epochs=2", "--save-steps=4", "--eval-steps=9")
COMPARED = ("model.safetensors", "metrics.jsonl", "run.json", "config.json", "tokenizer.json")


@dataclass(frozen=True, kw_only=True)
class KillsConfig:
    """Kill training at random moments."""

    num_kills: int = 20
    """How often."""
    model: str = "minilm"
    """What is fine-tuned."""
    work: Path = Path("runs/kills")
    """Where the runs go; emptied first."""
    cuda_graphs: bool = False
    """Take steps by CUDA graphs, on a GPU."""
    seed: int = 0
    """Of the moments."""
    output: Path | None = None
    """Where the JSON document is written as well."""


def main() -> None:
    """Run the program."""
    config = tyro.cli(KillsConfig, prog="python -m bench.kills", description=__doc__)
    shutil.rmtree(config.work, ignore_errors=True)
    start = time.perf_counter()
    undisturbed = _start(config, config.work / "undisturbed")
    while undisturbed.poll() is None and not (config.work / "undisturbed" / "train_config.json").is_file():
        time.sleep(0.05)
    begun = time.perf_counter() - start
    _, told = undisturbed.communicate()
    assert undisturbed.returncode == 0, told
    duration = time.perf_counter() - start
    moments = np.random.default_rng(config.seed).uniform(begun, duration, config.num_kills)
    kills = [_kill(config, number, float(moment)) for number, moment in enumerate(moments, start=1)]
    alike = sum(kill["differing"] == [] for kill in kills)
    print(f"{alike} of {len(kills)} resumed runs are the undisturbed one, byte for byte")
    finish(
        {
            "question": "kills",
            "machine": describe_machine(),
            "flags": FLAGS,
            "cuda_graphs": config.cuda_graphs,
            "duration_s": duration,
            "kills": kills,
        },
        config.output,
    )


def _kill(config: KillsConfig, number: int, moment: float) -> dict[str, Any]:
    run = config.work / f"killed-{number}"
    process = _start(config, run)
    try:
        process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    killed, finished = process.returncode != 0, (run / "run.json").is_file()
    begun = (run / "train_config.json").is_file()
    how = "ended before the kill" if not killed or finished else "killed before its first step" if not begun else ""
    if not finished:
        resumed = _start(config, run, *(["--resume"] if begun else []))
        _, told = resumed.communicate()
        assert resumed.returncode == 0, told
        how = how or next((line for line in told.splitlines() if line.startswith(("resumed", "no state"))), "?")
    differing = [
        name for name in COMPARED if (run / name).read_bytes() != (config.work / "undisturbed" / name).read_bytes()
    ]
    print(
        f"{number:3}  {moment:6.1f} s  {how:40}  {'identical' if not differing else 'DIFFERS: ' + ', '.join(differing)}",
        flush=True,
    )
    shutil.rmtree(run)
    return {"moment_s": moment, "how": how, "differing": differing}


def _start(config: KillsConfig, run: Path, *flags: str) -> "subprocess.Popen[str]":
    graphs = ["--cuda-graphs"] if config.cuda_graphs else []
    command = [sys.executable, "-m", "trainer", *FLAGS, *graphs, f"--model={config.model}", f"--output={run}", *flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8")


if __name__ == "__main__":
    main()
