"""Engines in processes of their own, and `python -m runtime tune` from the command line to an answer that uses its profile."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import runtime
from runtime.__main__ import main
from runtime.bundle import read
from runtime.errors import EngineUnavailable
from runtime.host import host_file, this_host
from runtime.measure import REPLIES, Worker
from runtime.model import open_head
from runtime.profile import Choice
from runtime.profile import read as read_profile
from runtime.workload import Workload, from_lengths

ROOT = Path(__file__).parents[2]
CHOICE = Choice(engine="ort-cpu", variant="fp32", threads=1, streams=None, spinning=None, max_batch_tokens=512)


@pytest.fixture
def workload(bundle: Path) -> Workload:
    """Give made-up texts for the bundle."""
    manifest = read(bundle)
    return from_lengths("8,24", manifest, encoder=open_head(bundle, manifest).encoder)


@pytest.fixture
def worker(bundle: Path, workload: Workload) -> Worker:
    """Give a process that has opened fp32; closed by the test."""
    return Worker(bundle, CHOICE, workload)


def test_a_worker_answers_as_load_does(bundle: Path, workload: Workload, worker: Worker) -> None:
    classifier = runtime.load(bundle, engine="ort-cpu", variant="fp32", threads=1, max_batch_tokens=64)
    expected = classifier.logits(classifier.encode(workload.texts[:40]))
    found = worker.logits(40, max_batch_tokens=64)
    worker.close()
    assert len(found) == 40
    assert all(np.array_equal(e, f) for e, f in zip(expected, found, strict=True))


def test_a_worker_says_what_its_engine_says(worker: Worker) -> None:
    worker.close()
    assert worker.facts.num_lanes == 1
    assert worker.facts.batch_invariant
    assert 0 <= worker.facts.golden_error < 1e-3


def test_a_workers_times_are_those_of_its_own_clock(worker: Worker) -> None:
    start = time.perf_counter()
    many, few = worker.seconds(512, max_batch_tokens=512), worker.seconds(8, max_batch_tokens=512)
    alone = worker.seconds_alone(max_batch_tokens=512)
    passed = time.perf_counter() - start
    worker.close()
    assert 0 < few < many < passed
    assert 0 < alone < passed


def test_an_engine_that_cannot_be_opened_says_why(bundle: Path, workload: Workload) -> None:
    with pytest.raises(EngineUnavailable, match=r"variant must be 'auto' or .*\. Got 'int4' instead"):
        Worker(bundle, replace(CHOICE, variant="int4"), workload)
    file = bundle / read(bundle).variants["fp32"].file
    file.write_bytes(b"\0" * file.stat().st_size)
    with pytest.raises(
        EngineUnavailable, match=r"onnxruntime cannot open .*Export the model again|export the model again"
    ):
        Worker(bundle, CHOICE, workload)


def test_a_worker_that_is_killed_is_told_and_nothing_else_breaks(worker: Worker) -> None:
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(EngineUnavailable, match="its process broke off with exit code -9"):
        worker.seconds(8, max_batch_tokens=512)
    worker.close()


def test_a_bug_in_a_worker_is_its_own_end(worker: Worker) -> None:
    with pytest.raises(EngineUnavailable, match="TypeError: "):
        worker.seconds(8, max_batch_tokens="many")  # type: ignore[arg-type]
    assert worker.seconds(8, max_batch_tokens=512) > 0, "it goes on"
    worker.close()


def test_a_worker_ends_with_its_near_end(bundle: Path) -> None:
    """Nobody is left behind when tune is killed: the pipe closes, and the worker has nothing more to read."""
    code = f"""
import os
from pathlib import Path
from runtime.bundle import read
from runtime.measure import Worker
from runtime.model import open_head
from runtime.profile import Choice
from runtime.workload import from_lengths
bundle, choice = Path({str(bundle)!r}), {CHOICE!r}
texts = from_lengths("8", read(bundle), encoder=open_head(bundle, read(bundle)).encoder)
print(Worker(bundle, choice, texts)._process.pid, flush=True)
os._exit(9)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    pid = int(done.stdout)
    for _ in range(100):
        if not _alive(pid):
            return
        time.sleep(0.1)
    pytest.fail("the worker is still there")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")  # nobody waited for it


