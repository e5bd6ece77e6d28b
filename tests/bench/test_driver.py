"""The benchmarks' protocol, held to account with peers that answer at once."""

import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bench import comparison, latency, throughput
from bench.driver import Lineup, Measured, Results, each_alone, measure, spread
from bench.peers import LATENCY, THROUGHPUT, Job

FAKE_PEERS = """
import os
import time
from pathlib import Path

from bench.peers import Model, Peer


def _upper(job):
    def one(text):
        start = time.monotonic()
        print("a library's chatter")
        time.sleep(0.001)
        with (Path(job.work) / "spans").open("a") as stream:
            stream.write(f"{os.getpid()} {start} {time.monotonic()}\\\\n")
        return text.upper()
    return Model(lambda texts: [one(text) for text in texts], one)


def _last_wrong(job):
    model = _upper(job)
    return Model(lambda texts: model.many(texts)[:-1] + ["?"], model.one)


def _refuse(job):
    raise ValueError("no such weights")


def _vanish(job):
    def one(text):
        os.write(2, b"out of memory\\\\n")
        os._exit(9)
    return Model(lambda texts: [one(text) for text in texts], one)


PEERS = {
    "upper": Peer(_upper, "says it loud", "fp32"),
    "upper few": Peer(_upper, "says some of it", "fp32", max_texts=2),
    "last wrong": Peer(_last_wrong, "errs", "fp32"),
    "refuses": Peer(_refuse, "does not open", "fp32"),
    "vanishes": Peer(_vanish, "opens and dies", "fp32"),
    "homeless": Peer(_upper, "needs packages of its own", "fp32", environment="optimum-intel"),
    "elsewhere": Peer(_upper, "has a Python of its own", "fp32"),
}
""".replace("\\\\", "\\")
TEXTS = ["a", "b", "c", "d é"]


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the name of a table of fake peers that this process and its workers can import."""
    (tmp_path / "fake_peers.py").write_text(FAKE_PEERS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "fake_peers:PEERS"


def _lineup(table: str, work: Path, *, only: tuple[str, ...] = ()) -> Lineup:
    job = Job(run="", bundle="", work=str(work), threads=1, max_length=8, calibration="")
    return Lineup(table, job, only, {"elsewhere": str(work / "no-python")}, work)


def _measure(table: str, work: Path, *, at_once: int | None = None, only: tuple[str, ...] = ()) -> Results:
    return measure(_lineup(table, work, only=only), cases={"all": TEXTS}, at_once=at_once, repeats=2)


def test_each_round_is_timed_and_labels_come_in_order_whatever_libraries_print(table: str, tmp_path: Path) -> None:
    measured = _measure(table, tmp_path, only=("upper", "last")).measured
    assert {name: peer.labels["all"] for name, peer in measured.items()} == {
        "upper": ["A", "B", "C", "D É"],
        "upper few": ["A", "C"],
        "last wrong": ["A", "B", "C", "?"],
    }
    assert [[len(seconds) for seconds in peer.rounds["all"]] for peer in measured.values()] == [[1, 1]] * 3
    assert all(seconds[0] > 0.001 for peer in measured.values() for seconds in peer.rounds["all"])
    assert "evenly spread" in measured["upper few"].settings


def test_alone_gives_a_time_for_every_text(table: str, tmp_path: Path) -> None:
    measured = _measure(table, tmp_path, at_once=1, only=("upper",)).measured
    assert [[len(seconds) for seconds in peer.rounds["all"]] for peer in measured.values()] == [[4, 4], [2, 2]]


def test_no_two_peers_compute_at_once_and_waiting_ones_are_still(table: str, tmp_path: Path) -> None:
    measured = _measure(table, tmp_path, only=("upper", "last")).measured
    spans = sorted(tuple(map(float, line.split()[1:])) for line in (tmp_path / "spans").read_text().splitlines())
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert all(peer.idle_cpu_s < 0.5 * peer.idle_s for peer in measured.values())


def test_a_peer_that_fails_is_reported_with_its_reason(table: str, tmp_path: Path) -> None:
    results = _measure(table, tmp_path)
    assert set(results.measured) == {"upper", "upper few", "last wrong"}
    assert results.failed["refuses"] == "ValueError: no such weights"
    assert re.fullmatch("the process ended with 9: out of memory", results.failed["vanishes"])
    assert "No such file" in results.failed["elsewhere"]
    assert (
        results.failed["homeless"]
        == f"needs the environment 'optimum-intel', which is not in {tmp_path}: make bench-envs"
    )


def test_peers_that_are_asked_alone_are_gone_before_the_next_one_starts(table: str, tmp_path: Path) -> None:
    processes = []

    def ask(worker: Any, peer: Any) -> list[str]:
        assert all(process.poll() is not None for process in processes)
        processes.append(worker._process)
        worker.open(_lineup(table, tmp_path), cases={"all": TEXTS})
        return worker.ask({"do": "answer", "case": "all", "at_once": 3})["labels"]

    said, failed = each_alone(_lineup(table, tmp_path, only=("upper", "last", "refuses")), ask)
    assert said == {
        "upper": ["A", "B", "C", "D É"],
        "upper few": ["A", "B", "C", "D É"],
        "last wrong": ["A", "B", "?", "?"],
    }
    assert list(failed) == ["refuses"]


def test_an_unknown_peer_is_refused(table: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no peer's name begins with 'uper'"):
        _measure(table, tmp_path, only=("uper",))


@pytest.mark.parametrize(("program", "reference"), [(throughput, "upper few"), (latency, "upper")])
def test_a_program_ends_with_one_json_document(
    program: Any,
    reference: str,
    table: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    texts, output = tmp_path / "texts.txt", tmp_path / "results" / "figures.json"
    texts.write_text("\n".join(TEXTS), encoding="utf-8")
    flags = ["--run=r", "--bundle=b", f"--texts={texts}", f"--output={output}", "--repeats=2"]
    only = ["--only", "upper", "last", "refuses", "elsewhere", "--python", f"elsewhere={tmp_path / 'no-python'}"]
    monkeypatch.setattr("sys.argv", ["bench", *flags, *only, *(["--no-peak"] if program is throughput else [])])
    monkeypatch.setattr(program, "TABLE", table)
    monkeypatch.setattr(program, "REFERENCE", reference)
    monkeypatch.setattr(comparison, "ANSWERS_REFERENCE", "upper")
    for module in (comparison, latency):
        monkeypatch.setattr(module, "open_bundle", lambda bundle: SimpleNamespace(max_length=8))
    monkeypatch.setattr(throughput, "_flops", lambda config, texts: np.full(len(texts), 1e6))
    monkeypatch.setattr(latency, "Encoder", lambda folder, **options: _Words())
    program.main()
    table_text, last = capsys.readouterr().out.rstrip("\n").rsplit("\n", 1)
    document = json.loads(last)
    assert output.read_text(encoding="utf-8") == last + "\n"
    assert set(document["peers"]) == {"upper", "upper few", "last wrong"}
    assert set(document["failed"]) == {"refuses", "elsewhere"}
    assert "no such weights" in table_text
    assert str(tmp_path) not in json.dumps(document["peers"])
    if program is throughput:
        assert document["peers"]["last wrong"]["agreement"] == 0.75
        assert document["peers"]["upper few"]["ratios"] == [1, 1]
        assert document["peers"]["upper"]["flops_per_s"] == pytest.approx(
            document["peers"]["upper"]["texts_per_s"] * 1e6
        )


def test_ratios_are_paired_by_round() -> None:
    """The median of 4/1, 2/2 and 9/3, where the ratio of medians would be 4/2."""
    own = Measured(
        settings="",
        precision="fp32",
        indices={"all": [0]},
        labels={"all": ["x"]},
        rounds={"all": [[1.0], [2.0], [3.0]]},
    )
    other = Measured(
        settings="",
        precision="fp32",
        indices={"all": [0]},
        labels={"all": ["x"]},
        rounds={"all": [[4.0], [2.0], [9.0]]},
    )
    results = Results({"own": own, throughput.REFERENCE: other}, {}, 1)
    assert throughput._figures(own, results, None, {})["ratio"] == 3.0
    assert latency._case_figures(own.rounds["all"], other.rounds["all"])["ratio"] == 3.0


def test_references_are_peers() -> None:
    assert throughput.REFERENCE in THROUGHPUT
    assert latency.REFERENCE in LATENCY
    assert {comparison.ANSWERS_REFERENCE} <= set(THROUGHPUT) & set(LATENCY)


def test_spread_keeps_order_and_covers_the_file() -> None:
    assert spread(10, 4) == [0, 2, 5, 7]
    assert spread(3, 4) == spread(3, None) == [0, 1, 2]


class _Words:
    """An encoder that counts words and two special tokens."""

    def encode(self, texts: list[str]) -> Any:
        lengths = np.array([len(text.split()) + 2 for text in texts])
        return SimpleNamespace(batch=SimpleNamespace(lengths=lengths))


def test_texts_of_a_length_are_real_ones_first_then_made() -> None:
    real = " ".join(["real"] * 14)
    texts = latency.texts_of_length([real, "too short", "this one is short too"], 16, encoder=_Words())  # type: ignore[arg-type]
    assert len(texts) == latency.TEXTS_A_LENGTH
    assert texts[0] == real
    assert {len(text.split()) for text in texts} == {14}
