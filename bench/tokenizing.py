"""Does portabert-native's WordPiece give the token ids that `tokenizers` gives, and how much sooner?

    python -m bench.tokenizing --tokenizer FOLDER --texts FILE... [--count 1000000]

Compares ids, types, lengths and truncation of `count` texts, a quarter of them pairs: lines of the files as they are, two lines cut and joined anywhere, lines with characters from all
of Unicode strewn in, and strings of such characters alone; and then every assigned character of Unicode between two letters. Times both on the lines as they are, in turn. Prints
one JSON document as its last line, and ends with 1 where a text differs.
"""

import json
import random
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tyro

from bench.comparison import finish
from bench.machine import describe_machine
from runtime.encode import Encoded, Encoder
from runtime.wordpiece import LEFT, LearningWordPiece, open_wordpiece

CHUNK = 4096
# What texts that people wrote hold too rarely to try how it is cut.
RARE = (
    "[SEP]",
    "[MASK]",
    "##",
    "\u0301",
    "\u302e",
    "\x00",
    "\ufffd",
    "\u200d",
    "\u00a0",
    "\u3000",
    "İ",
    "ß",
    "Σ",
    "ς",
    "중",
    "漢",
    "…",
    "'",
    "’",
)
ASSIGNED = [
    character
    for character in map(chr, range(sys.maxunicode + 1))
    if unicodedata.category(character) not in ("Cn", "Cs")
]


@dataclass(frozen=True, kw_only=True)
class TokenizingConfig:
    """Compare two tokenisers."""

    tokenizer: Path
    """A folder with tokenizer.json and tokenizer_config.json."""
    texts: tuple[Path, ...]
    """Files of text in UTF-8; each line is a text."""
    count: int = 1_000_000
    """How many texts to compare, of those that are not left to `tokenizers`."""
    max_length: int = 128
    """Tokens of a text."""
    repeats: int = 7
    """Rounds of timing; a figure is the median over them."""
    seed: int = 0
    """Of what is drawn."""
    output: Path | None = None
    """Where to write the JSON document."""


def main() -> int:
    """Run the program."""
    config = tyro.cli(TokenizingConfig, prog="python -m bench.tokenizing", description=__doc__)
    lines = [
        line for file in config.texts for line in file.read_text(encoding="utf-8", errors="replace").split("\n") if line
    ]
    if not lines:
        print("error: the files hold no text", file=sys.stderr)
        return 1
    generator = random.Random(config.seed)
    single, pair = _drawn(lines, generator), _drawn(lines, generator)
    compared = {
        "texts": _compare(config, single, config.count * 3 // 4, pair=False),
        "pairs": _compare(config, zip(pair, pair, strict=False), config.count // 4, pair=True),
        "characters": _compare(config, (f"a{character}b" for character in ASSIGNED), len(ASSIGNED), pair=False),
    }
    document = {
        "question": "tokenizing",
        "machine": describe_machine(),
        "texts": [file.name for file in config.texts],
        "max_length": config.max_length,
        "compared": compared,
        **_times(config, lines[: 16 * CHUNK]),
    }
    for name, said in compared.items():
        print(f"{said['compared']:>10,} {name}: {said['left']:,} left to tokenizers, {said['different']} different")
    print(
        f"{document['wordpiece_us']:.1f} µs a text by WordPiece, {document['tokenizers_us']:.1f} by tokenizers: {document['ratio']:.1f} times as fast"
    )
    finish(document, config.output)
    return int(any(said["different"] for said in compared.values()))


def _drawn(lines: list[str], generator: random.Random) -> Iterator[str]:
    """Draw texts without end."""
    ways = (_as_it_is, _joined, _strewn, _anything)
    while True:
        yield generator.choice(ways)(lines, generator)


def _as_it_is(lines: list[str], generator: random.Random) -> str:
    return generator.choice(lines)


def _joined(lines: list[str], generator: random.Random) -> str:
    first, second = generator.choice(lines), generator.choice(lines)
    return first[: generator.randrange(len(first) + 1)] + second[generator.randrange(len(second) + 1) :]


def _strewn(lines: list[str], generator: random.Random) -> str:
    text = generator.choice(lines)
    for _ in range(generator.randrange(1, 9)):
        at = generator.randrange(len(text) + 1)
        text = text[:at] + _character(generator) + text[at:]
    return text


def _anything(lines: list[str], generator: random.Random) -> str:
    return "".join(_character(generator) for _ in range(generator.randrange(40)))


def _character(generator: random.Random) -> str:
    if generator.random() < 0.3:
        return generator.choice(RARE)
    return ASSIGNED[generator.randrange(min(generator.choice((0x80, 0x250, 0x2000, len(ASSIGNED))), len(ASSIGNED)))]


def _open(config: TokenizingConfig, *, pair: bool) -> tuple[LearningWordPiece, Any]:
    """Open WordPiece, and `tokenizers` beside it."""
    import tokenizers

    text = (config.tokenizer / "tokenizer.json").read_text(encoding="utf-8")
    theirs: Any = tokenizers.Tokenizer.from_str(text)
    theirs.no_padding()
    theirs.enable_truncation(config.max_length, strategy="longest_first")
    ours = open_wordpiece(json.loads(text), lambda: theirs, max_length=config.max_length, pair=pair)
    return ours, theirs


def _compare(config: TokenizingConfig, texts: Iterator[Any], count: int, *, pair: bool) -> dict[str, Any]:
    ours, theirs = _open(config, pair=pair)
    compared, left, different = 0, 0, []
    while compared < count and (chunk := list(islice(texts, CHUNK))):
        encodings = ours.encode([part for text in chunk for part in text] if pair else chunk)
        for index, (text, theirs_of_text) in enumerate(zip(chunk, theirs.encode_batch(chunk), strict=True)):
            if encodings.outcomes[index] == LEFT:
                left += 1
                continue
            compared += 1
            own = slice(encodings.cu_seqlens[index], encodings.cu_seqlens[index + 1])
            same = (
                encodings.input_ids[own].tolist() == theirs_of_text.ids
                and encodings.token_type_ids[own].tolist() == theirs_of_text.type_ids
                and bool(encodings.outcomes[index]) == bool(theirs_of_text.overflowing)
            )
            if not same:
                different.append(text)
        print(f"{compared:,} compared, {len(different)} different", end="\r", file=sys.stderr)
    print(file=sys.stderr)
    return {"compared": compared, "left": left, "different": len(different), "examples": different[:10]}


def _times(config: TokenizingConfig, lines: list[str]) -> dict[str, Any]:
    encoder = Encoder(config.tokenizer, max_length=config.max_length, pair=False)
    ways: dict[str, Callable[[list[str]], Encoded]] = {
        "wordpiece": encoder.encode,
        "tokenizers": encoder.encode_by_tokenizers,
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    encoded: dict[str, Encoded] = {name: encode(lines) for name, encode in ways.items()}
    assert np.array_equal(encoded["wordpiece"].batch.input_ids, encoded["tokenizers"].batch.input_ids)
    for _ in range(config.repeats):
        for name, encode in ways.items():
            start = time.perf_counter()
            encode(lines)
            taken[name].append((time.perf_counter() - start) / len(lines) * 1e6)
    ratios = [b / a for a, b in zip(taken["wordpiece"], taken["tokenizers"], strict=True)]
    return {
        "timed": len(lines),
        **{f"{name}_us": median(times) for name, times in taken.items()},
        "ratio": median(ratios),
        "ratios": ratios,
    }


if __name__ == "__main__":
    raise SystemExit(main())
