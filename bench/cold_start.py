"""How long from starting Python to the first answer, and with how much memory?

    python -m bench.cold_start --run RUN --bundle BUNDLE --texts FILE [--repeats 7]

Every peer of bench/peers LATENCY answers one text in a process of its own, started afresh in every round, in turn. The first start of each is not counted: it
makes the files that the peer needs and brings files and packages into the page cache. Prints a table, then one JSON document as its last line.
"""

import json
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import tyro

from bench.comparison import (
    PeersConfig,
    check_repeats,
    describe_run,
    finish,
    lineup,
    print_doubts,
    read_texts,
    warn_of_load,
)
from bench.driver import ROOT, Lineup, PeerFailedError, environment_of_peers, noting_failure, tell
from bench.peers import Peer

TABLE = "bench.peers:LATENCY"


@dataclass(frozen=True, kw_only=True)
class ColdStartConfig:
    """Compare how soon a fresh process answers."""

    peers: Annotated[PeersConfig, tyro.conf.arg(name="")]
    texts: Path
    """Plain text, a line a text; the first is answered."""
    repeats: int = 7
    """Rounds; a figure is the median over them."""


@dataclass
class _Starts:
    """What a peer's starts took."""

    seconds: list[float] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)


def main() -> None:
    """Run the program."""
    config = tyro.cli(ColdStartConfig, prog="python -m bench.cold_start", description=__doc__)
    check_repeats(config.repeats)
    texts = read_texts(config.texts, max_texts=None)
    load = warn_of_load()
    with lineup(config.peers, TABLE, calibration=texts) as peers:
        starts, failed = _rounds(peers, texts[0], repeats=config.repeats)
    table = peers.peers()
    document = {
        "question": "cold start",
        **describe_run(config.peers, failed=failed, load=load),
        "repeats": config.repeats,
        "peers": {name: _figures(table[name], taken) for name, taken in starts.items()},
    }
    print(f"{'peer':32}{'seconds':>9}{'(least–most)':>15}{'peak MB':>9}")
    for name, peer in document["peers"].items():
        low_high = f"({min(peer['seconds']):.2f}–{max(peer['seconds']):.2f})"
        print(f"{name:32}{peer['median_s']:>9.2f}{low_high:>15}{peer['peak_bytes'] / 1e6:>9.0f}")
    print_doubts(document)
    finish(document, config.peers.output)


def _rounds(peers: Lineup, text: str, *, repeats: int) -> tuple[dict[str, _Starts], dict[str, str]]:
    starts: dict[str, _Starts] = {}
    failed: dict[str, str] = {}
    for turn in range(repeats + 1):
        tell(f"round {turn} of {repeats}" if turn else "once, not counted")
        for name, peer in peers.peers().items():
            if name not in failed:
                with noting_failure(failed, name):
                    seconds, peak_bytes = _first_answer(peers, name, peer, text)
                    if turn:
                        starts.setdefault(name, _Starts()).seconds.append(seconds)
                        starts[name].peak_bytes.append(peak_bytes)
    return {name: taken for name, taken in starts.items() if name not in failed}, failed


def _first_answer(peers: Lineup, name: str, peer: Peer, text: str) -> tuple[float, int]:
    request = json.dumps({"table": peers.table, "peer": name, "job": peers.job._asdict(), "text": text})
    command = [peers.python(name, peer.environment), "-m", "bench.first_answer", request]
    with tempfile.TemporaryFile() as errors:  # not a pipe, which a talkative library would fill
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment_of_peers(peers.job.threads),
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.perf_counter() - start  # its end, which takes some libraries long, is not waited for
        process.communicate()
        if not line:
            errors.seek(0)
            printed = errors.read().decode("utf-8", errors="replace").strip().splitlines()
            raise PeerFailedError((printed or ["no message"])[-1])
    return seconds, json.loads(line)["peak_bytes"]


def _figures(peer: Peer, starts: _Starts) -> dict[str, Any]:
    return {
        "settings": peer.settings,
        "median_s": median(starts.seconds),
        "seconds": starts.seconds,
        "peak_bytes": median(starts.peak_bytes),
    }


if __name__ == "__main__":
    main()
