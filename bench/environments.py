"""Environments of peers that cannot live beside the others: another transformers, another Optimum.

    python -m bench.environments [--output .bench-envs] [--only NAME …] [--show]

Makes a virtual environment a row, each with its own pip; one that is there and complete is left. bench/README.md has the same commands to paste.
"""

import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import tyro

FOLDER = Path(".bench-envs")
TORCH = "torch==2.13.0"  # named in every install and held by a constraint, or pip chooses a build for GPUs
CONSTRAINT = Path(__file__).parent / "torch.txt"


class Environment(NamedTuple):
    """A row: what pip installs, and what of it is taken out again, with the reason."""

    packages: tuple[str, ...]
    removed: tuple[str, ...] = ()
    why_removed: str = ""


ENVIRONMENTS: dict[str, Environment] = {
    "transformers-5": Environment(("transformers==5.23.0", "onnx==1.23.2", "onnxscript==0.7.2", "onnxruntime==1.31.1")),
    "optimum-intel": Environment(
        ("optimum-intel[openvino,nncf]==2.2.0",),
        ("torchvision",),
        "the build that PyPI has is for torch with CUDA, and transformers fails on importing it; nothing here needs it",
    ),
    "ctranslate2": Environment(("ctranslate2==4.8.5", "transformers==4.57.6")),
}


@dataclass(frozen=True, kw_only=True)
class EnvironmentsConfig:
    """Make the environments of the benchmarks' peers."""

    output: Path = FOLDER
    """The folder of the environments."""
    only: tuple[str, ...] = ()
    """Environments to make; none for all."""
    show: bool = False
    """Print the commands instead of running them."""


def main() -> None:
    """Run the program."""
    config = tyro.cli(EnvironmentsConfig, prog="python -m bench.environments", description=__doc__)
    if unknown := [name for name in config.only if name not in ENVIRONMENTS]:
        raise SystemExit(f"error: --only must name some of {', '.join(ENVIRONMENTS)}. Got {unknown[0]!r} instead.")
    for name in config.only or ENVIRONMENTS:
        if not config.show and interpreter(name, folder=config.output) is not None:
            print(f"{name}: there already")
            continue
        for command in commands(name, folder=config.output):
            print("$", shlex.join(command), flush=True)
            if not config.show:
                subprocess.run([sys.executable, *command[1:]] if command[0] == "python" else command, check=True)
        if not config.show:
            _stamp(name, config.output).write_text(_recipe(name), encoding="utf-8")


def commands(name: str, *, folder: Path) -> list[list[str]]:
    """Give the commands that make an environment; "python" is any Python that the packages support."""
    environment, place = ENVIRONMENTS[name], folder / name
    pip = [str(place / "bin" / "pip")]
    install = [*pip, "install", "--constraint", str(CONSTRAINT.relative_to(CONSTRAINT.parents[1])), TORCH]
    steps = [["python", "-m", "venv", str(place)], [*install, *environment.packages]]
    if environment.removed:
        steps.append([*pip, "uninstall", "--yes", *environment.removed])
    return steps


def interpreter(name: str, *, folder: Path) -> Path | None:
    """Give the Python of a complete environment of these very packages; None where there is none."""
    stamp = _stamp(name, folder)
    complete = stamp.is_file() and stamp.read_text(encoding="utf-8") == _recipe(name)
    return (folder / name / "bin" / "python").absolute() if complete else None  # not resolved: it is a link


def _stamp(name: str, folder: Path) -> Path:
    return folder / name / "complete.txt"


def _recipe(name: str) -> str:
    return "\n".join([TORCH, *ENVIRONMENTS[name].packages]) + "\n"


if __name__ == "__main__":
    main()
