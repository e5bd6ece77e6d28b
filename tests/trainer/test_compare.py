"""Runs beside each other: the figures are those of the runs, and only what differs is told."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.__main__ import main
from trainer.checkpoint import read_record

MakeRun = Callable[[str, str], Path]


@pytest.mark.slow
def test_figures_and_differing_settings_stand_in_a_table(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = make_run("bert", "single-label"), make_run("roberta", "single-label")
    plot = tmp_path / "compare.png"
    capsys.readouterr()  # what training said
    assert main(["compare", str(one), str(two), "--plot", str(plot)]) == 0
    head, first, second, _, settings, *flags, drawn = capsys.readouterr().out.splitlines()
    assert head.split("  ")[0] == "run"
    assert "accuracy, eval / test" in head
    for line, run in ((first, one), (second, two)):
        record = read_record(run)
        assert record.eval is not None
        assert record.test is not None
        figures = f"{record.eval['accuracy']:.4f} / {record.test['accuracy']:.4f}"
        assert re.split(r"  +", line)[:2] == [str(run), figures]
        assert f"step {record.best_step} of {record.total_steps}" in line
    assert settings.split() == ["setting", str(one), str(two)]
    assert [flag.split()[0] for flag in flags] == ["--model"]
    assert drawn == f"plot: {plot}"
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_run_differs_from_itself_in_nothing(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(make_run("bert", "single-label"))
    assert main(["compare", run, run]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no setting differs"


def test_what_cannot_be_compared_is_told(make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, tagger = make_run("bert", "single-label"), make_run("bert", "token")
    for arguments, message in (
        ([str(run)], "error: compare takes two runs or more. Got 1 instead."),
        ([str(run), str(tagger)], "error: runs of one task can be compared. Got single-label, token instead."),
        ([str(run), str(tmp_path / "none")], f"error: no run at {tmp_path / 'none'}: no such folder."),
        ([str(run), str(run), f"--plot={tmp_path}"], f"error: {tmp_path} cannot be written: "),
    ):
        assert main(["compare", *arguments]) == 1
        assert message in capsys.readouterr().err


def test_a_run_that_is_not_finished_is_told(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = make_run("bert", "single-label")
    half = shutil.copytree(whole, tmp_path / "half")
    (half / "run.json").unlink()
    assert main(["compare", str(whole), str(half)]) == 1
    assert f"error: {half} has no run.json" in capsys.readouterr().err
