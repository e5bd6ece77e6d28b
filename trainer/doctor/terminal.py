"""What was found, for a terminal: a table of the splits, then the findings, errors first. Plain where it is none."""

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .finding import SEVERITIES, Finding, Severity
from .overview import TITLES, Overview

_STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_WIDEST = 110  # columns; longer lines are hard to read


def print_overview(overview: Overview, console: Console | None = None) -> None:
    """Print what was found."""
    console = console or Console(highlight=False)
    console.width = min(console.width, _WIDEST)
    if console.is_terminal:
        console.print(_layout(overview))
        return
    with console.capture() as capture:
        console.print(_layout(overview))
    for line in capture.get().splitlines():
        console.out(line.rstrip(), highlight=False)


def _layout(overview: Overview) -> RenderableType:
    parts: list[RenderableType] = [_splits(overview), Text(f"Lengths in {overview.unit}.", style="dim")]
    for severity in SEVERITIES:
        if found := overview.by_rule(severity):
            parts += ["", Text(TITLES[severity], style=_STYLES[severity]), *map(_rule, found)]
    if overview.skipped:
        parts += ["", *map(Text, overview.skipped)]
    return Group(*parts, "", Text(overview.summary, style="bold"))


def _splits(overview: Overview) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("split")
    table.add_column("source", overflow="fold")
    for title in ("rows", "unusable", "labels", "median", "95 %", "longest"):
        table.add_column(title, justify="right")
    for split in overview.splits:
        lengths = split.lengths or (None, None, None)
        figures = (split.num_rows, split.num_unusable, split.num_labels or None, *lengths)
        table.add_row(
            split.name,
            Text(split.shown),
            *("–" if figure is None else f"{figure:,}" for figure in figures),
        )
    return table


def _rule(findings: Sequence[Finding]) -> RenderableType:
    """Lay out what a rule found, split by split, and the way out once."""
    body = Table.grid(padding=(0, 2))
    for finding in findings:
        where = f"\n{finding.where}" if finding.lines else ""
        body.add_row(Text(finding.split), Text.assemble(finding.message, (where, "dim")))
    parts: list[RenderableType] = [
        Text(findings[0].rule, style="bold"),
        body,
        Text(f"→ {findings[0].way_out}", style="dim"),
    ]
    return Padding(Group(*parts), (1, 0, 0, 2), expand=False)
