"""What a stop leaves of a file that is being scored, and what scoring costs."""

import math
import multiprocessing
import os
import signal
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime import score
from runtime.model import STREAM_CHUNK
from runtime.records import Columns
from runtime.score import score_file
from runtime.tables import PLAIN, DataError
from runtime.testing import FakeEngine, tiny_bundle

from .scoring import ROWS, left, run, write

pytestmark = pytest.mark.filterwarnings("ignore:texts longer than:UserWarning")


class _Stopping:
    """An engine that fails on its second batch, in the way it is told to."""

    description = "stopping"
    num_lanes = 1
    batch_invariant = True

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop, self._fake, self._num_batches = stop, FakeEngine(num_labels=2), 0

    def run(self, batches: Sequence[runtime.Batch]) -> Any:
        self._num_batches += len(batches)
        if self._num_batches > 1:
            self._stop()
        return self._fake.run(batches)


def _interrupt() -> None:
    raise KeyboardInterrupt


def test_an_interruption_leaves_nothing(load: Callable[..., runtime.Classifier], tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", ROWS * STREAM_CHUNK)
    with pytest.raises(KeyboardInterrupt):
        run(load(engine=_Stopping(_interrupt)), source, tmp_path / "out.csv")
    assert left(tmp_path) == ["in.csv"]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _score_and_die(bundle: Path, source: Path, target: Path) -> None:
    run(runtime.load(bundle, engine=_Stopping(_die)), source, target, overwrite=True)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_kill_leaves_the_old_output_and_at_most_a_temporary_file(tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", ROWS * 500)
    (tmp_path / "out.csv").write_text("old")
    bundle = tiny_bundle(tmp_path / "bundle")
    process = multiprocessing.get_context("spawn").Process(
        target=_score_and_die, args=(bundle, source, tmp_path / "out.csv")
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / "out.csv").read_text() == "old"
    assert left(tmp_path) == [f".out.csv.{process.pid}.tmp", "bundle", "in.csv", "out.csv"]


@pytest.mark.parametrize("bad", [False, True], ids=["sound", "first row bad"])
def test_memory_does_not_grow_with_the_file(
    load: Callable[..., runtime.Classifier], tmp_path: Path, bad: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eighty chunks take the memory of four; a bad row, after which all others are read for their problems, included."""
    monkeypatch.setattr(score, "STREAM_CHUNK", 256)
    classifier = load()

    def peak_mb(num_chunks: int) -> float:
        source = tmp_path / "in.csv"
        rows = "".join(f"late {index},{index}\n" for index in range(256 * num_chunks))
        source.write_text("text,id\n" + ('" ",0\n' if bad else "") + rows)
        tracemalloc.start()
        try:
            run(classifier, source, tmp_path / "out.csv", overwrite=True)
        except DataError:
            assert bad
        finally:
            peak_bytes = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return peak_bytes / 1e6

    peak_mb(1)  # what is made once and kept
    few, many = peak_mb(4), peak_mb(80)
    assert many < few + 0.2
    assert many < 5


def test_progress_adds_up_to_the_rows(load: Callable[..., runtime.Classifier], tmp_path: Path) -> None:
    source, seen = write(tmp_path / "in.csv", ROWS * 2500), []
    scored = score_file(load(), source, tmp_path / "out.csv", columns=Columns(), layout=PLAIN, on_progress=seen.append)
    assert (sum(seen), len(seen)) == (scored.num_rows, math.ceil(10_000 / STREAM_CHUNK))
    assert scored.num_rows == 10_000
    assert scored.seconds > 0
