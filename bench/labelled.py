"""What models reach on labelled rows: PyTorch's answers, those of a bundle's variants beside them, and how seeds spread."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from export.gate import Rows
from export.parity import RowFigures
from export.reference import Reference
from runtime import load
from trainer.checkpoint import Checkpoint


def answer_rows(checkpoint: Checkpoint, file: Path) -> Rows:
    """Read labelled rows, and let PyTorch answer them in fp32."""
    records = checkpoint.evaluation_records(str(file)) or []
    encoded = checkpoint.encoder().encode([record.model_input for record in records])
    return Rows(checkpoint, records, encoded, Reference.load(checkpoint).logits(encoded))


def compare_variants(bundle: Path, rows: Rows, engines: Mapping[str, str]) -> dict[str, RowFigures]:
    """Compare the answers of a bundle's variants, each on the engine named, with PyTorch's."""
    return {
        variant: rows.compare(load(bundle, variant=variant, engine=engine).logits(rows.encoded))
        for variant, engine in engines.items()
    }


def restored_weights(bundle: Path) -> dict[str, dict[str, Any]]:
    """Give the path by which each int8 variant of a bundle came to fit, as report.json holds it."""
    lines = json.loads((bundle / "report.json").read_text())["lines"]
    return {line["name"]: line["restored"] for line in lines if line["restored"]}


def spread(values: Sequence[float]) -> str:
    """Write a mean and, of several values, their standard deviation."""
    return f"{mean(values):.4f}" if len(values) == 1 else f"{mean(values):.4f} ± {stdev(values):.4f}"
