"""Write a copy of a file with rows left out and cells changed. All other lines are copied as they are, byte for byte."""

import codecs
import csv
import io
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from runtime.conll import is_word
from runtime.lines import Line, read_lines
from runtime.tables import Layout, Row, dialect_of, format_of

NOBODY = 0  # lines are numbered from 1


class Copy(NamedTuple):
    """What a copy is made of.

    Attributes:
        source: the file.
        layout: how it is laid out.
        rows: its rows, by line.
        kept: the lines of the rows that stay.
        values: new values of some of them, by line.
    """

    source: Path
    layout: Layout
    rows: Mapping[int, Row]
    kept: Collection[int]
    values: Mapping[int, Mapping[str, Any]]


def write_copy(copy: Copy, target: Path) -> None:
    """Write a copy beside its place and rename it; what is there is replaced."""
    temporary = target.with_name(f".{target.name}.tmp")
    if format_of(copy.source, copy.layout) == "parquet":
        _write_parquet(copy, temporary)
    else:
        temporary.write_bytes(_encoded("".join(_lines(copy)), copy))
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    temporary.replace(target)


def can_hold(source: Path, layout: Layout, row: Row) -> bool:
    """Whether a file of this format and encoding can hold a row."""
    form, dialect = format_of(source, layout), dialect_of(source, layout)
    if form == "parquet":
        return True
    cells = [str(part) for cell in row.values.values() for part in (cell if isinstance(cell, list) else [cell])]
    try:
        "".join(cells).encode(layout.encoding)
    except UnicodeEncodeError:
        return False
    if form == "conll":
        return not any(char.isspace() for tag in row.values["tags"] for char in tag)
    if dialect is None or dialect.quoting:
        return True
    line = dialect.delimiter.join(cells)
    return not set("\r\n") & set(line) and line.split(dialect.delimiter, dialect.num_cuts) == cells


def _encoded(text: str, copy: Copy) -> bytes:
    is_utf8 = codecs.lookup(copy.layout.encoding).name == "utf-8"
    with copy.source.open("rb") as stream:
        has_mark = is_utf8 and stream.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
    return codecs.BOM_UTF8 * has_mark + text.encode(copy.layout.encoding)


def _lines(copy: Copy) -> Iterator[str]:
    """Give the lines of a copy: the header, what parts rows, and the rows that stay; a row that changes is written anew."""
    lines = list(read_lines(copy.source, encoding=copy.layout.encoding, problems=[]))
    form = _TEXT_FORMS[format_of(copy.source, copy.layout)]
    owners = {start + more: start for start, row in copy.rows.items() for more in range(form.num_lines(row))}
    header = _header(copy, lines)
    for line in lines:
        start = owners.get(line.number, NOBODY)
        if line.number in header or (start == NOBODY and not form.is_content(line)):
            yield line.text
        elif start in copy.kept and start in copy.values:
            yield form.rewrite(line, copy.rows[start], copy.values[start], copy)
        elif start in copy.kept:
            yield line.text


def _header(copy: Copy, lines: Sequence[Line]) -> range:
    """Number the lines of the header row, the blank ones before it among them."""
    if dialect_of(copy.source, copy.layout) is None or copy.layout.columns is not None:
        return range(0)
    first = next(line.number for line in lines if line.content())
    names = next(iter(copy.rows.values())).values
    return range(1, first + 1 + sum(name.count("\n") for name in names))


def _rewrite_cells(line: Line, row: Row, values: Mapping[str, Any], copy: Copy) -> str:
    if line.number != row.line:
        return ""  # the row is written whole in place of its first line
    dialect = dialect_of(copy.source, copy.layout)
    assert dialect is not None
    end = _end(line)
    if not dialect.quoting:
        return dialect.delimiter.join(values.values()) + end
    written = io.StringIO()
    csv.writer(written, delimiter=dialect.delimiter, lineterminator=end).writerow(values.values())
    return written.getvalue()


def _rewrite_object(line: Line, _row: Row, values: Mapping[str, Any], _copy: Copy) -> str:
    return json.dumps(values, ensure_ascii=line.text.isascii()) + _end(line)


def _rewrite_tag(line: Line, row: Row, values: Mapping[str, Any], _copy: Copy) -> str:
    index = line.number - row.line
    old, new = row.values["tags"][index], values["tags"][index]
    word, tail = line.text.rstrip(" \t\r\n").removesuffix(old), line.text[len(line.text.rstrip(" \t\r\n")) :]
    return f"{word}{new}{tail}"


def _end(line: Line) -> str:
    return line.text[len(line.content()) :]


class _TextForm(NamedTuple):
    """How rows lie in the lines of a format: how many a row has, which lines are no row's, how one is written anew."""

    num_lines: Callable[[Row], int]
    is_content: Callable[[Line], bool]
    rewrite: Callable[[Line, Row, Mapping[str, Any], Copy], str]


def _has_content(line: Line) -> bool:
    return bool(line.content())


def _num_lines_of_cells(row: Row) -> int:
    return 1 + sum(str(cell).count("\n") for cell in row.values.values())


_CELLS = _TextForm(_num_lines_of_cells, _has_content, _rewrite_cells)
_TEXT_FORMS = {
    "csv": _CELLS,
    "tsv": _CELLS,
    "jsonl": _TextForm(lambda row: 1, _has_content, _rewrite_object),
    "conll": _TextForm(lambda row: len(row.values["words"]), is_word, _rewrite_tag),
}


def _write_parquet(copy: Copy, target: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    table = parquet.read_table(copy.source)
    for index, field in enumerate(table.schema):
        if any(field.name in values for values in copy.values.values()):
            cells = table.column(index).to_pylist()
            for line, values in copy.values.items():
                cells[line - 1] = values[field.name]
            table = table.set_column(index, field, pyarrow.array(cells, type=field.type))
    table = table.take([line - 1 for line in sorted(copy.kept)])
    parquet.write_table(table, target)
