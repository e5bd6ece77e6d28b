"""`python -m trainer check`: what people and programs see of it, and what training makes of it."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from runtime.errors import InputError
from trainer.__main__ import main
from trainer.config import TrainConfig
from trainer.data import load_data
from trainer.doctor.check import read_dataset
from trainer.doctor.config import CheckConfig
from trainer.doctor.overview import sum_up
from trainer.doctor.page import render_section
from trainer.doctor.rules import examine
from trainer.doctor.terminal import print_overview

ROWS = "text,label\n" + "".join(
    f"{'apple' if n % 2 else 'beet'} {n},{'fruit' if n % 2 else 'root'}\n" for n in range(20)
)
ERROR, WARNING, NOTE = ",fruit\n", "apple 1,fruit\n", "a <b>pear</b>,fruit\n"


def write(folder: Path, *rows: str) -> str:
    file = folder / "train.csv"
    file.write_text(ROWS + "".join(rows), encoding="utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("row", "code", "strict"),
    [("", 0, 0), (ERROR, 1, 1), (WARNING, 0, 1), (NOTE, 0, 0)],
    ids=["sound", "error", "warning", "note"],
)
def test_the_exit_code_is_1_for_errors_and_with_strict_for_warnings(
    tmp_path: Path, row: str, code: int, strict: int
) -> None:
    assert main(["check", f"--train={write(tmp_path, row)}"]) == code
    assert main(["check", f"--train={write(tmp_path, row)}", "--strict"]) == strict


def test_rows_that_cannot_be_used_do_not_hide_what_else_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["check", f"--train={write(tmp_path, ERROR, WARNING, NOTE)}"])
    said = capsys.readouterr().out
    places = [
        said.index(word)
        for word in ("Errors", "unusable-row", "Warnings", "duplicate", "Notes", "markup", "1 error, 1 warning, 1 note")
    ]
    assert places == sorted(places)


def test_what_is_no_terminal_gets_plain_text_of_at_most_80_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    long = tmp_path / ("a_long_folder_name_" * 4)
    long.mkdir()
    main(["check", f"--train={write(long, ERROR, WARNING, NOTE)}", f"--eval={write(tmp_path, WARNING)}"])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)
    assert [line for line in lines if line != line.rstrip()] == []


def test_a_terminal_gets_colours_and_text_is_no_markup(tmp_path: Path) -> None:
    data = read_dataset(CheckConfig(train=write(tmp_path, "plum,[red]fruit[/red]\n", "fig,[RED]fruit[/RED]\n", ERROR)))
    written = io.StringIO()
    print_overview(
        sum_up("single-label", data, examine(data, quick=False)), Console(file=written, force_terminal=True, width=100)
    )
    assert "\x1b[1;31m" in written.getvalue()
    assert "[RED]fruit[/RED]" in written.getvalue()


def test_the_page_stands_alone_and_escapes_labels(tmp_path: Path) -> None:
    page = tmp_path / "check.html"
    train = write(tmp_path, "plum,<script>x</script>\n", "fig,<SCRIPT>x</SCRIPT>\n", ERROR)
    main(["check", f"--train={train}", f"--report={page}"])
    html = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in html
    assert "<script" not in html.lower()
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert "unusable-row" in html
    assert "&lt;SCRIPT&gt;" in html


def test_the_json_file_has_every_finding(tmp_path: Path) -> None:
    file = tmp_path / "check.json"
    main(["check", f"--train={write(tmp_path, ERROR, WARNING)}", f"--json={file}"])
    told = json.loads(file.read_text(encoding="utf-8"))
    assert (told["format"], told["task"], told["unit"]) == (1, "single-label", "words")
    assert told["splits"][0]["num_rows"] == 22
    assert {name: told["findings"][1][name] for name in ("rule", "severity", "split", "count", "total", "lines")} == {
        "rule": "duplicate", "severity": "warning", "split": "train", "count": 1, "total": 22, "lines": [23],
    }  # fmt: skip


def test_files_that_are_there_are_replaced_only_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "check.html"
    page.write_text("mine")
    flags = ["check", f"--train={write(tmp_path)}", f"--report={page}"]
    assert main(flags) == 1
    assert "only with --overwrite. Got" in capsys.readouterr().err
    assert page.read_text() == "mine"
    assert main([*flags, "--overwrite"]) == 0


def test_wrong_labels_are_not_looked_for_where_there_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--train=demo:urgency", "--task=regression", "--label-errors"]) == 1
    assert "--label-errors needs labels of whole texts" in capsys.readouterr().err


def test_a_model_that_is_not_here_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--model=no/such-model"]) == 1
    assert "--model no/such-model: its tokenizer is not on this machine" in capsys.readouterr().err


def test_flags_of_training_alone_are_refused() -> None:
    with pytest.raises(SystemExit):
        main(["check", "--epochs=3"])


# in training


def test_training_warns_in_one_line_a_finding_and_keeps_all_for_the_report(tmp_path: Path) -> None:
    data = load_data(TrainConfig(train=write(tmp_path, WARNING, NOTE), eval_fraction=0.0))
    assert [note for note in data.notes if note.startswith("warning")] == [
        "warning: duplicate: train: 1 of 22 rows (4.5 %) repeats an earlier row, label and all. (line 22)"
    ]
    assert {finding.rule for finding in data.findings} == {"duplicate", "markup"}


def test_strict_stops_training_where_rows_give_a_warning(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--strict, and the rows give warnings:\n  warning: duplicate"):
        load_data(TrainConfig(train=write(tmp_path, WARNING), strict=True))
    load_data(TrainConfig(train=write(tmp_path, NOTE), strict=True))


def test_more_rows_than_are_compared_are_said_to_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer.doctor import rules

    monkeypatch.setitem(rules.RULES, "near-leak", rules.RULES["near-leak"]._replace(most_rows=10))
    notes = load_data(TrainConfig(train=write(tmp_path))).notes
    assert "near-leak: left out, for 20 rows are more than the 10 it looks at" in notes


def test_a_runs_report_has_the_findings_and_no_text_of_a_row(tmp_path: Path) -> None:
    findings = load_data(TrainConfig(train=write(tmp_path, WARNING, NOTE), eval_fraction=0.0)).findings
    section = render_section(findings)
    assert "duplicate" in section
    assert "line 22" in section
    assert "pear" not in section
    assert "Nothing was found" in render_section([])
