"""Where rows come from: a file, a Hugging Face dataset, or the embedded demo, all through the same checks.

train.csv  data/train.parquet          a file
hf:imdb:train  hf:glue/mrpc:validation hf:NAME[/CONFIG]:SPLIT; also hf:FOLDER:SPLIT
demo:intent                            a view of the embedded data, whose splits are named by the flag
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from runtime.bundle import sha256
from runtime.errors import InputError
from runtime.problems import DataError, Problem
from runtime.records import Columns, Record, to_records
from runtime.tables import Layout, Row, read_table

from . import demo


class Rows(NamedTuple):
    """The examples of one source, and a digest by which the same rows can be known again."""

    records: list[Record]
    source: str
    sha256: str


def is_demo(source: str) -> bool:
    """Whether a source is a view of the embedded data."""
    return source.startswith("demo:")


def is_file(source: str) -> bool:
    """Whether a source is a file."""
    return not is_demo(source) and not source.startswith("hf:")


def split_sources(train: str, eval: str | None, test: str | None) -> dict[str, str]:
    """Name the source of each split; the demo brings splits of its own."""
    sources = {"train": train, "eval": eval, "test": test}
    if is_demo(train) and eval is None:
        sources |= {"eval": train, "test": test or train}
    return {split: source for split, source in sources.items() if source is not None}


def read_source(
    source: str,
    *,
    split: str,
    target: str,
    columns: Columns,
    layout: Layout,
    through: Callable[[Iterator[Row]], Iterator[Row]] = iter,
) -> Rows:
    """Read the examples of a source, all of which must be sound.

    Args:
        source: as the module's docstring shows.
        split: "train", "eval" or "test": which part of the demo.
        target: the field of `Record` to fill.
        columns: names of columns.
        layout: how a file is laid out.
        through: sees every row before it is checked.

    Raises:
        DataError: every problem of the rows, by line.
        InputError: the source cannot be had.
    """
    problems: list[Problem] = []
    rows = collect_rows(
        source, split=split, target=target, columns=columns, layout=layout, problems=problems, through=through
    )
    if problems:
        raise DataError(problems)
    return rows


def collect_rows(
    source: str,
    *,
    split: str,
    target: str,
    columns: Columns,
    layout: Layout,
    problems: list[Problem],
    through: Callable[[Iterator[Row]], Iterator[Row]] = iter,
) -> Rows:
    """Read the examples of a source that can be used; `problems` gets the others, `through` sees every row before it is checked.

    Raises:
        InputError: the source cannot be had, or has no such column.
    """
    if is_file(source):
        path = Path(source).expanduser()
        rows = through(read_table(path, layout=layout, problems=problems))
        return Rows(_records(rows, str(path), target, columns, problems), str(path.resolve()), sha256(path))
    name = f"{source}/{split}" if is_demo(source) else source
    rows = demo.rows(source.removeprefix("demo:"), split=split) if is_demo(source) else _dataset_rows(source)
    digest = hashlib.sha256()

    def digested() -> Iterator[Row]:
        for row in rows:
            digest.update(json.dumps(row.values, sort_keys=True, default=str).encode())
            yield row

    records = _records(through(digested()), name, target, columns, problems)
    return Rows(records, source, digest.hexdigest())


def _records(rows: Iterator[Row], name: str, target: str, columns: Columns, problems: list[Problem]) -> list[Record]:
    records = list(to_records(rows, path=name, target=target, columns=columns, problems=problems))
    if not records and not problems:
        problems.append(Problem(name, None, "has no rows"))
    return records


def _dataset_rows(source: str) -> Iterator[Row]:
    name, _, split = source.removeprefix("hf:").rpartition(":")
    if not name or not split:
        raise InputError(
            f"a Hugging Face dataset is named hf:NAME:SPLIT or hf:NAME/CONFIG:SPLIT, as in hf:imdb:train. Got {source!r} instead."
        )
    try:
        import datasets
    except ImportError as exc:
        raise InputError(f"{source} needs the package datasets: pip install 'portabert[train]'") from exc
    try:
        table: Any = _load_dataset(datasets, name, split)
    except Exception as exc:  # datasets raises many unrelated classes
        raise InputError(
            f"{source} cannot be had: {exc}. Check the name and split, your network, and HF_HUB_OFFLINE."
        ) from exc
    inner = {column: getattr(feature, "feature", feature) for column, feature in table.features.items()}  # of lists
    names = {column: feature.names for column, feature in inner.items() if isinstance(feature, datasets.ClassLabel)}
    for number, values in enumerate(table, start=1):
        yield Row(number, {column: _named(value, names.get(column)) for column, value in values.items()})


def _load_dataset(datasets: Any, name: str, split: str) -> Any:
    if Path(name).is_dir() or name.count("/") == 0:
        return datasets.load_dataset(name, split=split)
    owner_or_name, _, rest = name.partition("/")
    if "/" in rest:  # OWNER/NAME/CONFIG
        repository, _, config = rest.partition("/")
        return datasets.load_dataset(f"{owner_or_name}/{repository}", config, split=split)
    try:  # OWNER/NAME, or NAME/CONFIG
        return datasets.load_dataset(name, split=split)
    except Exception:
        return datasets.load_dataset(owner_or_name, rest, split=split)


def _named(value: Any, names: list[str] | None) -> Any:
    """Spell a ClassLabel, or a list of them; -1 is how unlabelled rows are marked."""
    if names is not None and isinstance(value, list):
        return [_named(item, names) for item in value]
    return value if names is None or value is None else names[value] if value >= 0 else None
