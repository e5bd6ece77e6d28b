"""File in, file out: every column is kept, answers are added, rows stay in order, memory stays bounded.

    messages.csv (id, text)  ──►  scored.csv (id, text, predicted_label, predicted_score, truncated)

The output appears under its name only when it is whole.
"""

import csv
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeAlias

from .entities import Entity
from .errors import InputError
from .model import STREAM_CHUNK, Classifier
from .problems import DataError, Problem
from .records import Columns, check_columns, to_records
from .tables import FORMATS, Layout, Row, column_names, format_of, read_table
from .tasks import TASKS, Prediction

Values: TypeAlias = dict[str, Any]
Scorable: TypeAlias = tuple[Row, str | tuple[str, str]]  # a row and its text
Writer: TypeAlias = Callable[[list[Values]], None]


class Scored(NamedTuple):
    """What was done."""

    num_rows: int
    num_truncated: int
    num_abstained: int
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
        target: written in the format of its extension; with the source's delimiter and quoting where the formats are the same.
        columns: which columns hold the texts.
        layout: how the source is laid out.
        overwrite: replace a target that is there.
        on_progress: called with the number of rows done since the last call.

    Raises:
        InputError: a file cannot be used, or a column that would be added exists already.
        DataError: rows that cannot be read; nothing is written.
    """
    if target.resolve() == source.resolve():
        raise InputError(f"--output and --input are the same file, {source}. Choose another --output.")
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists already. Choose another --output, or replace it with --overwrite.")
    form = _form_of(target)
    names = column_names(source, layout)
    if not names:
        raise DataError([Problem(str(source), None, "has no rows")])
    check_columns(names, path=str(source), target=None, columns=columns)
    manifest = classifier.manifest
    added = (
        *TASKS[manifest.task].columns,
        *(("abstained",) if manifest.abstain_below is not None else ()),
        "truncated",
    )
    _check_clash(str(source), names, added)
    started, num_rows, num_truncated, num_abstained = time.perf_counter(), 0, 0, 0
    with _published(target) as temporary, ExitStack() as stack:
        write = stack.enter_context(form.open(temporary, (*names, *added), source, layout))
        for rows in _chunks(source, columns=columns, layout=layout):
            _check_rows(source, rows, names, added, ragged=form.ragged)
            predictions = classifier.predict([text for _, text in rows])
            write([{**row.values, **answer(p)} for (row, _), p in zip(rows, predictions, strict=True)])
            num_rows += len(rows)
            num_truncated += sum(prediction.truncated for prediction in predictions)
            num_abstained += sum(bool(prediction.abstained) for prediction in predictions)
            on_progress(len(rows))
    return Scored(num_rows, num_truncated, num_abstained, time.perf_counter() - started)


def _form_of(target: Path) -> "_Form":
    by_suffix = {suffix: form for name, form in WRITERS.items() for suffix in FORMATS[name].suffixes}
    if target.suffix.lower() not in by_suffix:
        raise InputError(f"{target}: answers are written as {', '.join(by_suffix)}. Got {target.suffix!r} instead.")
    return by_suffix[target.suffix.lower()]


def _chunks(source: Path, *, columns: Columns, layout: Layout) -> Iterator[list[Scorable]]:
    """Read rows and their texts, a chunk at a time; after the first problem the rest is read for its problems alone, which end the run together."""
    problems: list[Problem] = []
    current: list[Row] = []

    def noted() -> Iterator[Row]:
        for row in read_table(source, layout=layout, problems=problems):
            current[:] = [row]
            yield row

    num_rows = 0
    chunk: list[Scorable] = []
    for record in to_records(noted(), path=str(source), target=None, columns=columns, problems=problems):
        if problems:
            chunk.clear()
            continue
        chunk.append((current[0], record.model_input))
        num_rows += 1
        if len(chunk) == STREAM_CHUNK:
            yield chunk
            chunk = []
    if not num_rows and not problems:
        problems.append(Problem(str(source), None, "has no rows"))
    if problems:
        raise DataError(problems)
    if chunk:
        yield chunk


def _check_clash(where: str, names: Iterable[str], added: tuple[str, ...]) -> None:
    clashing = [name for name in added if name in names]
    if clashing:
        raise InputError(
            f"{where} has columns named as the answers would be: {', '.join(clashing)}. Rename or drop them."
        )


def _check_rows(
    source: Path, rows: list[Scorable], names: tuple[str, ...], added: tuple[str, ...], *, ragged: bool
) -> None:
    """Refuse what later rows have and the first had not (JSON lines alone): an answer's name, or a column the target has no place for."""
    known = frozenset(names)
    for row, _ in rows:
        more = [name for name in row.values if name not in known]
        if more:
            _check_clash(f"{source}:{row.line}:", more, added)
        if more and not ragged:
            raise InputError(
                f"{source}:{row.line}: has the columns {', '.join(more)}, which the first row lacks. Write .jsonl, which keeps them."
            )


