"""File in, file out: what is written, in every format."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime import score
from runtime.errors import InputError
from runtime.records import Columns
from runtime.score import answer
from runtime.tables import Layout
from runtime.testing import LABELS

from .scoring import FORMATS, ROWS, left, pa, pq, read, run, write

pytestmark = pytest.mark.filterwarnings("ignore:texts longer than:UserWarning")


def plain(value: Any) -> Any:
    """Give a value as a reader of any format has it: cells of CSV and TSV are read as JSON where they are."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return value


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_every_format_keeps_order_and_columns_and_adds_the_answers(
    source: str, target: str, load: Callable[..., runtime.Classifier], tmp_path: Path
) -> None:
    classifier = load()
    scored = run(classifier, write(tmp_path / f"in.{source}", ROWS), tmp_path / f"out.{target}")
    assert (scored.num_rows, scored.num_truncated) == (4, 1)
    found = read(tmp_path / f"out.{target}")
    assert [list(row) for row in found] == [
        ["id", "text", "note", "predicted_label", "predicted_score", "truncated"]
    ] * 4
    assert [{name: row[name] for name in ROWS[0]} for row in found] == ROWS
    for row, prediction in zip(found, classifier.predict([row["text"] for row in ROWS]), strict=True):
        assert row["predicted_label"] == prediction.label
        assert float(row["predicted_score"]) == prediction.score
        assert plain(row["truncated"]) is prediction.truncated


@pytest.mark.parametrize("target", FORMATS)
def test_a_bundle_with_an_abstain_level_adds_a_column(
    target: str, load: Callable[..., runtime.Classifier], tmp_path: Path
) -> None:
    scores = sorted(prediction.score or 0 for prediction in load().predict([row["text"] for row in ROWS]))
    classifier = load(abstain_below=scores[1])
    scored = run(classifier, write(tmp_path / "in.jsonl", ROWS), tmp_path / f"out.{target}")
    found = read(tmp_path / f"out.{target}")
    assert list(found[0])[-3:] == ["predicted_score", "abstained", "truncated"]
    assert scored.num_abstained == sum(plain(row["abstained"]) for row in found) == 1
    for row, prediction in zip(found, classifier.predict([row["text"] for row in ROWS]), strict=True):
        assert plain(row["abstained"]) is prediction.abstained


def test_a_column_named_abstained_is_in_the_way_only_of_a_level(
    load: Callable[..., runtime.Classifier], tmp_path: Path
) -> None:
    source = write(tmp_path / "in.jsonl", [{**row, "abstained": "mine"} for row in ROWS])
    run(load(), source, tmp_path / "out.jsonl")
    assert read(tmp_path / "out.jsonl")[0]["abstained"] == "mine"
    with pytest.raises(InputError, match="has columns named as the answers would be: abstained"):
        run(load(abstain_below=0.5), source, tmp_path / "more.jsonl")


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("task", LABELS)
def test_every_task_adds_its_own_columns(
    task: str, target: str, load: Callable[..., runtime.Classifier], tmp_path: Path
) -> None:
    classifier = load(task)
    run(classifier, write(tmp_path / "in.jsonl", ROWS), tmp_path / f"out.{target}")
    found = read(tmp_path / f"out.{target}")
    for row, prediction in zip(found, classifier.predict([row["text"] for row in ROWS]), strict=True):
        ours = answer(prediction)
        assert list(ours) == [*runtime.TASKS[task].columns, "truncated"]
        for name, value in ours.items():
            assert plain(row[name]) == (value if not isinstance(value, float) else pytest.approx(value, rel=1e-15))


def test_pairs_are_read_from_two_columns(load: Callable[..., runtime.Classifier], tmp_path: Path) -> None:
    rows = [{"b": "late", "a": "my parcel"}, {"b": "my parcel", "a": "late"}]
    classifier = load(pair=True)
    columns = Columns(text="a", text_pair="b")
    run(classifier, write(tmp_path / "in.csv", rows), tmp_path / "out.jsonl", columns=columns)
    expected = classifier.predict([("my parcel", "late"), ("late", "my parcel")])
    assert [row["predicted_score"] for row in read(tmp_path / "out.jsonl")] == [one.score for one in expected]


def test_line_ends_quotes_and_delimiters_inside_a_text_come_back_as_they_were(
    load: Callable[..., runtime.Classifier], tmp_path: Path
) -> None:
    texts = [
        "two\nlines",
        "two\r\nlines",
        "a lone\rreturn",
        'he said "no"',
        '"',
        "a,b;c\td",
        "a\u0085b\u2028c\x0bd",
        "'",
    ]
    rows = [{"text": text, "note": text} for text in texts]
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        run(load(), write(tmp_path / "in.jsonl", rows), tmp_path / name)
        assert [(row["text"], row["note"]) for row in read(tmp_path / name)] == [(text, text) for text in texts]
    assert (tmp_path / "out.csv").read_bytes().count(b"\r\n") == 2  # those of the text; our own lines end in \n


def test_quotes_are_ordinary_characters_in_tsv(load: Callable[..., runtime.Classifier], tmp_path: Path) -> None:
    rows = [{"text": 'he said "no"'}, {"text": '"'}, {"text": "a,b\\n"}]
    run(load(), write(tmp_path / "in.jsonl", rows), tmp_path / "out.tsv")
    assert [row["text"] for row in read(tmp_path / "out.tsv")] == [row["text"] for row in rows]


