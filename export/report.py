"""What an export found: report.json, the bundle's README, and a table for the terminal."""

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from runtime.bundle import Manifest
from runtime.machine import package_version, processor
from trainer.checkpoint import Checkpoint

from .parity import RowFigures
from .restore import Restored
from .saturation import Saturation
from .speed import Speed


class Line(NamedTuple):
    """One form of the model: "pytorch" or a variant."""

    name: str
    figures: RowFigures | None
    speed: Speed | None
    size_bytes: int
    sizes: dict[str, int]
    restored: Restored | None = None


@dataclass(kw_only=True)
class Report:
    """Every figure of one export.

    Attributes:
        task: the model's task.
        pair: whether it compares two texts.
        metric: the task's headline metric.
        exporter: where the graph came from.
        passes: its nodes, for a trace after each clean-up pass.
        contract_difference: largest fp32 difference from PyTorch over all shapes and masks.
        num_rows: evaluation rows.
        saturation: of each product in int8, on a CPU without VNNI; empty where nothing was observed.
        lines: PyTorch first, then the variants.
    """

    task: str
    pair: bool
    metric: str
    exporter: str
    passes: dict[str, int]
    contract_difference: float
    num_rows: int
    saturation: dict[str, Saturation] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)

    @classmethod
    def begin(
        cls, checkpoint: Checkpoint, *, exporter: str, passes: dict[str, int], contract: float, num_rows: int
    ) -> "Report":
        """Start the report of a checkpoint's export."""
        return cls(
            task=checkpoint.config.task,
            pair=checkpoint.pair,
            metric=checkpoint.objective.best_metric,
            exporter=exporter,
            passes=passes,
            contract_difference=contract,
            num_rows=num_rows,
        )

    def add(self, line: Line) -> None:
        """Add a form of the model."""
        self.lines.append(line)

    @property
    def reference(self) -> float:
        """The metric PyTorch reaches."""
        figures = self.lines[0].figures
        assert figures is not None
        return figures.metrics[self.metric]

    def write(self, file: Path) -> None:
        """Write report.json."""
        lines = [
            {
                "name": line.name,
                "size_bytes": line.size_bytes,
                "size_by_layer": line.sizes,
                "rows": line.figures._asdict() if line.figures else None,
                "speed": line.speed._asdict() if line.speed else None,
                "restored": line.restored.as_json() if line.restored else None,
            }
            for line in self.lines
        ]
        saturation = {name: found._asdict() for name, found in self.saturation.items()}
        values = {
            **vars(self),
            "saturation": saturation,
            "lines": lines,
            "machine": {"processor": processor(), "system": platform.platform()},
        }
        file.write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    def table(self) -> str:
        """Lay the figures out for people."""
        rows = [
            (
                "",
                self.metric,
                "change",
                "agreement",
                "expected",
                "largest Δ",
                "in fp32",
                "size MB",
                "one text ms",
                "texts/s",
            ),
            *map(self._cells, self.lines),
        ]
        return _columns(rows)

    def size_table(self) -> str:
        """Lay out the megabytes of each variant by layer."""
        variants = [line for line in self.lines if line.sizes]
        names = list(dict.fromkeys(name for line in variants for name in line.sizes))
        rows = [("", *(line.name for line in variants))]
        rows += [(name, *(f"{line.sizes.get(name, 0) / 1e6:.2f}" for line in variants)) for name in names]
        return _columns(rows)

    def _cells(self, line: Line) -> tuple[str, ...]:
        figures, speed = line.figures, line.speed
        return (
            line.name,
            f"{figures.metrics[self.metric]:.4f}" if figures else "–",
            f"{figures.metric_change:+.4f} ± {figures.metric_interval:.4f}" if figures else "–",
            f"{figures.agreement:.2%}" if figures else "–",
            f"{1 - figures.expected_change:.2%}" if figures else "–",
            f"{figures.max_difference:.1e}" if figures else "–",
            f"{len(line.restored.chosen.exact)} of {line.restored.num_weights}" if line.restored else "–",
            f"{line.size_bytes / 1e6:.1f}",
            f"{speed.latency_ms:.1f}" if speed else "–",
            f"{speed.texts_per_s:,.0f}" if speed else "–",
        )


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def bundle_readme(manifest: Manifest, report: Report) -> str:
    """Write the model card that travels in the bundle; it holds no row of anybody's data."""
    shown = ", ".join(manifest.labels[:30]) + (" …" if len(manifest.labels) > 30 else "")
    example = '("first text", "second text")' if manifest.pair else '"some text"'
    return f"""# A {manifest.task} model, as a portabert bundle

Labels: {shown}

    import runtime
    classifier = runtime.load("this/folder")
    print(classifier.predict({example}))

{_calibration(manifest)}Verified on {report.num_rows} evaluation rows when it was exported:

```
{report.table()}
```

Where the bytes are, in MB:

```
{report.size_table()}
```

`python -m runtime check this/folder` verifies a copy. Made by {", ".join(f"{name} {number}" for name, number in manifest.made_by.items())}.
"""


def _calibration(manifest: Manifest) -> str:
    parts = (
        []
        if manifest.temperature == 1
        else [f"Its probabilities are calibrated (temperature {manifest.temperature:.3f})."]
    )
    if manifest.abstain_below is not None:
        parts.append(f"Answers with a probability below {manifest.abstain_below:.4f} have `abstained=True`.")
    return " ".join(parts) + "\n\n" if parts else ""


def versions(exporter: str) -> dict[str, str]:
    """Name the programs that made a bundle and their versions."""
    packages = ["portabert", "torch", "transformers", "tokenizers", "onnx", "onnxruntime"] + (
        ["optimum"] if exporter == "optimum" else []
    )
    return {package: package_version(package) or "not installed" for package in packages}
