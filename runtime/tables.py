r"""Read a file of rows, telling every row that cannot be read with its line.

    csv, tsv   lines ──► records of fields ──header──┐
    jsonl      lines ──► objects ────────────────────┼──► Row(line, {column: value})
    conll      lines ──► sentences ──────────────────┤
    parquet    record batches ───────────────────────┘

Lines end at \n or \r\n and nowhere else: U+0085, U+2028, vertical tabs and a lone \r stand inside real text, so neither
`str.splitlines` nor universal newlines are used. Everything streams: memory holds one record or one batch.
"""

import csv
import json
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from .conll import read_sentences
from .errors import InputError
from .lines import Line, read_lines, unreadable
from .problems import DataError, Problem, shown


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How a file is laid out, where its extension does not say it all."""

    format: str | None = None  # a key of FORMATS; None: by the file's extension
    delimiter: str | None = None  # None: a comma in csv, a tab in tsv
    quoting: bool | None = None  # None: yes in csv, no in tsv
    columns: tuple[str, ...] | None = None  # the columns of a csv or tsv file without a header row
    encoding: str = "utf-8"


PLAIN = Layout()


class Dialect(NamedTuple):
    """How the lines of a csv or tsv file are cut into cells.

    Attributes:
        delimiter: one character.
        quoting: whether double quotes enclose cells.
        num_cuts: how many delimiters of a line part cells, -1 for all.
    """

    delimiter: str
    quoting: bool
    num_cuts: int


class Row(NamedTuple):
    """One row and the line, from 1, on which it starts (in Parquet: the row's number)."""

    line: int
    values: dict[str, Any]


def read_table(path: str | Path, *, layout: Layout = PLAIN, problems: list[Problem]) -> Iterator[Row]:
    """Read the rows of a file one after the other.

    Args:
        path: the file.
        layout: what the extension does not say.
        problems: gets one entry for every row that cannot be read; that row is left out.

    Returns:
        The rows, in the file's order. Wholly empty lines are no rows.

    Raises:
        InputError: the file is missing, unreadable or of no known format, or the layout does not fit the format.
    """
    return _open_table(path, layout, problems)[1]


def column_names(path: str | Path, layout: Layout = PLAIN) -> tuple[str, ...]:
    """Return a file's columns in their order; for JSON lines, the keys of the first object.

    Raises:
        DataError: the header row cannot be used.
        InputError: as for `read_table`.
    """
    problems: list[Problem] = []
    columns, _ = _open_table(path, layout, problems)
    if problems and not columns:
        raise DataError(problems)
    return columns


def format_of(path: str | Path, layout: Layout = PLAIN) -> str:
    """Return the format of a file, a key of FORMATS, and refuse options that have no meaning there.

    Raises:
        InputError: no such format, an unknown extension, or an option that the format does not have.
    """
    suffix = Path(path).suffix.lower()
    by_suffix = next((name for name, form in FORMATS.items() if suffix in form.suffixes), None)
    name = layout.format or by_suffix
    if name is None:
        accepted = ", ".join(suffix for form in FORMATS.values() for suffix in form.suffixes)
        raise InputError(f"{path}: files end in {accepted}. Got {suffix!r} instead; name the format with --format")
    if name not in FORMATS:
        raise InputError(f"{path}: --format must be one of {', '.join(FORMATS)}. Got {name!r} instead")
    for option in ("delimiter", "quoting", "columns", "encoding"):
        if option not in FORMATS[name].options and getattr(layout, option) != getattr(PLAIN, option):
            raise InputError(f"{path}: --{option} has no meaning for a {name} file; leave it out")
    return name


def dialect_of(path: str | Path, layout: Layout = PLAIN) -> Dialect | None:
    """Return how a file's lines are cut into cells; None for formats that have no cells.

    Raises:
        InputError: as for `format_of`, or the delimiter cannot be one.
    """
    usual = _DIALECTS.get(format_of(path, layout))
    if usual is None:
        return None
    delimiter = (layout.delimiter or usual.delimiter).replace("\\t", "\t")  # as typed in a shell
    if len(delimiter) != 1 or delimiter in '\r\n"':
        raise InputError(f"{path}: --delimiter must be one character, no quote or line end. Got {delimiter!r} instead")
    quoting = usual.quoting if layout.quoting is None else layout.quoting
    # In text a space ends no cell: it parts as many cells as --columns names, and the last one keeps its spaces.
    text_last = delimiter == " " and layout.columns is not None and not quoting
    return Dialect(delimiter, quoting, len(layout.columns or ()) - 1 if text_last else -1)


class _Table(NamedTuple):
    columns: tuple[str, ...] | None  # None: those of the first row
    rows: Iterator[Row]


class _Format(NamedTuple):
    suffixes: tuple[str, ...]
    options: tuple[str, ...]
    open: Callable[[Path, Layout, list[Problem]], _Table]


_Problems = list[Problem]
_Record = tuple[int, list[str] | None]  # line and fields; None for a record already told as a problem

_JSON_CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*"|(NaN|-?Infinity)')
_LITERAL_QUOTES = "; if quotes are ordinary characters here, switch --quoting off"
_CSV_ERRORS = (  # what Python's csv says → what it means
    ("end of data", "a quoted field of this row is never closed"),
    ("expected after", "text follows the quote that closes a field in line {last} (a quote inside is written twice)"),
    ("new-line", r"a carriage return (\r) that ends no line stands outside quotes; quote the text or remove it"),
)


def _open_table(path: str | Path, layout: Layout, problems: _Problems) -> tuple[tuple[str, ...], Iterator[Row]]:
    columns, rows = FORMATS[format_of(path, layout)].open(Path(path), layout, problems)
    first = list(islice(rows, 1))  # read now, so that a file that cannot be opened fails here
    return tuple(first[0].values) if columns is None and first else columns or (), chain(first, rows)


def _open_delimited(path: Path, layout: Layout, problems: _Problems) -> _Table:
    dialect = dialect_of(path, layout)
    assert dialect is not None
    lines = read_lines(path, encoding=layout.encoding, problems=problems)
    records = _quoted(lines, path, dialect.delimiter, problems) if dialect.quoting else _split(lines, dialect)
    return _with_header(records, path, layout, problems, dialect.quoting)


def _with_header(records: Iterator[_Record], path: Path, layout: Layout, problems: _Problems, quoting: bool) -> _Table:
    line, names = next(records, (None, [])) if layout.columns is None else (None, list(layout.columns))
    repeated = [name for name in dict.fromkeys(names or ()) if (names or []).count(name) > 1]
    if names == []:
        problems.append(Problem(str(path), None, "is empty; the first row names the columns"))
    elif repeated:
        message = f"several columns are named {', '.join(map(repr, repeated))}; give each its own name"
        problems.append(Problem(str(path), line, message))
    if not names or repeated:
        return _Table((), iter(()))
    hint = "quote a text that holds the delimiter" + (
        "" if quoting else " and set --quoting, or name another --delimiter"
    )
    expected = f"{'the header has' if layout.columns is None else '--columns names'} {len(names)}; {hint}"
    return _Table(tuple(names), _rows(records, names, path, expected, problems))


def _rows(records: Iterator[_Record], names: list[str], path: Path, expected: str, told: _Problems) -> Iterator[Row]:
    for line, fields in records:
        if fields is not None and len(fields) == len(names):
            yield Row(line, dict(zip(names, fields, strict=True)))
        elif fields is not None:
            told.append(Problem(str(path), line, f"has {len(fields)} field{'s' * (len(fields) != 1)}, {expected}"))


def _split(lines: Iterator[Line], dialect: Dialect) -> Iterator[_Record]:
    for line in lines:
        if content := line.content():
            yield line.number, content.split(dialect.delimiter, dialect.num_cuts) if line.intact else None


def _quoted(lines: Iterator[Line], path: Path, delimiter: str, problems: _Problems) -> Iterator[_Record]:
    """Read RFC 4180 records; after a bad one go on at the line below its first, so that a stray quote hides no row."""
    csv.field_size_limit(2**31 - 1)  # the default refuses texts over 131,072 characters; more overflows a C long
    taken: list[Line] = []
    again: deque[Line] = deque()

    def feed() -> Iterator[str]:
        while line := again.popleft() if again else next(lines, None):
            taken.append(line)
            yield line.text

    reader = csv.reader(feed(), delimiter=delimiter, strict=True)
    while True:
        taken.clear()
        try:
            fields = next(reader, None)
        except csv.Error as exc:
            meaning = next((told for said, told in _CSV_ERRORS if said in str(exc)), str(exc))
            message = meaning.replace("{last}", str(taken[-1].number)) + _LITERAL_QUOTES
            problems.append(Problem(str(path), taken[0].number, message))
            again.extendleft(reversed(taken[1:]))
            reader = csv.reader(feed(), delimiter=delimiter, strict=True)  # the old feed may have ended
            yield taken[0].number, None
            continue
        if fields is None:
            return
        if fields:
            yield taken[0].number, fields if all(line.intact for line in taken) else None


def _open_jsonl(path: Path, layout: Layout, problems: _Problems) -> _Table:
    return _Table(None, _json_rows(path, layout, problems))


def _json_rows(path: Path, layout: Layout, problems: _Problems) -> Iterator[Row]:
    for line in read_lines(path, encoding=layout.encoding, problems=problems):
        content = line.content()
        if not content or not line.intact:
            continue
        try:
            value = json.loads(content, parse_constant=_refuse_constant, object_pairs_hook=_unique_keys)
            if not isinstance(value, dict):
                raise ValueError(f"{shown(value)} is not an object; write one {{column: value}} a line")
        except json.JSONDecodeError as exc:
            problems.append(Problem(str(path), line.number, f"is not JSON: {exc.msg} at column {exc.colno}"))
        except (ValueError, RecursionError) as exc:
            constant = next((match for match in _JSON_CONSTANT.finditer(content) if match[1]), None)
            where = f" at column {constant.start() + 1}" if constant else ""
            problems.append(Problem(str(path), line.number, f"{exc}{where}"))
        else:
            yield Row(line.number, value)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"is not JSON: {name}")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object")
    return values


