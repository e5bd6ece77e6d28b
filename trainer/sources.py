"""Where rows come from: a file, a Hugging Face dataset, or the embedded demo, all through the same checks.

train.csv  data/train.parquet          a file
hf:imdb:train  hf:glue/mrpc:validation hf:NAME[/CONFIG]:SPLIT; also hf:FOLDER:SPLIT
demo:intent                            a view of the embedded data, whose splits are named by the flag
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from runtime.bundle import sha256
from runtime.errors import InputError
from runtime.problems import DataError, Problem
from runtime.records import Columns, Record, read_records, to_records
from runtime.tables import Layout, Row

from . import demo


class Rows(NamedTuple):
    """The examples of one source, and a digest by which the same rows can be known again."""

    records: list[Record]
    source: str
    sha256: str


def is_demo(source: str) -> bool:
    """Whether a source is a view of the embedded data."""
    return source.startswith("demo:")


def read_source(source: str, *, split: str, target: str, columns: Columns, layout: Layout) -> Rows:
    """Read the examples of a source.

    Args:
        source: as the module's docstring shows.
        split: "train", "eval" or "test": which part of the demo.
        target: the field of `Record` to fill.
        columns: names of columns.
        layout: how a file is laid out.

    Raises:
        DataError: every problem of the rows, by line.
        InputError: the source cannot be had.
    """
    if is_demo(source):
        return _checked(demo.rows(source.removeprefix("demo:"), split=split), f"{source}/{split}", target, columns)
    if source.startswith("hf:"):
        return _checked(_dataset_rows(source), source, target, columns)
    path = Path(source).expanduser()
    records = read_records(path, target=target, columns=columns, layout=layout)
    return Rows(records, str(path.resolve()), sha256(path))


def _checked(rows: Iterator[Row], name: str, target: str, columns: Columns) -> Rows:
    digest, problems = hashlib.sha256(), list[Problem]()

    def digested() -> Iterator[Row]:
        for row in rows:
            digest.update(json.dumps(row.values, sort_keys=True, default=str).encode())
            yield row

    records = list(to_records(digested(), path=name, target=target, columns=columns, problems=problems))
    if problems:
        raise DataError(problems)
    return Rows(records, name.rpartition("/")[0] if is_demo(name) else name, digest.hexdigest())


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
