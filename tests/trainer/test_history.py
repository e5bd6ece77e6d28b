"""Logs are cut back to the step a run resumes from, and lines that a kill cut are dropped."""

import json
from pathlib import Path

from trainer.history import METRICS, TIMING, History


def fill(run: Path) -> None:
    history = History(run, 0, main=True)
    for step in (10, 20):
        history.add(METRICS, {"step": step, "loss": 1 / step})
        history.add(TIMING, {"step": step, "texts_per_s": 5.0 * step})
    history.add(METRICS, {"step": 20, "eval": {"accuracy": 0.5}})


def test_what_a_resumed_run_will_do_again_is_cut_and_so_is_half_a_line(tmp_path: Path) -> None:
    fill(tmp_path)
    with (tmp_path / METRICS).open("a") as stream:
        stream.write('{"step": 30, "lo')
    for step, left in ((20, [10, 20, 20]), (15, [10]), (0, [])):
        History(tmp_path, step, main=True)
        assert [json.loads(line)["step"] for line in (tmp_path / METRICS).read_text().splitlines()] == left


def test_the_lines_about_the_loss_come_with_their_timing(tmp_path: Path) -> None:
    fill(tmp_path)
    assert History(tmp_path, 20, main=False).lines() == [
        {"step": 10, "loss": 0.1, "texts_per_s": 50.0},
        {"step": 20, "loss": 0.05, "texts_per_s": 100.0},
        {"step": 20, "eval": {"accuracy": 0.5}},
    ]


def test_other_processes_leave_the_files_alone(tmp_path: Path) -> None:
    fill(tmp_path)
    before = (tmp_path / METRICS).read_bytes()
    other = History(tmp_path, 10, main=False)
    other.add(METRICS, {"step": 30})
    assert (tmp_path / METRICS).read_bytes() == before
