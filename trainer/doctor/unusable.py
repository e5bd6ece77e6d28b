"""Rows that cannot be used: training refuses them, and here all are told by what is wrong with them."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain

from runtime.problems import Problem

from .finding import Found, counted, listed
from .splits import Dataset, Split, labels_of

# The fewest labels that can be learned, by what a row is labelled with.
FEWEST_LABELS = {"label": 2, "labels": 1, "spans": 1, "score": 0}

MOST_FAULTS = 8  # kinds that are told one by one

# What differs between rows with the same fault: values, and where in the row they stand.
_VALUE = re.compile(
    r"""Got .* instead|0x[0-9a-f]{2}|\d+|(?:^|(?<=tag )|(?<=key ))['"].*?(?:['"]|\.\.\.)(?= needs| is | stands)"""
)


def find_unusable(data: Dataset) -> Iterator[Found]:
    """Tell the rows that cannot be read or checked, those with the same fault together."""
    for split in data.splits:
        for problems in _by_fault(split.problems):
            lines = {problem.line for problem in problems if problem.line is not None}
            first = min(problems, key=lambda problem: problem.line or 0)
            if not lines:  # the file as a whole
                yield Found(split.name, 1, 0, (), f"{split.source} {first.message}.")
                continue
            example = "" if len(problems) == 1 else f", in line {first.line}"
            yield split.tell(lines, "cannot", f"be used{example}: {first.message}")


def find_unknown_labels(data: Dataset) -> Iterator[Found]:
    """Tell labels that the model would not have."""
    known = known_labels(data)
    for split in data.splits:
        unknown = [
            (label, record.line) for record in split.records for label in labels_of(record) if label not in known
        ]
        if unknown and known:
            names = list(Counter(label for label, _ in unknown))
            lines = {line for _, line in unknown}
            where = "--train" if data.labels is None else "--labels"
            yield split.tell(lines, "have", f"labels that are not in {where}: {listed(names)}")


def find_too_few_labels(data: Dataset) -> Iterator[Found]:
    """Tell where there is nothing to tell apart."""
    found, fewest = len(known_labels(data)), FEWEST_LABELS[data.target]
    if found < fewest and data.train.records:
        yield Found("train", found, 0, (), f"has {counted(found, 'label')}; a model needs at least {fewest} to learn.")


def known_labels(data: Dataset) -> set[str]:
    """Give the labels that the model would have: those of --labels, else those of the training rows."""
    return set(data.labels or _all_labels(data.train))


def _by_fault(problems: Iterable[Problem]) -> list[list[Problem]]:
    """Gather problems by their fault, the most frequent first; those of many rare ones together, last."""
    found: dict[str, list[Problem]] = defaultdict(list)
    for problem in problems:
        found[_VALUE.sub("…", problem.message)].append(problem)
    faults = sorted(found.values(), key=len, reverse=True)
    rest = list(chain.from_iterable(faults[MOST_FAULTS:]))
    return [*faults[:MOST_FAULTS], *([rest] if rest else [])]


def _all_labels(split: Split) -> Iterator[str]:
    return (label for record in split.records for label in labels_of(record))
