import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.conll import entities
from runtime.errors import InputError
from runtime.problems import Problem
from runtime.records import (
    TARGETS,
    Columns,
    DataError,
    Record,
    Span,
    bio_tags,
    check_columns,
    read_records,
    to_records,
    word_spans,
)
from runtime.tables import Layout, Row

PLAIN = Columns()


def convert(values: dict[str, Any], target: str | None, columns: Columns = PLAIN) -> tuple[list[Record], list[str]]:
    problems: list[Problem] = []
    records = list(to_records([Row(7, values)], path="memory", target=target, columns=columns, problems=problems))
    return records, [str(problem) for problem in problems]


def sound(values: dict[str, Any], target: str | None, columns: Columns = PLAIN) -> Record:
    records, problems = convert(values, target, columns)
    assert problems == []
    return records[0]


def complaint(values: dict[str, Any], target: str | None, columns: Columns = PLAIN) -> str:
    records, problems = convert(values, target, columns)
    assert (records, len(problems)) == ([], 1)
    return problems[0].removeprefix("memory:7: ")


def span(start: Any, end: Any, label: Any = "LOC") -> dict[str, Any]:
    return {"start": start, "end": end, "label": label}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "column 'text' is NULL"),
        ("", "column 'text' is empty"),
        (" \t\xa0", "column 'text' is white space only"),
        (5, "column 'text' must hold text. Got 5 (int) instead"),
        ("a\ud83d", r"column 'text' holds half a surrogate pair, '\ud83d', at character 1"),
        ([], "column 'text' is an empty list"),
        (["a", None], "column 'text', word 2, is NULL"),
        (["a", " "], "column 'text', word 2, is white space only"),
        (["a", 5], "column 'text', word 2, must hold text. Got 5 (int) instead"),
    ],
)
def test_a_row_needs_text(text: Any, message: str) -> None:
    assert complaint({"text": text}, None) == message
    if not isinstance(text, list):
        pair = complaint({"text": "a", "b": text}, None, Columns(text_pair="b"))
        assert pair == message.replace("'text'", "'b'")


def test_texts_are_kept_as_they_stand() -> None:
    record = sound({"text": " a\x85b ", "other": "c"}, None, Columns(text_pair="other"))
    assert record == Record(text=" a\x85b ", text_pair="c", line=7)


@pytest.mark.parametrize(("label", "expected"), [("a b", "a b"), (0, "0"), (True, "True"), ("1.0", "1.0")])
def test_a_label_is_text_or_becomes_it(label: Any, expected: str) -> None:
    assert sound({"text": "a", "label": label}, "label").label == expected


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (None, "column 'label' is NULL"),
        ("", "label is empty"),
        (" ", "label is white space only"),
        (1.0, "label 1.0 is a float, as integers with gaps become; write integers or text"),
        (float("nan"), "label nan is a float, as integers with gaps become; write integers or text"),
        (["a"], "label must be text, an integer or a boolean. Got ['a'] instead"),
    ],
)
def test_a_label_of_another_kind_is_told(label: Any, message: str) -> None:
    assert complaint({"text": "a", "label": label}, "label") == message


@pytest.mark.parametrize(
    ("labels", "expected"),
    [("4,27", ("4", "27")), (" a , b", ("a", "b")), ("", ()), (" ", ()), ([], ()), ([1, "b"], ("1", "b"))],
)
def test_labels_are_a_list_or_a_cell_with_separators(labels: Any, expected: tuple[str, ...]) -> None:
    assert sound({"text": "a", "labels": labels}, "labels").labels == expected


def test_the_label_separator_can_be_named() -> None:
    columns = Columns(label="topics", label_separator="|")
    assert sound({"text": "a", "topics": "a, b|c"}, "labels", columns).labels == ("a, b", "c")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "column 'labels' is NULL"),
        ("a,,b", "label is empty"),
        ("a,a", "labels name one twice: ['a', 'a']"),
        ([2.0], "label 2.0 is a float, as integers with gaps become; write integers or text"),
        ([None], "label must be text, an integer or a boolean. Got None instead"),
        (3, "labels must be a list, or text parted by ','. Got 3 instead"),
    ],
)
def test_labels_of_another_kind_are_told(labels: Any, message: str) -> None:
    assert complaint({"text": "a", "labels": labels}, "labels") == message


