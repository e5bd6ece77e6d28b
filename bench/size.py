"""How many bytes does an answer need on a device: the model's files, and the packages that read them?

    python -m bench.size --run RUN --bundle BUNDLE

Every peer of bench/peers ACCURACY is opened and says which files it read: weights, graph, configuration; the tokenizer, the same for all, is not counted.
Packages are those the peer's row names and all that these require, measured where the peer runs (bench/closure.py); portabert's own files are added to its
rows. Python itself is not counted. Prints a table, then one JSON document as its last line.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import tyro

from bench.comparison import PeersConfig, describe_run, finish, lineup, print_doubts, warn_of_load
from bench.driver import ROOT, Lineup, PeerFailedError, Worker, each_alone
from bench.peers import Peer

TABLE = "bench.peers:ACCURACY"
OWN = ("runtime", "trainer", "export")  # what portabert's wheel holds


def main() -> None:
    """Run the program."""
    config = tyro.cli(PeersConfig, prog="python -m bench.size", description=__doc__)
    load = warn_of_load()
    with lineup(config, TABLE, calibration=["a text to calibrate on"] * 8) as peers:
        said, failed = each_alone(peers, lambda worker, peer: _ask(worker, peer, peers))
    document = {"question": "size", **describe_run(config, failed=failed, load=load), "peers": said}
    print(f"{'peer':32}{'model MB':>10}{'packages MB':>13}{'number':>8}  largest")
    for name, peer in said.items():
        largest = sorted(peer["packages"], key=lambda package: -peer["packages"][package])[:3]
        shown = ", ".join(f"{package} {peer['packages'][package] / 1e6:.0f}" for package in largest)
        print(
            f"{name:32}{peer['model_bytes'] / 1e6:>10.1f}{peer['packages_bytes'] / 1e6:>13.1f}{len(peer['packages']):>8}  {shown}"
        )
    print_doubts(document)
    finish(document, config.output)


def _ask(worker: Worker, peer: Peer, peers: Lineup) -> dict[str, Any]:
    files = worker.open(peers, cases={})["files"]
    packages = _packages(worker.python, peer)
    if worker.name.startswith("portabert"):
        packages["portabert"] = own_bytes()
    return {
        "settings": peer.settings,
        "files": files,
        "packages": packages,
        "model_bytes": sum(files.values()),
        "packages_bytes": sum(packages.values()),
    }


def _packages(python: str, peer: Peer) -> dict[str, int]:
    done = subprocess.run(
        [python, "-m", "bench.closure", *peer.packages], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    if done.returncode:
        raise PeerFailedError(f"its packages cannot be measured: {done.stderr.strip().splitlines()[-1]}")
    sizes: dict[str, int] = json.loads(done.stdout)
    return sizes


def own_bytes() -> int:
    """Add up what portabert itself installs."""
    files: list[Path] = [file for package in OWN for file in (ROOT / package).rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files if "__pycache__" not in file.parts)


if __name__ == "__main__":
    main()
