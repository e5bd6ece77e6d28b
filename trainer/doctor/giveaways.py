"""Tokens that give the label away: a tag, an identifier or a source's name that came into the texts with the label.

A word that goes with a label is what a model is to learn, and a narrow label may well be one word: every question about routing numbers says
"routing". So a natural word is told only where nearly every row of the label has it, hardly any other row does, and the label is a
large part of the rows, as "(Reuters)" in all true news, or where half of all labels have such a word. Tokens that nobody writes by
themselves, such as `__label__spam` or `src=7`, are told where they cover a fair part of any label.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from .finding import Found, counted, first_lines
from .splits import Dataset, labels_of, texts_of

# All are lower ends of 95 % intervals (Wilson), so that a few rows prove nothing: 73 of 73 rows are sure to .95, 20 of 20 only to .84.
SURE = 0.95  # of the rows with the token, the share that has the label
COVERS = 0.9  # of the rows with the label, the share that has the token, where it is a natural word
COVERS_ARTIFICIAL = 0.2  # the same for a token that is none
LARGE_LABEL = 0.1  # of the rows: a tenth of all texts with one word is no subject but a source
MANY = 0.5  # of the labels: subjects do not all have a word to themselves
Z = 1.96  # standard deviations, for 95 %
LARGEST_LABEL = 0.8  # of the rows: where nearly all have one label every word predicts it

# Letters with digits or signs among them; numbers alone, prices, times, hashtags and @names are natural.
_ARTIFICIAL = re.compile(r"(?=.*[^\W\d_])(?:.*[_=<>\[\]{}|\\].*|.*\w[:/]\w.*|[^\W\d_]+[-#]?\d{2,}\w*)")
_AROUND = ".,;:!?\"'()“”‘’…"


class Giveaway(NamedTuple):
    """A token and what it gives away."""

    token: str
    label: str
    with_both: int
    with_token: int
    with_label: int


def find_giveaways(data: Dataset) -> Iterator[Found]:
    """Tell tokens of the training rows that by themselves nearly decide a label."""
    if data.target == "spans":
        return  # an entity's own words are its label
    found = giveaways(data)
    by_label: dict[str, list[Giveaway]] = defaultdict(list)
    for giveaway in sorted(found, key=lambda it: -it.with_both):
        by_label[giveaway.label].append(giveaway)
    for label, tokens in by_label.items():
        best = tokens[0]
        lines = [r.line for r in data.train.records if best.token in tokens_of(texts_of(r)) and label in labels_of(r)]
        others = f", and so do {counted(len(tokens) - 1, 'other token')}" if len(tokens) > 1 else ""
        message = (
            f"{best.token!r} gives {label!r} away: {best.with_both:,} of the {best.with_token:,} rows that hold it are {label!r}, "
            f"and {best.with_both:,} of the {best.with_label:,} of {label!r} hold it{others}."
        )
        yield Found("train", best.with_both, len(data.train.records), first_lines(lines), message)


def giveaways(data: Dataset) -> list[Giveaway]:
    """Find the tokens of the training rows that nearly decide a label."""
    with_label, with_token = Counter[str](), Counter[str]()
    with_both: Counter[tuple[str, str]] = Counter()
    for record in data.train.records:
        labels, tokens = labels_of(record), tokens_of(texts_of(record))
        with_label.update(labels)
        with_token.update(tokens)
        with_both.update((token, label) for label in labels for token in tokens)
    num_rows = len(data.train.records)
    found = [
        Giveaway(token, label, both, with_token[token], with_label[label])
        for (token, label), both in with_both.items()
        if at_least(both, with_token[token]) >= SURE
        and at_least(both, with_label[label]) >= (COVERS_ARTIFICIAL if _is_artificial(token) else COVERS)
        and with_label[label] <= LARGEST_LABEL * num_rows
    ]
    many = len({giveaway.label for giveaway in found}) >= MANY * len(with_label)
    return [it for it in found if many or _is_artificial(it.token) or it.with_label >= LARGE_LABEL * num_rows]


def _is_artificial(token: str) -> bool:
    return bool(_ARTIFICIAL.fullmatch(token))


def tokens_of(texts: tuple[str, ...]) -> set[str]:
    """Part texts at white space, case and surrounding punctuation aside."""
    return {token for text in texts for part in text.casefold().split() if (token := part.strip(_AROUND))}


def at_least(count: int, total: int) -> float:
    """Give the lower end of a share's 95 % interval (Wilson 1927)."""
    portion, z2 = count / total, Z * Z
    middle = portion + z2 / (2 * total)
    spread = Z * math.sqrt(portion * (1 - portion) / total + z2 / (4 * total * total))
    return (middle - spread) / (1 + z2 / total)
