"""The texts that `tune` measures on: rows of the user's, or words of the bundle's fixed texts put together to texts of certain lengths."""

from bisect import bisect_right
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .bundle import Manifest
from .encode import Encoded, Encoder
from .errors import InputError
from .records import TARGETS, Columns, Record, read_records
from .tables import Layout, column_names
from .tasks import TASKS

MAX_TEXTS = 2000  # of a file; more would only take longer
MADE_TEXTS = 512
MIXED = (8, 16, 16, 24, 24, 32, 32, 48, 64, 128)  # tokens: mostly messages and sentences, now and then a letter
NUM_ALONE = 8  # texts that are timed alone


class Workload(NamedTuple):
    """What is measured on. Any beginning of `texts` is a fair sample of them.

    Attributes:
        texts: what the model is given.
        encoded: the same as token ids.
        alone: which of them are timed alone: of lengths evenly spread.
        records: the texts with their labels, where the data has them.
        own: whether they are the user's.
        source: where they come from, for people.
    """

    texts: list[str | tuple[str, str]]
    encoded: Encoded
    alone: list[int]
    records: list[Record] | None
    own: bool
    source: str

    @property
    def mean_tokens(self) -> float:
        """The mean length, special tokens counted."""
        return float(self.encoded.batch.lengths.mean())


def from_file(file: Path, manifest: Manifest, *, encoder: Encoder, columns: Columns, layout: Layout) -> Workload:
    """Take rows of a file, with their labels where `columns` names their column or the file has one of the task's own name.

    Raises:
        InputError: the file cannot be used.
        DataError: rows that cannot be used.
    """
    target = TASKS[manifest.task].target
    usual = columns.label is None and not set(TARGETS[target].columns) & set(column_names(file, layout))
    records = read_records(file, target=None if usual else target, columns=columns, layout=layout)
    order = np.random.default_rng(0).permutation(len(records))[:MAX_TEXTS]
    chosen = [records[index] for index in order]
    source = f"{len(chosen):,} of the {len(records):,} texts of {file}"
    if len(chosen) == len(records):
        source = f"the {len(records):,} texts of {file}" if len(records) > 1 else f"the one text of {file}"
    return _workload([r.model_input for r in chosen], encoder, None if usual else chosen, own=True, source=source)


def from_lengths(lengths: str | None, manifest: Manifest, *, encoder: Encoder) -> Workload:
    """Make texts of certain numbers of tokens out of the words of the bundle's fixed texts.

    Args:
        lengths: numbers of tokens, as "16,32,128"; None for a mix.
        manifest: the bundle's manifest.
        encoder: the bundle's tokenizer.

    Raises:
        InputError: not numbers, or longer than the model takes.
    """
    wanted = _parse(lengths, manifest.max_length)
    flat = chain.from_iterable((text,) if isinstance(text, str) else text for text in manifest.golden.texts)
    words = list(dict.fromkeys(word for text in flat for word in text.split()))
    generator = np.random.default_rng(0)
    texts = [_make(wanted[i % len(wanted)], words, generator, encoder, manifest.pair) for i in range(MADE_TEXTS)]
    mix = "mixed lengths" if lengths is None else f"about {', '.join(map(str, wanted))} tokens"
    return _workload(texts, encoder, None, own=False, source=f"{MADE_TEXTS} made-up texts of {mix}")


def _workload(
    texts: list[str | tuple[str, str]], encoder: Encoder, records: list[Record] | None, *, own: bool, source: str
) -> Workload:
    encoded = encoder.encode(texts)
    by_length = np.argsort(encoded.batch.lengths, kind="stable")
    places = np.linspace(0, len(texts) - 1, min(NUM_ALONE, len(texts))).astype(int)
    return Workload(texts, encoded, by_length[places].tolist(), records, own, source)


def _parse(lengths: str | None, max_length: int) -> list[int]:
    if lengths is None:
        return [min(length, max_length) for length in MIXED]
    numbers = [part.strip() for part in lengths.split(",")]
    if not all(part.isdecimal() and 0 < int(part) <= max_length for part in numbers):
        raise InputError(
            f"--lengths must be numbers of tokens from 1 to the model's {max_length}, such as 16,32,128. Got {lengths!r} instead."
        )
    return [int(part) for part in numbers]


def _make(
    length: int, words: list[str], generator: np.random.Generator, encoder: Encoder, pair: bool
) -> str | tuple[str, str]:
    """Put random words together: as many as fit into `length` tokens, and at least one a text."""
    chosen = [words[index] for index in generator.integers(0, len(words), max(2, length))]
    tokens = partial(_num_tokens, chosen, encoder, pair)
    number = bisect_right(range(1, len(chosen) + 1), length, key=tokens)  # a longer beginning has more tokens
    return _joined(chosen[: max(1 + pair, number)], pair)


def _num_tokens(words: list[str], encoder: Encoder, pair: bool, number: int) -> int:
    return int(encoder.encode([_joined(words[:number], pair)]).batch.lengths[0])


def _joined(words: list[str], pair: bool) -> str | tuple[str, str]:
    half = len(words) // 2
    return (" ".join(words[:half]), " ".join(words[half:])) if pair else " ".join(words)