def test_every_request_has_its_reply() -> None:
    assert set(REPLIES) == {"logits", "seconds", "alone"}


# From the command line


def test_tune_measures_and_load_uses_what_it_found(
    bundle: Path, tmp_path: Path, texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts[:300] if '"' not in text))
    assert main(["tune", str(bundle), "--data", str(tmp_path / "rows.jsonl"), "--seconds", "6", "--floor", "0.5"]) == 0
    captured = capsys.readouterr()
    profile = read_profile(host_file(this_host(bundle)))
    assert profile.host == this_host(bundle)
    assert {m.choice.variant for m in profile.measurements} == {"fp32", "int8"}
    assert re.search(r"measuring on the \d+ texts of .*rows\.jsonl, \d+ tokens on average\n", captured.err)
    assert re.search(r"s left +[\d,]+ texts/s +[\d.]+ ms alone +agrees +[\d.]+%   int8 on ort-cpu, ", captured.err)
    told = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in captured.out.splitlines())
    assert told["chosen"] == str(profile.winner)
    assert told["profile"] == str(host_file(this_host(bundle)))
    ElementTree.parse(told["picture"])
    classifier = runtime.load(bundle)
    assert (classifier.opened.name, classifier.opened.variant) == (profile.winner.engine, profile.winner.variant)
    assert classifier.opened.reason == profile.summary
    assert classifier.max_batch_tokens == profile.winner.max_batch_tokens


@pytest.mark.parametrize("shape", ["multi-label", "regression", "token", "pair"])
def test_every_task_can_be_tuned(
    shape: str, make_bundle: Callable[[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, file = make_bundle("bert", shape), tmp_path / "shipped" / "profile.json"
    arguments = ["tune", str(bundle), "--seconds", "1", "--floor", "0", "--output", str(file), "--lengths", "8,16"]
    assert main(arguments) == 0
    assert (
        "note: on texts like yours speed and agreement may be others; give some with --data" in capsys.readouterr().err
    )
    assert file.with_suffix(".svg").exists()
    profile = read_profile(file)
    agreements = {m.choice.variant: m.agreement for m in reversed(profile.measurements)}  # the first of each counts
    # Decisions are equal; a value is off in its last bit where an engine adds in another order.
    assert agreements["fp32"] == (pytest.approx(1, abs=1e-5) if shape == "regression" else 1.0)
    assert agreements["int8"] is not None
    assert 0.5 < agreements["int8"] <= 1
    loaded = runtime.load(bundle, profile=file)
    assert loaded.opened.reason == profile.summary


def test_labels_in_the_data_are_measured(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rows.csv").write_text("text,truth\nwhere is it,track_delivery\nlate,track_delivery\n")
    arguments = ["tune", str(bundle), "--data", str(tmp_path / "rows.csv"), "--label-column", "truth", "--seconds", "1"]
    assert main([*arguments, "--floor", "0"]) == 0
    assert re.search(r"accuracy  ?\d\.\d{4}", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["--lengths", "8", "--data", "rows.csv"],
            "--lengths is for made-up texts, and --data gives texts of your own",
        ),
        (["--data", "nowhere.csv"], "nowhere.csv: cannot be read: No such file or directory"),
        (["--seconds", "0"], "--seconds must be a number above 0. Got 0.0 instead"),
        (["--floor", "2"], "--floor must be between 0 and 1. Got 2.0 instead"),
        (["--plot", "picture.png"], "--plot must end in .svg. Got 'picture.png' instead"),
    ],
)
def test_wrong_options_are_told(
    arguments: list[str], told: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", str(bundle), *arguments]) == 1
    assert f"error: {told}" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing there")
def test_ctrl_c_ends_tune_with_a_profile_or_a_word_and_without_a_traceback(bundle: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.csv"  # so many that the signal comes long before the end
    rows.write_text("text\n" + "where is it now and when will it be here\n" * 4000)
    arguments = ["tune", str(bundle), "--data", str(rows), "--seconds", "60", "--floor", "0.5"]
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore Ctrl-C, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr is not None
    said = ""
    while "ms alone" not in said:  # everyone was timed once
        said += process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    assert "interrupted: what was measured so far decides" in err
    assert process.returncode == 0
    assert "time ended the search" in out
    assert not read_profile(host_file(this_host(bundle))).conditions.complete
