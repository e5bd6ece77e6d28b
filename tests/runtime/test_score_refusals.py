"""What is not scored: every file that is refused is named, and nothing is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime import score
from runtime.errors import InputError
from runtime.model import STREAM_CHUNK
from runtime.records import Columns
from runtime.tables import DataError

from .scoring import FORMATS, ROWS, left, read, run, write

pytestmark = pytest.mark.filterwarnings("ignore:texts longer than:UserWarning")

PAIRS = Columns(text_pair="text_pair")


def test_a_target_that_exists_is_replaced_only_when_told(
    load: Callable[..., runtime.Classifier], tmp_path: Path
) -> None:
    source, target = write(tmp_path / "in.csv", ROWS), tmp_path / "out.csv"
    target.write_text("mine")
    with pytest.raises(
        InputError, match=r"out\.csv exists already\. Choose another --output, or replace it with --overwrite"
    ):
        run(load(), source, target)
    assert target.read_text() == "mine"
    run(load(), source, target, overwrite=True)
    assert len(read(target)) == 4


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_is_never_its_own_output(
    load: Callable[..., runtime.Classifier], tmp_path: Path, overwrite: bool
) -> None:
    source = write(tmp_path / "in.csv", ROWS)
    (tmp_path / "link.csv").symlink_to(source)
    for target in (source, tmp_path / "link.csv", tmp_path / ".." / tmp_path.name / "in.csv"):
        with pytest.raises(InputError, match=r"--output and --input are the same file, .*in\.csv\. Choose another"):
            run(load(), source, target, overwrite=overwrite)
    assert read(source) == ROWS


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns(text="body"), r"no column 'body'; .*in\.csv has: id, text, note\. Name it with --text-column"),
        (PAIRS, r"no column 'text_pair'; .*in\.csv has: id, text, note\. Name it with --text-pair-column"),
    ],
)
def test_a_missing_column_is_named_with_those_there_are(
    load: Callable[..., runtime.Classifier], tmp_path: Path, columns: Columns, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(load(), write(tmp_path / "in.csv", ROWS), tmp_path / "out.csv", columns=columns)
    assert left(tmp_path) == ["in.csv"]


def test_columns_named_as_answers_are_refused_all_at_once(
    load: Callable[..., runtime.Classifier], tmp_path: Path
) -> None:
    rows = [{"text": "late", "truncated": "no", "predicted_label": "x", "predicted_labels": "fine here"}]
    with pytest.raises(InputError, match="columns named as the answers would be: predicted_label, truncated"):
        run(load(), write(tmp_path / "in.csv", rows), tmp_path / "out.csv")
    assert left(tmp_path) == ["in.csv"]


def test_a_later_row_may_not_have_an_answers_name_either(
    load: Callable[..., runtime.Classifier], tmp_path: Path
) -> None:
    source = write(tmp_path / "in.jsonl", [{"text": "late"}, {"text": "late", "predicted_label": "mine"}])
    with pytest.raises(InputError, match=r"in\.jsonl:2: has columns named as the answers would be: predicted_label"):
        run(load(), source, tmp_path / "out.jsonl")


def test_columns_that_only_later_rows_have_are_kept_in_json_lines_and_else_refused(
    load: Callable[..., runtime.Classifier], tmp_path: Path
) -> None:
    source = write(tmp_path / "in.jsonl", [{"text": "late", "id": 1}, {"text": "late"}, {"text": "late", "new": 5}])
    run(load(), source, tmp_path / "out.jsonl")
    assert [(row.get("id"), row.get("new")) for row in read(tmp_path / "out.jsonl")] == [
        (1, None),
        (None, None),
        (None, 5),
    ]
    for name in ("out.csv", "out.tsv", "out.parquet"):
        with pytest.raises(
            InputError, match=r"in\.jsonl:3: has the columns new, which the first row lacks. Write \.jsonl"
        ):
            run(load(), source, tmp_path / name)
    assert left(tmp_path) == ["in.jsonl", "out.jsonl"]


@pytest.mark.parametrize(("name", "got"), [("out.txt", "'.txt'"), ("out", "''"), ("out.conll", "'.conll'")])
def test_a_target_of_another_format_is_refused_with_those_there_are(
    load: Callable[..., runtime.Classifier], tmp_path: Path, name: str, got: str
) -> None:
    known = r"\.csv, \.tsv, \.jsonl, \.ndjson, \.parquet"
    with pytest.raises(InputError, match=f"{name}: answers are written as {known}. Got {got} instead"):
        run(load(), write(tmp_path / "in.csv", ROWS), tmp_path / name)


def test_a_folder_that_is_not_there_is_named(load: Callable[..., runtime.Classifier], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere is no folder, so out\.csv cannot be written there\. Make it first"):
        run(load(), write(tmp_path / "in.csv", ROWS), tmp_path / "nowhere" / "out.csv")


def test_what_the_system_refuses_to_write_is_told(
    load: Callable[..., runtime.Classifier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier, source = load(), write(tmp_path / "in.csv", ROWS)
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(InputError, match=r"out\.csv: cannot be written: Is a directory"):
        run(classifier, source, tmp_path / "out.csv", overwrite=True)
    (tmp_path / "out.csv").rmdir()

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"out\.csv: cannot be written: Permission denied"):
        run(classifier, source, tmp_path / "out.csv")
    assert left(tmp_path) == ["in.csv"]


def test_a_missing_source_is_named(load: Callable[..., runtime.Classifier], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"in\.csv: cannot be read: No such file"):
        run(load(), tmp_path / "in.csv", tmp_path / "out.csv")
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "content"), [("in.csv", "id,text\n"), ("in.jsonl", ""), ("in.jsonl", "\n\n"), ("in.csv", "")]
)
@pytest.mark.parametrize("target", FORMATS)
def test_a_source_without_rows_is_refused(
    load: Callable[..., runtime.Classifier], tmp_path: Path, name: str, content: str, target: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=r"has no rows|is empty"):
        run(load(), tmp_path / name, tmp_path / f"out.{target}")
    assert left(tmp_path) == [name]


def test_all_rows_that_cannot_be_read_are_told_at_once_and_nothing_is_written(
    load: Callable[..., runtime.Classifier], tmp_path: Path
) -> None:
    """Although the first chunk was sound and answered before."""
    texts: list[Any] = ["late"] * (2 * STREAM_CHUNK + 50)
    bad = {STREAM_CHUNK + 5: None, STREAM_CHUNK + 9: "", 2 * STREAM_CHUNK + 20: " \n", 2 * STREAM_CHUNK + 40: 5}
    for index, value in bad.items():
        texts[index] = value
    source = write(tmp_path / "in.jsonl", [{"text": text} for text in texts])
    with pytest.raises(DataError) as caught:
        run(load(), source, tmp_path / "out.csv")
    told = [(problem.line, problem.message) for problem in caught.value.problems]
    meanings = ("is NULL", "is empty", "is white space only", r"must hold text. Got 5 (int) instead")
    assert told == [(index + 1, f"column 'text' {meaning}") for index, meaning in zip(bad, meanings, strict=True)]
    assert left(tmp_path) == ["in.jsonl"]


def test_a_parquet_column_that_changes_its_type_is_refused(
    load: Callable[..., runtime.Classifier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "STREAM_CHUNK", 1)
    source = write(tmp_path / "in.jsonl", [{"text": "late", "id": 1}, {"text": "late", "id": "one"}])
    with pytest.raises(InputError, match="A Parquet column has one type, which its first 1 rows decide: write"):
        run(load(), source, tmp_path / "out.parquet")
    assert left(tmp_path) == ["in.jsonl"]


def test_without_pyarrow_parquet_says_what_to_install(
    load: Callable[..., runtime.Classifier], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"Parquet files need pyarrow: pip install 'portabert\[score\]'"):
        run(load(), write(tmp_path / "in.csv", ROWS), tmp_path / "out.parquet")
