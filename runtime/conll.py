"""Read CoNLL files, and turn word tags into entities and back.

One decoder reads every common scheme, because conlleval's rule fits them all:

    B S U      start an entity
    I M E L    continue the open entity of the same type, else start one
    E L S U    close it
    O          closes it too

So BIO, IOB1 (B only between neighbours of one type), BIOES, BMES and BILOU need not be told apart.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from .errors import InputError
from .lines import Line, read_lines
from .problems import Problem, shown

_CONTINUE, _CLOSE, _PREFIXES = "IMEL", "ELSUO", "BIELMSU"


class Sentence(NamedTuple):
    """One sentence and the line, from 1, of its first word."""

    line: int
    words: list[str]
    tags: list[str]


class Entity(NamedTuple):
    """Words `start_word` to `end_word`, the end exclusive."""

    start_word: int
    end_word: int
    label: str


def read_sentences(path: str | Path, *, encoding: str = "utf-8", problems: list[Problem]) -> Iterator[Sentence]:
    """Read a file of one word a line: the word in the first column, its tag in the last, white space ending a sentence.

    Columns are split at tabs where the line has one, else at spaces; `-DOCSTART-` lines only part sentences.
    A sentence with a line that cannot be read is left out and the line told in `problems`.
    """
    lines = read_lines(path, encoding=encoding, problems=problems)
    for is_text, block in groupby(lines, key=is_word):
        if is_text and (sentence := _sentence(list(block), str(path), problems)):
            yield sentence


def is_word(line: Line) -> bool:
    """Whether a line holds a word, and does not part sentences."""
    return bool(line.text.strip()) and line.text.split(maxsplit=1)[0] != "-DOCSTART-"


def entities(tags: Sequence[str]) -> list[Entity]:
    """Find the entities in a sentence's tags, of whichever scheme.

    Raises:
        InputError: a tag that is neither O nor prefix, hyphen and type.
    """
    found: list[Entity] = []
    open_label: str | None = None
    for index, tag in enumerate(tags):
        prefix, label = _parse(tag)
        if prefix in _CONTINUE and label == open_label:
            found[-1] = found[-1]._replace(end_word=index + 1)
        elif prefix != "O":
            found.append(Entity(index, index + 1, label))
        open_label = None if prefix in _CLOSE else label
    return found


def bio(entities: Iterable[tuple[int, int, str]], num_words: int) -> list[str]:
    """Write entities (start_word, end_word, type) that do not overlap as BIO tags."""
    tags = ["O"] * num_words
    for start, end, label in entities:
        assert 0 <= start < end <= num_words, (start, end, num_words)
        assert set(tags[start:end]) == {"O"}, f"entity {(start, end, label)} overlaps another"
        tags[start:end] = [f"B-{label}"] + [f"I-{label}"] * (end - start - 1)
    return tags


def _sentence(lines: list[Line], path: str, problems: list[Problem]) -> Sentence | None:
    rows = [_columns(line.text) for line in lines]
    partial = [line for line, row in zip(lines, rows, strict=True) if len(row) < 2 or not row[0].strip()]
    reason = "needs a word and a tag, parted by a tab or a space"
    problems += [Problem(path, line.number, f"{shown(line.content())} {reason}") for line in partial if line.intact]
    if partial or not all(line.intact for line in lines):
        return None
    return Sentence(lines[0].number, [row[0] for row in rows], [row[-1] for row in rows])


def _columns(text: str) -> list[str]:
    text = text.rstrip(" \t\r\n")  # and no other white space: U+00A0 and U+0085 may be part of a word
    return text.split("\t") if "\t" in text else [part for part in text.split(" ") if part]


def _parse(tag: str) -> tuple[str, str]:
    prefix, _, label = tag.partition("-")
    if tag != "O" and not (len(prefix) == 1 and prefix in _PREFIXES and label):
        raise InputError(f"tag {shown(tag)} is neither O nor one of {', '.join(_PREFIXES)} with a type, such as B-LOC")
    return prefix, label
