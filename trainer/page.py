"""The page that reports are written on: it stands alone, follows the reader's colours, has no script, and its policy lets a browser load nothing."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

WIDEST_IMAGE = 800  # CSS pixels; what is wider would be too small to read in the column, and scrolls


class Picture(NamedTuple):
    """A plot as PNG, and how many CSS pixels wide it is at natural size."""

    light: bytes
    dark: bytes
    width: int


def page(title: str, body: Sequence[str]) -> str:
    """Lay out a page.

    Args:
        title: as text.
        body: its parts, as HTML.
    """
    return _PAGE % {"title": escape(title), "style": _STYLE, "body": "\n".join(body)}


def section(title: str, content: str) -> str:
    """Put content under a heading."""
    return f"<section>\n<h2>{title}</h2>\n{content}\n</section>"


def table(
    head: Sequence[str], rows: Iterable[Sequence[str | float | int | None]], *, name: str, kind: str = "rows"
) -> str:
    """Lay out rows; the first cell of each names it. Text is escaped, numbers are written as people do, None is a dash.

    Args:
        head: the columns' titles.
        rows: the cells.
        name: what the table is, for who cannot see it.
        kind: "rows", "rows texts" where the first cells are texts, beside which short words shall not be broken, or "rows short" where they are short words.
    """
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    lines = "".join(
        f'<tr><th scope="row">{escape(str(first))}</th>{"".join(map(_cell, rest))}</tr>' for first, *rest in rows
    )
    return scrolling(f"<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>", name=name, kind=kind)


def scrolling(content: str, *, name: str, kind: str = "rows") -> str:
    """Let content scroll that is wider or higher than its place."""
    return f'<div class="scrolls {kind}" role="region" tabindex="0" aria-label="{name}">{content}</div>'


def image(picture: Picture, alt: str, *, narrow: Picture | None = None) -> str:
    """Embed a picture in both schemes, and for phones a narrow one of the same."""
    phone, dark = "(max-width: 34rem)", "(prefers-color-scheme: dark)"
    sources = [(dark, picture.dark)]
    if narrow is not None:
        sources = [(f"{phone} and {dark}", narrow.dark), (phone, narrow.light), *sources]
    choices = "".join(f'<source media="{media}" srcset="{_data(png)}">' for media, png in sources)
    kind = ' class="wide"' if picture.width > WIDEST_IMAGE else ""
    image = f'<img src="{_data(picture.light)}" alt="{alt}" width="{picture.width}"{kind}>'
    return f"<picture>{choices}{image}</picture>"


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _cell(value: str | float | int | None) -> str:
    match value:
        case None:
            return '<td class="number">–</td>'
        case float():  # a share, drawn as a bar as well
            return f'<td class="number share" style="--part:{value:.3f}">{value:.3f}</td>'
        case int():
            return f'<td class="number">{value:,}</td>'
        case str():
            return f"<td>{escape(value)}</td>"


# A policy of `default-src 'none'` makes "loads nothing" the browser's promise, not ours alone.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>%(title)s</title>
<link rel="icon" href="data:,">
<style>%(style)s</style>
</head>
<body>
<main>
%(body)s
</main>
</body>
</html>
"""

# Colours of paper, ink, muted and line are those of plots.LIGHT and plots.DARK.
_STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #16181d; --muted: #5a6270; --line: #e3e6eb;
  --surface: #f6f7f9; --accent: #2457d6; --bar: #c9d8f8; --complete: #17683a; --interrupted: #8a4b00; }
