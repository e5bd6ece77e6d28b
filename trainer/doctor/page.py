"""What was found, as a page of its own and as a section of a run's report."""

from collections.abc import Iterator, Sequence
from html import escape

from ..page import page, section, table
from .finding import SEVERITIES, Finding
from .overview import TITLES, Overview


def render_page(overview: Overview) -> str:
    """Write a page that stands alone."""
    state = "interrupted" if overview.of("error") or overview.of("warning") else "complete"  # as a run's state
    head = f"""<header>
<p class="kind">Data check</p>
<h1>{escape(overview.splits[0].shown)}</h1>
<p class="lead">Rows for the task <code>{escape(overview.task)}</code></p>
<p class="state {state}">{overview.summary}</p>
</header>"""
    skipped = "".join(f'<p class="note">{escape(reason)}.</p>' for reason in overview.skipped)
    return page(f"Data check: {overview.splits[0].shown}", [head, _splits(overview), *_findings(overview), skipped])


def render_section(findings: Sequence[Finding]) -> str:
    """Write the section of a run's report: what training looks at by itself."""
    if not findings:
        return section("Rows", '<p class="note">Nothing was found to be wrong with the rows.</p>')
    note = "Found before training; <code>python -m trainer check</code> looks at more and can write cleaned copies."
    rows = [(finding.rule, finding.severity, finding.split, finding.message, finding.where) for finding in findings]
    return section(
        "Rows", f'<p class="note">{note}</p>{table(("Finding", "", "Split", "What", "Where"), rows, name="Rows")}'
    )


def _splits(overview: Overview) -> str:
    head = ("Split", "Source", "Rows", "Unusable", "Labels", "Median", "95 % up to", "Longest")
    rows = [
        (split.name, split.shown, split.num_rows, split.num_unusable, split.num_labels, *(split.lengths or [None] * 3))
        for split in overview.splits
    ]
    note = f"Lengths are counted in {escape(overview.unit)}."
    return section("Splits", f'<p class="note">{note}</p>{table(head, rows, name="Splits", kind="rows short")}')


def _findings(overview: Overview) -> Iterator[str]:
    for severity in SEVERITIES:
        if found := overview.by_rule(severity):
            yield section(TITLES[severity], "\n".join(map(_article, found)))


def _article(findings: Sequence[Finding]) -> str:
    """Lay out what a rule found, split by split, and the way out once."""
    rows = "\n".join(
        f'<p><strong>{finding.split}</strong> {escape(finding.message)} <span class="where">{finding.where}</span></p>'
        for finding in findings
    )
    first = findings[0]
    return f"""<article class="finding">
<h3><code>{first.rule}</code></h3>
{rows}
<p class="note">{escape(first.way_out)}</p>
</article>"""
