"""What a rule found: the one thing that rules make, and that terminal, page and JSON show."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # as they are shown
SHOWN_LINES = 5  # examples of each finding; `--fix` and the rule's own figures need no more


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule's function found in one split; its row in the table of rules says the rest.

    Attributes:
        split: "train", "eval" or "test".
        count: how many.
        total: of how many, 0 where there is nothing to compare with.
        lines: the first of the lines where it stands, from 1; empty where it stands nowhere.
        message: one sentence, with the figures. It quotes labels and short tokens, and of a row that cannot be used the value; never a row's text.
    """

    split: str
    count: int
    total: int
    lines: tuple[int, ...]
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """What a rule found, with how much it matters and what to do."""

    rule: str
    severity: Severity
    split: str
    count: int
    total: int
    lines: tuple[int, ...]
    message: str
    way_out: str

    def __str__(self) -> str:
        where = f" ({self.where})" if self.lines else ""
        return f"{self.severity}: {self.rule}: {self.split}: {self.message}{where}"

    @property
    def where(self) -> str:
        """The lines in words: "line 3", "lines 3, 9 …" where there are more than are named."""
        if not self.lines:
            return ""
        more = " …" if len(self.lines) == SHOWN_LINES and self.count > SHOWN_LINES else ""
        return f"line{'s' * (len(self.lines) > 1)} {', '.join(map(str, self.lines))}{more}"


def first_lines(lines: Iterable[int]) -> tuple[int, ...]:
    """Take the examples that a finding names."""
    return tuple(sorted(lines)[:SHOWN_LINES])


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: "1 row", "2,000 rows"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def share(part: int, whole: int, verb: str) -> str:
    """Write "3 of 872 rows (0.34 %) stand", the verb in the number of rows that do."""
    one = {"are": "is", "have": "has", "cannot": "cannot"}.get(verb, f"{verb}s")
    return f"{part:,} of {counted(whole, 'row')} ({percent(part, whole)}) {one if part == 1 else verb}"


def percent(part: int, whole: int) -> str:
    """Write a share with two figures: "0.34 %", "12 %"."""
    value = 100 * part / whole if whole else 0.0
    return f"{value:.0f} %" if value >= 10 or value == 0 else f"{value:.2g} %"


def listed(names: Sequence[str], *, limit: int = 8) -> str:
    """Quote names in a row, the first few of many."""
    quoted = ", ".join(map(repr, names[:limit]))
    return quoted if len(names) <= limit else f"{quoted} … ({len(names):,})"