@pytest.mark.parametrize(("score", "expected"), [("4.5", 4.5), (3, 3.0), (-0.5, -0.5), (Decimal("1.25"), 1.25)])
def test_a_score_is_a_number(score: Any, expected: float) -> None:
    assert sound({"text": "a", "score": score}, "score").score == expected


@pytest.mark.parametrize("score", ["", "nan", "inf", float("inf"), "4,5", "1_000", True, [1], 10**400])
def test_a_score_that_is_no_finite_number_is_told_with_its_value(score: Any) -> None:
    message = complaint({"text": "a", "score": score}, "score")
    assert message.startswith(f"score must be a finite number, such as 4.5. Got {score!r}"[:90])


def test_spans_are_put_in_the_order_of_the_text() -> None:
    record = sound({"text": "Rome, Paris", "entities": [span(6, 11), span(0, 4, "CITY")]}, "spans")
    assert record.spans == (Span(start=0, end=4, label="CITY"), Span(start=6, end=11, label="LOC"))
    assert sound({"text": "Rome", "entities": []}, "spans").spans == ()


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        (None, "column 'entities' is NULL"),
        ("[]", "spans must be a list, .*Got '\\[\\]' instead"),
        ([span(0, 12)], "span 0 to 12 must be characters of the text, 0 to 11"),
        ([span(-1, 4)], "span -1 to 4 must be"),
        ([span(4, 4)], "span 4 to 4 must be"),
        ([span(0.0, 4)], r"span 0\.0 to 4 must be"),
        ([span(False, 4)], "span False to 4 must be"),
        ([span(0, 4), span(3, 5, "ORG")], r"span 0 to 4 \(LOC\) and span 3 to 5 \(ORG\) overlap"),
        ([span(0, 4), span(0, 4)], r"span 0 to 4 \(LOC\) and span 0 to 4 \(LOC\) overlap"),
        ([span(0, 4, "")], "label is empty"),
        ([span(0, 4, None)], "label must be text, an integer or a boolean. Got None"),
        ([{"start": 0, "end": 4}], "a span has start, end and label: .*Got {'start': 0, 'end': 4} instead"),
        (["B-LOC"], "a span has start, end and label: .*Got 'B-LOC' instead"),
    ],
)
def test_spans_that_do_not_fit_the_text_are_told(spans: Any, message: str) -> None:
    assert re.match(message, complaint({"text": "Rome, Paris", "entities": spans}, "spans"))


@pytest.mark.parametrize("columns", [Columns(), Columns(text="tokens", label="ner_tags")])
def test_tagged_words_become_a_text_with_spans(columns: Columns) -> None:
    names = ("words", "tags") if columns.label is None else ("tokens", "ner_tags")
    record = sound(dict(zip(names, (["In", "New", "York"], ["O", "B-LOC", "I-LOC"]), strict=True)), "spans", columns)
    assert record.text == "In New York"
    assert record.words == ((0, 2), (3, 6), (7, 11))
    assert record.spans == (Span(start=3, end=11, label="LOC"),)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (["O"], "has 2 words and 1 tags; each word has one tag"),
        (["O", "X-LOC"], "tag 'X-LOC' is neither O nor one of"),
        ([0, 1], "a span has start, end and label: "),
        (None, "column 'tags' is NULL"),
    ],
)
def test_tags_that_do_not_fit_the_words_are_told(tags: Any, message: str) -> None:
    assert complaint({"words": ["In", "Rome"], "tags": tags}, "spans").startswith(message)


