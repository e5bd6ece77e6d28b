"""Files to score, in every format: written, scored and read."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime import score
from runtime.records import DEFAULT_COLUMNS, Columns
from runtime.score import WRITERS, score_file
from runtime.tables import PLAIN, Layout, Problem, read_table

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

FORMATS = tuple(WRITERS)
ROWS = [
    {"id": "7", "text": "my parcel never came", "note": "first"},
    {"id": "3", "text": "ok", "note": "shortest"},
    {"id": "5", "text": "thanks! the parcel came in Rome; cancel my 2nd parcel, again and again and again", "note": ""},
    {"id": "1", "text": "Ünïcödé 東京 🙂", "note": "last"},
]


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