@media (prefers-color-scheme: dark) { :root { --paper: #111418; --ink: #e9ebef; --muted: #a3abb8; --line: #2a3038;
  --surface: #191d23; --accent: #8ab4ff; --bar: #2f4a7d; --complete: #6fd39a; --interrupted: #f0b35c; } }
* { box-sizing: border-box; margin: 0; }
body { background: var(--paper); color: var(--ink); font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 54rem; margin: 0 auto; padding: clamp(2rem, 7vw, 5rem) clamp(1.25rem, 5vw, 2.5rem); }
h1 { font-size: clamp(1.9rem, 5.5vw, 2.75rem); line-height: 1.15; letter-spacing: -.025em; text-wrap: balance; }
h2 { font-size: 1.35rem; line-height: 1.3; letter-spacing: -.01em; margin-bottom: .75rem; }
h3 { font-size: 1rem; margin: 2.5rem 0 .75rem; }
section { margin-top: clamp(3rem, 8vw, 4.5rem); }
code { font: .9em ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.kind, .note, dt, thead th { color: var(--muted); font-size: .875rem; }
.kind { margin-bottom: .5rem; }
.note { max-width: 40rem; margin-bottom: 1.25rem; }
.lead { margin-top: .75rem; font-size: 1.0625rem; color: var(--muted); }
.state { margin-top: 1.25rem; font-size: .875rem; font-weight: 600; color: var(--complete); }
.state::before { content: ""; display: inline-block; width: .55rem; height: .55rem; border-radius: 50%; background: currentColor;
  margin-right: .5rem; }
.state.interrupted { color: var(--interrupted); }
header ~ .note { margin-top: 2.5rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); gap: 1rem; margin-top: 2.5rem; }
article { background: var(--surface); border-radius: 1rem; padding: 1.5rem 1.75rem; }
article h2 { font-size: .9375rem; letter-spacing: 0; margin: 0; }
article dl { display: flex; flex-wrap: wrap; gap: .75rem 2rem; }
article dd { font-weight: 600; font-variant-numeric: tabular-nums; }
article .note { margin: 1rem 0 0; }
.finding { margin-top: 1rem; }
.finding h3 { margin: 0 0 .5rem; }
.finding p { overflow-wrap: anywhere; }
.finding p + p { margin-top: .35rem; }
.where { color: var(--muted); font-variant-numeric: tabular-nums; }
.finding .note { margin-top: .5rem; }
.figure { color: var(--muted); margin: .25rem 0 1rem; }
.figure strong { display: block; color: var(--ink); font-size: 3.25rem; font-weight: 650; line-height: 1.15; letter-spacing: -.03em;
  font-variant-numeric: tabular-nums; }
img { display: block; max-width: 100%; height: auto; }
.matrix img { max-width: max(100%, 34rem); }
.matrix img.wide { max-width: none; }
.matrix:has(.wide) { border: 1px solid var(--line); border-radius: .75rem; }
.scrolls { overflow: auto; }
.rows, .matrix:has(.wide) { max-height: 36rem; }
.scrolls:focus-visible, summary:focus-visible { outline: 2px solid var(--accent); outline-offset: 4px; border-radius: .25rem; }
table { width: 100%; border-collapse: collapse; font-size: .9375rem; }
th, td { text-align: left; font-weight: 400; padding: .55rem 1rem .55rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; min-width: 5rem; vertical-align: top; }
tbody th { min-width: 9rem; }
.texts tbody th { min-width: 15rem; }
.texts td { overflow-wrap: break-word; }
.short tbody th { min-width: 4rem; }
thead th { position: sticky; top: 0; background: var(--paper); white-space: nowrap; }
tbody tr:last-child > * { border-bottom: 0; }
.number { font-variant-numeric: tabular-nums; }
.share { background: linear-gradient(var(--bar), var(--bar)) 0 2.1rem / calc((100% - 1rem) * var(--part)) 3px no-repeat; }
.facts div { display: grid; grid-template-columns: 12rem 1fr; gap: .15rem 1rem; padding: .55rem 0; border-bottom: 1px solid var(--line); }
.facts div:last-child { border-bottom: 0; }
.facts dd { font-size: .9375rem; overflow-wrap: anywhere; }
details { margin-top: 1.5rem; }
summary { cursor: pointer; color: var(--accent); width: fit-content; margin-bottom: .75rem; }
@media (max-width: 34rem) { .facts div { grid-template-columns: 1fr; } .rows table { font-size: .875rem; } }
@media print { .scrolls { max-height: none !important; overflow: visible; } .matrix img.wide { max-width: 100%; } }
"""
