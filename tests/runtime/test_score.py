"""File in, file out."""

import csv
import json
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
from runtime.errors import InputError
from runtime.model import STREAM_CHUNK
from runtime.records import DEFAULT_COLUMNS, Columns
from runtime.score import WRITERS, answer, score_file
from runtime.tables import PLAIN, DataError, Layout, Problem, read_table
from runtime.testing import LABELS, FakeEngine, tiny_bundle

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

PAIRS = Columns(text_pair="text_pair")
FORMATS = tuple(WRITERS)
ROWS = [
    {"id": "7", "text": "my parcel never came", "note": "first"},
    {"id": "3", "text": "ok", "note": "shortest"},
    {"id": "5", "text": "thanks! the parcel came in Rome; cancel my 2nd parcel, again and again and again", "note": ""},
    {"id": "1", "text": "Ünïcödé 東京 🙂", "note": "last"},
]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., runtime.Classifier]:
    """Give a function that loads a tiny bundle with a fake engine: (task, pair) → classifier."""

    def make(
        task: str = "single-label", *, pair: bool = False, engine: Any = None, **options: Any
    ) -> runtime.Classifier:
        fake = FakeEngine(num_labels=len(LABELS[task]), per_token=runtime.TASKS[task].per_token)
        folder = tiny_bundle(tmp_path_factory.mktemp("bundle") / "b", task=task, pair=pair)
        return runtime.load(folder, engine=engine or fake, **options)

    return make


def write(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    """Write rows by other means than ours."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            delimiter = options.pop("delimiter", "\t" if path.suffix == ".tsv" else ",")
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator="\n", **options)
            writer.writeheader()
            writer.writerows(rows)
    return path


def read(path: Path, layout: Layout = PLAIN) -> list[dict[str, Any]]:
    problems: list[Problem] = []
    rows = [row.values for row in read_table(path, layout=layout, problems=problems)]
    assert problems == []
    return rows


def run(
    classifier: runtime.Classifier,
    source: Path,
    target: Path,
    *,
    columns: Columns = DEFAULT_COLUMNS,
    layout: Layout = PLAIN,
    overwrite: bool = False,
) -> score.Scored:
    return score_file(classifier, source, target, columns=columns, layout=layout, overwrite=overwrite)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def plain(value: Any) -> Any:
    """Give a value as a reader of any format has it: cells of CSV and TSV are read as JSON where they are."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return value


# What is written


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


pytestmark = pytest.mark.filterwarnings("ignore:texts longer than:UserWarning")


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


# What is refused


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


# What a stop leaves, and what it costs


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
