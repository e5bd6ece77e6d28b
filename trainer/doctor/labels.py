"""Labels by name and number: two spellings of one, too few rows of one, and splits that lack one."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from .finding import Found, counted, first_lines, listed
from .splits import Dataset, Split, labels_of

# Ten times as many rows of one label as of another: a model that never gives the rare one is still right in nine of ten.
LOPSIDED = 10
FEW = 10  # rows of a label to learn from; in a tenth of them, held out, it would stand once
EXPECTED = (
    5  # rows of a label that a split should have by its share of train; with fewer its absence is chance (e^-5 = .7 %)
)


def count_labels(split: Split) -> Counter[str]:
    """Count the rows of each label, in a tagged text its spans."""
    return Counter(label for record in split.records for label in labels_of(record))


def spellings(data: Dataset) -> dict[str, str]:
    """Map each label to the spelling that is most frequent in all splits, of those that differ in case and white space alone.

    Labels given by --labels are spelled as there.
    """
    counts: Counter[str] = Counter()
    for split in data.splits:
        counts += count_labels(split)
    groups: dict[str, list[str]] = defaultdict(list)
    for label in dict.fromkeys([*(data.labels or ()), *counts]):
        groups[" ".join(label.split()).casefold()].append(label)
    given = set(data.labels or ())
    return {
        label: max(group, key=lambda name: (name in given, counts[name], name == name.strip()))
        for group in groups.values()
        for label in group
        if label not in given
    }


def find_variants(data: Dataset) -> Iterator[Found]:
    """Tell labels that another spelling of the same name outnumbers."""
    better = {label: best for label, best in spellings(data).items() if label != best}
    for split in data.splits:
        odd = [(record.line, label) for record in split.records for label in labels_of(record) if label in better]
        if odd:
            told = ", ".join(
                f"{label!r} beside {better[label]!r}" for label in dict.fromkeys(label for _, label in odd)
            )
            lines = {line for line, _ in odd}
            message = f"{counted(len(lines), 'row')} spell a label in another way than most: {told}."
            yield Found(split.name, len(lines), split.num_rows, first_lines(lines), message)


def find_imbalance(data: Dataset) -> Iterator[Found]:
    """Tell how uneven the labels of the training rows are."""
    counts = count_labels(data.train)
    if len(counts) < 2:
        return
    (most, many), (least, few) = counts.most_common()[0], counts.most_common()[-1]
    if many >= LOPSIDED * few:
        message = f"{most!r} has {many:,} and {least!r} {few:,}: {many / few:,.0f} times as many."
        yield Found("train", len(counts), 0, (), message)


def find_rare(data: Dataset) -> Iterator[Found]:
    """Tell labels of which there is too little to learn or to measure."""
    counts = count_labels(data.train)
    rare = sorted((label for label in counts if counts[label] < FEW), key=lambda label: (counts[label], label))
    if rare:
        message = f"{counted(len(rare), 'label')} of {len(counts):,} have fewer than {FEW} rows: {listed(rare)}."
        lines = [record.line for record in data.train.records if set(labels_of(record)) & set(rare)]
        yield Found("train", len(rare), len(counts), first_lines(lines), message)


def find_absent(data: Dataset) -> Iterator[Found]:
    """Tell labels of train that a split has no row of, where chance alone does not explain it."""
    counts, num_rows = count_labels(data.train), max(1, len(data.train.records))
    for split in data.others:
        there: Mapping[str, int] = count_labels(split)
        absent = [
            label
            for label in counts
            if label not in there and counts[label] * len(split.records) >= EXPECTED * num_rows
        ]
        if absent:
            message = f"has no row of {counted(len(absent), 'label')} that train has plenty of: {listed(absent)}."
            yield Found(split.name, len(absent), len(counts), (), message)
