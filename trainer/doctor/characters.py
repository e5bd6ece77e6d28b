"""Damage and oddities in the characters of texts: wrong encodings, control characters, markup, quotes."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from .finding import Found, listed
from .splits import Dataset, Split, texts_of

# White space and marks that a reader does not see as such. Zero-width joiners are not among them: emoji and many scripts are written with them.
_UNSEEN = re.compile("[\t\n\r\u00a0\u00ad\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060\u3000\ufeff]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_MARKUP = re.compile(r"</?(?:a|b|br|code|div|em|font|h[1-6]|hr|i|img|li|ol|p|pre|small|span|strong|sub|sup|table|td|th|tr|u|ul)\b[^<>]*>"
                     r"|&(?:amp|lt|gt|quot|apos|nbsp|#\d{1,7}|#x[0-9a-f]{1,6});", re.IGNORECASE)  # fmt: skip
_TAG_NAME = re.compile(r"</?\w+")
LONGEST_CHARACTER = 4  # bytes of one in UTF-8, each of which another encoding takes for a character
_NAMES = {"\t": "tab", "\n": "line feed", "\r": "carriage return"}


def repaired(text: str) -> str:
    """Undo text that was decoded by the wrong encoding, where that can be undone; other texts stay as they are."""
    if text.isascii():
        return text
    from ftfy import fix_encoding
    from ftfy.badness import is_bad

    return fix_encoding(text) if is_bad(text) else text


def find_mojibake(data: Dataset) -> Iterator[Found]:
    """Tell texts that were decoded by the wrong encoding, with the characters this happened to most."""
    for split in data.splits:
        steps: Counter[tuple[str, str]] = Counter()
        lines = list[int]()
        for record in split.records:
            if found := [step for text in texts_of(record) if (step := _first_repair(text))]:
                steps.update(found)
                lines.append(record.line)
        if lines:
            told = ", ".join(f"{old!r} for {new!r}" for (old, new), _ in steps.most_common(3))
            yield split.tell(lines, "hold", f"text that was decoded by the wrong encoding: {told}")


def find_replacements(data: Dataset) -> Iterator[Found]:
    """Tell texts whose characters an earlier program has lost."""
    what = "U+FFFD, which an earlier program wrote for what it could not decode"
    yield from _rows(data.splits, lambda text: "\ufffd" in text, "hold", what)


def find_controls(data: Dataset) -> Iterator[Found]:
    """Tell control characters, which no keyboard writes; those of a wrong encoding are another rule's."""
    yield from _characters(data, lambda text: _CONTROL.findall(repaired(text)), "control characters")


def find_unseen(data: Dataset) -> Iterator[Found]:
    """Tell white space and marks that look like a blank, or like nothing."""
    yield from _characters(data, _UNSEEN.findall, "white space or marks that look like a blank, or like nothing")


def find_markup(data: Dataset) -> Iterator[Found]:
    """Tell what is left of HTML."""
    for split in data.splits:
        found = {r.line: _tag(match) for r in split.records for text in texts_of(r) if (match := _MARKUP.search(text))}
        if found:
            common = [name for name, _ in Counter(found.values()).most_common(3)]
            yield split.tell(found, "hold", f"HTML, such as {listed(common)}")


def find_csv_cells(data: Dataset) -> Iterator[Found]:
    """Tell cells that a program has quoted as in CSV, in files read without quoting."""
    splits = [split for split in data.splits if split.literal_quotes]
    yield from _rows(splits, _is_csv_cell, "are", "enclosed in quotes, with quotes inside written twice")


def find_leading_quotes(data: Dataset) -> Iterator[Found]:
    """Tell texts that begin with a quote in files without quoting: a reader that takes it for CSV loses rows."""
    splits = [split for split in data.splits if split.literal_quotes]
    yield from _rows(splits, _opens_a_quote, "begin", "with a double quote, read here as part of the text")


def _is_csv_cell(text: str) -> bool:
    inside = text[1:-1]
    return len(text) > 1 and text[0] == text[-1] == '"' and '""' in inside and '"' not in inside.replace('""', "")


def _opens_a_quote(text: str) -> bool:
    return text.startswith('"') and not _is_csv_cell(text)


def _first_repair(text: str) -> tuple[str, str] | None:
    """Give the first character that is repaired: the one to four it was taken for, and what it is; None where nothing is."""
    good = repaired(text)
    start = next((place for place, (old, new) in enumerate(zip(text, good, strict=False)) if old != new), None)
    if start is None:
        return None
    taken = (text[start : start + length] for length in range(1, LONGEST_CHARACTER + 1))
    return next((old for old in taken if repaired(old) == good[start]), text[start]), good[start]


def _tag(match: re.Match[str]) -> str:
    """Name a tag without its attributes, which are the row's."""
    name = _TAG_NAME.match(match[0])
    return f"{name[0].lower()}>" if name else match[0].lower()


def _rows(splits: Iterable[Split], holds: Callable[[str], bool], verb: str, what: str) -> Iterator[Found]:
    for split in splits:
        lines = [record.line for record in split.records if any(map(holds, texts_of(record)))]
        if lines:
            yield split.tell(lines, verb, what)


def _characters(data: Dataset, find: Callable[[str], list[str]], what: str) -> Iterator[Found]:
    for split in data.splits:
        counts: Counter[str] = Counter()
        lines = list[int]()
        for record in split.records:
            if found := {character for text in texts_of(record) for character in find(text)}:
                counts.update(found)
                lines.append(record.line)
        if lines:
            told = ", ".join(f"{_name(character)} in {number:,}" for character, number in counts.most_common(4))
            yield split.tell(lines, "hold", f"{what}: {told}{' …' * (len(counts) > 4)}")


def _name(character: str) -> str:
    name = _NAMES.get(character) or unicodedata.name(character, "").lower()
    return f"U+{ord(character):04X}{f' ({name})' if name else ''}"
