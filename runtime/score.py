"""File in, file out: every column is kept, answers are added, rows stay in order, memory stays bounded.

    messages.csv (id, text)  ──►  scored.csv (id, text, predicted_label, predicted_score, truncated)

The output appears under its name only when it is whole.
"""

import csv
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from .errors import InputError
from .model import STREAM_CHUNK, Classifier
from .records import Columns, check_columns, to_records
from .tables import DataError, Layout, Problem, Row, column_names, format_of, read_table
from .tasks import TASKS, Prediction

Values: TypeAlias = dict[str, Any]
Writer: TypeAlias = Callable[[list[Values]], None]


class Scored(NamedTuple):
    """What was done."""

    num_rows: int
    num_truncated: int
    seconds: float


def score_file(
    classifier: Classifier,
    source: Path,
    target: Path,
    *,
    columns: Columns,
    layout: Layout,
    overwrite: bool = False,
    on_progress: Callable[[int], None] = lambda num_rows: None,
) -> Scored:
    """Answer every row of a file.

    Args:
        classifier: a loaded bundle.
        source: CSV, TSV, JSON lines or Parquet.
        target: written in the format of its extension; with the source's delimiter and quoting where both are CSV or TSV.
        columns: which columns hold the texts.
        layout: how the source is laid out.
        overwrite: replace a target that is there.
        on_progress: called with the number of rows done since the last call.

    Raises:
        InputError: a file cannot be used, or a column that would be added exists already.
        DataError: rows that cannot be read; nothing is written.
    """
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists already. Choose another --output, or replace it with --overwrite.")
    if target.resolve() == source.resolve():
        raise InputError(f"--output and --input are the same file, {source}. Choose another --output.")
    names = column_names(source, layout)
    check_columns(names, path=str(source), target=None, columns=columns)
    added = [*TASKS[classifier.manifest.task].columns, "truncated"]
    clashing = [name for name in added if name in names]
    if clashing:
        raise InputError(
            f"{source} has columns named as the answers would be: {', '.join(clashing)}. Rename or drop them."
        )
    started, num_rows, num_truncated = time.perf_counter(), 0, 0
    with _published(target) as temporary, ExitStack() as stack:
        write = stack.enter_context(WRITERS[format_of(target, Layout())](temporary, [*names, *added], layout))
        for rows in _chunks(source, columns=columns, layout=layout):
            predictions = classifier.predict([text for _, text in rows])
            write([{**row.values, **answer(p)} for (row, _), p in zip(rows, predictions, strict=True)])
            num_rows += len(rows)
            num_truncated += sum(prediction.truncated for prediction in predictions)
            on_progress(len(rows))
    return Scored(num_rows, num_truncated, time.perf_counter() - started)


def _chunks(source: Path, *, columns: Columns, layout: Layout) -> Iterator[list[tuple[Row, str | tuple[str, str]]]]:
    """Read rows and their texts, a chunk at a time; the first chunk with a problem ends the run with all of its problems."""
    problems: list[Problem] = []
    held: list[Row] = []

    def noted() -> Iterator[Row]:
        for row in read_table(source, layout=layout, problems=problems):
            held.append(row)
            yield row

    chunk: list[tuple[Row, str | tuple[str, str]]] = []
    for record in to_records(noted(), path=str(source), target=None, columns=columns, problems=problems):
        chunk.append((held[-1], record.text if record.text_pair is None else (record.text, record.text_pair)))
        if len(chunk) == STREAM_CHUNK and not problems:
            yield chunk
            chunk = []
            held.clear()
    if problems:
        raise DataError(problems)
    if chunk:
        yield chunk


def answer(prediction: Prediction) -> Values:
    """Lay an answer out as columns of plain JSON values."""
    columns = TASKS[prediction.task].columns
    return {column: _plain(getattr(prediction, field)) for column, field in columns.items()} | {
        "truncated": prediction.truncated
    }


def _cells(values: Values) -> Values:
    """Write lists and truth values as JSON, for files whose cells hold text alone."""
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, list | bool) else value
        for name, value in values.items()
    }


def _plain(value: Any) -> Any:
    """Turn tuples and entities into what JSON and Parquet know."""
    if hasattr(value, "_asdict"):
        return value._asdict()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


@contextmanager
def _published(target: Path) -> Iterator[Path]:
    """Give a temporary path beside the target, which takes its name when the block ends well."""
    if not target.parent.is_dir():
        raise InputError(f"{target.parent} is no folder, so {target.name} cannot be written there. Make it first.")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _delimited(file: Path, names: list[str], layout: Layout) -> Iterator[Writer]:
    tabs = file.name.removesuffix(".tmp").rpartition(".")[0].endswith(".tsv")
    with file.open("w", encoding="utf-8", newline="") as stream:
        if tabs:
            writer: Any = csv.writer(
                stream, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, escapechar=None, lineterminator="\n"
            )
        else:
            writer = csv.writer(stream, delimiter=layout.delimiter or ",", lineterminator="\n")
        writer.writerow(names)

        def write(rows: list[Values]) -> None:
            try:
                writer.writerows(
                    [["" if row.get(name) is None else row[name] for name in names] for row in map(_cells, rows)]
                )
            except csv.Error as exc:
                raise InputError(
                    "a text holds a tab or line break, which .tsv cannot: write .csv, .jsonl or .parquet instead."
                ) from exc

        yield write


@contextmanager
def _json_lines(file: Path, names: list[str], layout: Layout) -> Iterator[Writer]:
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        yield lambda rows: stream.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)


@contextmanager
def _parquet(file: Path, names: list[str], layout: Layout) -> Iterator[Writer]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as exc:
        raise InputError("Parquet files need pyarrow: pip install 'portabert[score]'") from exc
    with ExitStack() as stack:
        writers: list[Any] = []

        def write(rows: list[Values]) -> None:
            table = pyarrow.Table.from_pylist(rows, schema=writers[0].schema if writers else None)
            if not writers:  # the first chunk's types hold for the file
                writers.append(stack.enter_context(pyarrow.parquet.ParquetWriter(file, table.schema)))
            writers[0].write_table(table)

        yield write


WRITERS: dict[str, Callable[[Path, list[str], Layout], AbstractContextManager[Writer]]] = {
    "csv": _delimited,
    "tsv": _delimited,
    "jsonl": _json_lines,
    "parquet": _parquet,
}