@pytest.mark.parametrize("text", ["a\tb", "a\nb", "a\r\nb"])
def test_tsv_refuses_what_it_cannot_hold(load: Callable[..., runtime.Classifier], tmp_path: Path, text: str) -> None:
    source = write(tmp_path / "in.jsonl", [*ROWS, {"id": "9", "text": "fine", "note": text}])
    with pytest.raises(
        InputError, match=r"a text holds '\\t' or a line break, which a \.tsv file without quotes cannot"
    ):
        run(load(), source, tmp_path / "out.tsv")
    assert left(tmp_path) == ["in.jsonl"]


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("in.csv", Layout(delimiter=";")),
        ("in.csv", Layout(delimiter="\\t")),
        ("in.csv", Layout(quoting=False)),
        ("in.tsv", Layout(quoting=True)),
        ("in.csv", Layout(columns=("id", "text", "note"))),
    ],
    ids=str,
)
def test_where_formats_are_the_same_the_sources_layout_holds_for_the_target(
    load: Callable[..., runtime.Classifier], tmp_path: Path, name: str, layout: Layout
) -> None:
    """But a header is always written."""
    delimiter = (layout.delimiter or ("," if name == "in.csv" else "\t")).replace("\\t", "\t")
    text = "my\tparcel" if layout.quoting and name == "in.tsv" else "my parcel"
    cells = [["7", f'"{text}"' if layout.quoting else text, 'a "note"' if layout.quoting is False else "note"]]
    header = [] if layout.columns else [["id", "text", "note"]]
    (tmp_path / name).write_text("".join(delimiter.join(row) + "\n" for row in [*header, *cells]))
    target = (tmp_path / name).with_stem("out")
    run(load(), tmp_path / name, target, layout=layout)
    again = Layout(delimiter=layout.delimiter, quoting=layout.quoting)
    (row,) = read(target, again)
    assert (row["id"], row["text"]) == ("7", text)
    assert target.read_text().splitlines()[0].split(delimiter)[:3] == ["id", "text", "note"]


def test_another_format_has_its_own_layout(load: Callable[..., runtime.Classifier], tmp_path: Path) -> None:
    source = write(tmp_path / "in.csv", ROWS, delimiter=";")
    run(load(), source, tmp_path / "out.tsv", layout=Layout(delimiter=";"))
    assert (tmp_path / "out.tsv").read_text(encoding="utf-8").startswith("id\ttext\tnote\tpredicted_label")


def test_extensions_are_known_in_any_case(load: Callable[..., runtime.Classifier], tmp_path: Path) -> None:
    run(load(), write(tmp_path / "in.csv", ROWS), tmp_path / "out.TSV")
    assert (tmp_path / "out.TSV").read_text(encoding="utf-8").startswith("id\ttext\t")
    run(load(), write(tmp_path / "in.csv", ROWS), tmp_path / "out.ndjson")
    assert len(read(tmp_path / "out.ndjson")) == 4


def test_lists_and_objects_are_json_in_a_cell(load: Callable[..., runtime.Classifier], tmp_path: Path) -> None:
    source = write(
        tmp_path / "in.jsonl", [{"text": "late", "tags": ["a", "é"], "more": {"b": None}, "no": None, "yes": True}]
    )
    run(load(), source, tmp_path / "out.csv")
    (row,) = read(tmp_path / "out.csv")
    assert [row[name] for name in ("tags", "more", "no", "yes")] == ['["a", "é"]', '{"b": null}', "", "true"]


def test_parquet_keeps_the_types_of_parquet(load: Callable[..., runtime.Classifier], tmp_path: Path) -> None:
    types = {"id": pa.int16(), "text": pa.large_string(), "when": pa.timestamp("ms"), "empty": pa.string()}
    columns = [[1, 2], ["my parcel", "late"], [0, 1], [None, None]]
    arrays = [pa.array(values, type=kind) for values, kind in zip(columns, types.values(), strict=True)]
    pq.write_table(pa.table(arrays, names=list(types)), tmp_path / "in.parquet")
    run(load(), tmp_path / "in.parquet", tmp_path / "out.parquet")
    schema = pq.read_schema(tmp_path / "out.parquet")
    assert [schema.field(name).type for name in types] == list(types.values())
    assert schema.field("predicted_score").type == pa.float64()


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_numbers_that_json_has_none_for_become_null(
    load: Callable[..., runtime.Classifier], tmp_path: Path, suffix: str
) -> None:
    table = pa.table({"text": ["late"], "seen": [[1.5, math.nan, math.inf]], "price": [math.nan]})
    pq.write_table(table, tmp_path / "in.parquet")
    run(load(), tmp_path / "in.parquet", tmp_path / f"out{suffix}")
    (row,) = read(tmp_path / f"out{suffix}")
    seen = row["seen"] if suffix == ".jsonl" else json.loads(row["seen"])
    assert seen == [1.5, None, None]
    assert row["price"] == (None if suffix == ".jsonl" else "nan")


@pytest.mark.parametrize("task", ["multi-label", "token"])
def test_parquet_knows_an_answers_type_where_nothing_is_found_at_first(
    load: Callable[..., runtime.Classifier], tmp_path: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score, "STREAM_CHUNK", 1)
    classifier = load(task)
    empty = {"multi-label": ("labels", ()), "token": ("entities", ())}[task]
    found = [one for one in classifier.predict([w["text"] for w in ROWS]) if getattr(one, empty[0])]
    assert found
    blank = next(t for t in map(str, range(999)) if not getattr(classifier.predict(t), empty[0]))
    run(classifier, write(tmp_path / "in.jsonl", [{**ROWS[0], "text": blank}, *ROWS]), tmp_path / "out.parquet")
    rows = read(tmp_path / "out.parquet")
    assert rows[0][f"predicted_{empty[0]}"] == []
    assert any(row[f"predicted_{empty[0]}"] for row in rows[1:])