def test_a_conll_file_gives_the_same_records_as_its_words_and_tags(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("In O\nRome I-LOC\n\t\nYes O\n", encoding="utf-8")
    rows = [{"words": ["In", "Rome"], "tags": ["O", "B-LOC"]}, {"words": ["Yes"], "tags": ["O"]}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    records = read_records(tmp_path / "a.conll", target="spans")
    assert [record.line for record in records] == [1, 4]
    as_json = read_records(tmp_path / "a.jsonl", target="spans")
    assert [(one.text, one.words, one.spans) for one in records] == [
        (one.text, one.words, one.spans) for one in as_json
    ]


def test_all_problems_of_a_file_are_raised_at_once(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_bytes(b"text,label\nfine,1\n,1\na,\nb,1,2\n\xf0,1\n")
    with pytest.raises(DataError, match=r"train\.csv: 4 problems\n") as caught:
        read_records(path, target="label")
    messages = [(problem.line, problem.message[:17]) for problem in caught.value.problems]
    assert messages == [
        (3, "column 'text' is "),
        (4, "label is empty"),
        (5, "has 3 fields, the"),
        (6, "byte 0xf0 at colu"),
    ]


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("text,label\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.csv: has no rows"):
        read_records(path, target="label")
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.csv: is empty; the first row names the columns"):
        read_records(path, target="label")


def test_unlabelled_rows_need_no_label(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("a\n", encoding="utf-8")
    assert read_records(path, target=None, layout=Layout(columns=("text",))) == [Record(text="a", line=1)]


def test_a_missing_column_is_told_once_with_what_there_is_and_the_flag(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    path.write_text("text, sentiment,\na,1,2\nb,1,2\n", encoding="utf-8")
    there = r"train\.csv has: text, ' sentiment', ''\. Name it with --label-column$"
    with pytest.raises(InputError, match=f"^no column 'label'; .*{there}"):
        read_records(path, target="label")
    with pytest.raises(
        InputError, match=r"^no column 'a', no column 'b'; x has: c\. .*--text-column, --text-pair-column$"
    ):
        check_columns(["c"], path="x", target=None, columns=Columns(text="a", text_pair="b"))


def test_a_json_line_may_not_lack_a_column_that_the_first_has(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": 1}\n{"text": "b"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.jsonl:2: no column 'label' in this row; it has: text"):
        read_records(path, target="label")


def test_nulls_of_parquet_are_told_by_row(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"text": ["a", None, "c"], "label": [1.0, 0.0, None]}), path)
    with pytest.raises(DataError) as caught:
        read_records(path, target="label")
    expected = [(1, "label 1.0 is a fl"), (2, "column 'text' is "), (3, "column 'label' is")]
    assert [(problem.line, problem.message[:17]) for problem in caught.value.problems] == expected


def test_every_target_sets_the_field_of_its_name() -> None:
    cells = {"label": "x", "labels": ["x"], "score": 1, "spans": []}
    assert TARGETS.keys() == cells.keys()
    for target, cell in cells.items():
        record = sound({"text": "a", TARGETS[target].columns[0]: cell}, target)
        assert [name for name in cells if getattr(record, name) is not None] == [target]


def test_raw_text_is_split_into_words_and_marks() -> None:
    text = "Don't go,\tMálaga_2!"
    assert [text[start:end] for start, end in word_spans(text)] == ["Don", "'", "t", "go", ",", "Málaga_2", "!"]


def test_a_word_belongs_to_the_first_span_that_touches_it() -> None:
    words = ((0, 4), (5, 9), (10, 14))
    assert bio_tags(words, [Span(start=2, end=7, label="A")]) == ["B-A", "I-A", "O"]
    halves = [Span(start=7, end=9, label="B"), Span(start=5, end=7, label="A"), Span(start=9, end=10, label="C")]
    assert bio_tags(words, halves) == ["O", "B-A", "O"]
    assert bio_tags(words, [Span(start=0, end=6, label="A"), Span(start=6, end=14, label="B")]) == ["B-A", "I-A", "B-B"]
    assert bio_tags((), []) == []


WORDS = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)


@given(tagged=st.lists(st.tuples(WORDS, st.sampled_from(["O", "B-A", "I-A", "B-B", "I-B"])), min_size=1))
def test_tagged_words_survive_as_text_and_spans(tagged: list[tuple[str, str]]) -> None:
    words, tags = [word for word, _ in tagged], [tag for _, tag in tagged]
    record = sound({"words": words, "tags": tags}, "spans")
    assert record.words is not None
    assert record.spans is not None
    assert [record.text[start:end] for start, end in record.words] == words
    assert entities(bio_tags(record.words, record.spans)) == entities(tags)
