"""All that a look at rows brought: what terminal, page and JSON are made of. It holds no row's text."""

from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from ..sources import is_file
from .finding import SEVERITIES, Finding, Severity, counted
from .lengths import Lengths, lengths_of
from .rules import Examination
from .splits import Dataset, Split, labels_of

TITLES: dict[Severity, str] = {"error": "Errors", "warning": "Warnings", "note": "Notes"}
JSON_FORMAT = 1  # goes up when a field changes its meaning or goes


class SplitOverview(NamedTuple):
    """One split by its numbers; `lengths` is None where no row can be used."""

    name: str
    source: str
    num_rows: int
    num_unusable: int
    num_labels: int
    lengths: Lengths | None

    @property
    def shown(self) -> str:
        """The source for people: of a file the name; the JSON file has its folders."""
        return Path(self.source).name if is_file(self.source) else self.source


class Overview(NamedTuple):
    """What was looked at, and what was found.

    Attributes:
        task: the task's name.
        unit: what lengths are counted in.
        splits: the splits, "train" first.
        findings: errors first.
        skipped: which rules were left out, and why.
    """

    task: str
    unit: str
    splits: tuple[SplitOverview, ...]
    findings: tuple[Finding, ...]
    skipped: tuple[str, ...]

    def of(self, severity: Severity) -> list[Finding]:
        """Give the findings of one severity."""
        return [finding for finding in self.findings if finding.severity == severity]

    def by_rule(self, severity: Severity) -> list[list[Finding]]:
        """Give the findings of one severity, those of a rule together."""
        return [list(found) for _, found in groupby(self.of(severity), key=lambda finding: finding.rule)]

    @property
    def summary(self) -> str:
        """The findings counted: "1 error, 2 warnings"."""
        counts = [(len(self.of(severity)), severity) for severity in SEVERITIES]
        return ", ".join(counted(number, severity) for number, severity in counts if number) or "nothing found"

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON's types."""
        splits = [
            {**split._asdict(), "lengths": split.lengths._asdict() if split.lengths else None} for split in self.splits
        ]
        findings = [asdict(finding) for finding in self.findings]
        return {"format": JSON_FORMAT, **self._asdict(), "splits": splits, "findings": findings}


def sum_up(task: str, data: Dataset, examination: Examination) -> Overview:
    """Put the numbers of the splits beside what was found in them."""
    return Overview(
        task=task,
        unit=data.ruler.unit,
        splits=tuple(_sum_up_split(split, data) for split in data.splits),
        findings=tuple(examination.findings),
        skipped=tuple(examination.skipped),
    )


def _sum_up_split(split: Split, data: Dataset) -> SplitOverview:
    return SplitOverview(
        name=split.name,
        source=split.source,
        num_rows=split.num_rows,
        num_unusable=split.num_rows - len(split.records),
        num_labels=len({label for record in split.records for label in labels_of(record)}),
        lengths=lengths_of(split, data.ruler),
    )