def answer(prediction: Prediction) -> Values:
    """Lay an answer out as columns of plain JSON values."""
    fields = TASKS[prediction.task].columns
    columns = {column: _plain(getattr(prediction, field)) for column, field in fields.items()}
    if prediction.abstained is not None:
        columns["abstained"] = prediction.abstained
    return columns | {"truncated": prediction.truncated}


def _cell(value: Any) -> Any:
    """Write lists, objects and truth values as JSON, for files whose cells hold text alone."""
    if value is None:
        return ""
    return _as_json(value) if isinstance(value, list | dict | bool) else value


def _as_json(value: Any) -> str:
    return json.dumps(_finite(value), ensure_ascii=False, default=str, allow_nan=False)


def _finite(value: Any) -> Any:
    """Put null for numbers that JSON has none for; a Parquet file may hold them."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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
    except OSError as exc:
        raise InputError(f"{target}: cannot be written: {exc.strerror or exc}") from exc
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _delimited(
    file: Path, names: tuple[str, ...], source: Path, layout: Layout, *, form: str, delimiter: str, quoting: bool
) -> Iterator[Writer]:
    if format_of(source, layout) == form:
        delimiter = (layout.delimiter or delimiter).replace("\\t", "\t")  # as tables.py reads it
        quoting = quoting if layout.quoting is None else layout.quoting
    with file.open("w", encoding="utf-8", newline="") as stream:
        # csv quotes the characters of its line end; lines end in \n all the same, but a lone \r must be quoted to be read back.
        lines = SimpleNamespace(write=lambda line: stream.write(line.removesuffix("\r\n") + "\n"))
        options: dict[str, Any] = {} if quoting else {"quoting": csv.QUOTE_NONE, "quotechar": None}
        writer = csv.writer(lines, delimiter=delimiter, lineterminator="\r\n", **options)

        def write(rows: list[Values]) -> None:
            try:
                writer.writerows([[_cell(row.get(name)) for name in names] for row in rows])
            except csv.Error as exc:
                raise InputError(
                    f"a text holds {delimiter!r} or a line break, which a .{form} file without quotes cannot: write .jsonl or .parquet instead."
                ) from exc

        write([dict(zip(names, names, strict=True))])
        yield write


@contextmanager
def _json_lines(file: Path, names: tuple[str, ...], source: Path, layout: Layout) -> Iterator[Writer]:
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        yield lambda rows: stream.writelines(_as_json(row) + "\n" for row in rows)


@contextmanager
def _parquet(file: Path, names: tuple[str, ...], source: Path, layout: Layout) -> Iterator[Writer]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as exc:
        raise InputError("Parquet files need pyarrow: pip install 'portabert[score]'") from exc
    given = pyarrow.parquet.read_schema(source) if format_of(source, layout) == "parquet" else pyarrow.schema([])
    types = dict(zip(given.names, given.types, strict=True))
    types |= {name: pyarrow.infer_type([value]) for name, value in SAMPLES.items()}
    with ExitStack() as stack:
        writers: list[Any] = []

        def write(rows: list[Values]) -> None:
            try:
                if not writers:  # where nothing else says a column's type, the first chunk does
                    found = {
                        name: types.get(name) or pyarrow.infer_type([row.get(name) for row in rows]) for name in names
                    }
                    schema = pyarrow.schema(found.items())
                    writers.append(stack.enter_context(pyarrow.parquet.ParquetWriter(file, schema)))
                writers[0].write_table(pyarrow.Table.from_pylist(rows, schema=writers[0].schema))
            except pyarrow.ArrowException as exc:
                raise InputError(
                    f"{exc}. A Parquet column has one type, which its first {STREAM_CHUNK:,} rows decide: write .jsonl instead."
                ) from exc

        yield write


class _Form(NamedTuple):
    """How a format is written, and whether its rows may differ in their columns."""

    open: Callable[[Path, tuple[str, ...], Path, Layout], AbstractContextManager[Writer]]
    ragged: bool


WRITERS: dict[str, _Form] = {
    "csv": _Form(partial(_delimited, form="csv", delimiter=",", quoting=True), False),
    "tsv": _Form(partial(_delimited, form="tsv", delimiter="\t", quoting=False), False),
    "jsonl": _Form(_json_lines, True),
    "parquet": _Form(_parquet, False),
}

# An answer in every column that may be added, for its type.
_SAMPLE = {
    "label": "",
    "score": 0.0,
    "labels": [""],
    "scores": [0.0],
    "value": 0.0,
    "entities": [Entity("", "", 0, 0, 0.0)._asdict()],
}
SAMPLES: Values = {column: _SAMPLE[field] for task in TASKS.values() for column, field in task.columns.items()} | {
    "abstained": False,
    "truncated": False,
}