def _open_conll(path: Path, layout: Layout, problems: _Problems) -> _Table:
    sentences = read_sentences(path, encoding=layout.encoding, problems=problems)
    return _Table(None, (Row(found.line, {"words": found.words, "tags": found.tags}) for found in sentences))


def _open_parquet(path: Path, _layout: Layout, _problems: _Problems) -> _Table:
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as exc:
        raise InputError(f"{path}: reading Parquet needs pyarrow: pip install 'portabert[score]'") from exc
    try:
        file = parquet.ParquetFile(path)
    except (arrow.ArrowException, OSError) as exc:
        raise unreadable(path, exc) from exc
    names = tuple(file.schema_arrow.names)
    return _Table(names, _parquet_rows(file, path, arrow.ArrowException))


def _parquet_rows(file: Any, path: Path, arrow_error: type[Exception]) -> Iterator[Row]:
    try:
        with file:
            numbers = iter(range(1, file.metadata.num_rows + 1))
            for batch in file.iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    yield Row(next(numbers), values)
    except (arrow_error, UnicodeDecodeError) as exc:
        raise unreadable(path, exc) from exc


_DIALECTS = {"csv": Dialect(",", True, -1), "tsv": Dialect("\t", False, -1)}
_DELIMITED = ("delimiter", "quoting", "columns", "encoding")
FORMATS = {
    "csv": _Format((".csv",), _DELIMITED, _open_delimited),
    "tsv": _Format((".tsv",), _DELIMITED, _open_delimited),
    "jsonl": _Format((".jsonl", ".ndjson"), ("encoding",), _open_jsonl),
    "parquet": _Format((".parquet",), (), _open_parquet),
    "conll": _Format((".conll",), ("encoding",), _open_conll),
}
