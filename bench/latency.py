"""How long does one text take, alone, from string to answer, beside the ways people know?

    python -m bench.latency --run RUN --bundle BUNDLE --texts FILE [--repeats 5] [--max-texts 300]

Every peer of bench/peers LATENCY computes in a process of its own, in turn, in one run: the file's texts in their order, then texts of fixed
numbers of tokens. Prints a table, then one JSON document as its last line.
"""

from typing import Any

import numpy as np
import tyro

from bench.comparison import (
    TextsConfig,
    cell,
    check_repeats,
    describe_peer,
    describe_timing,
    finish,
    lineup,
    open_bundle,
    print_doubts,
    read_texts,
    warn_of_load,
)
from bench.driver import Measured, Results, measure
from runtime.encode import Encoder

TABLE = "bench.peers:LATENCY"
REFERENCE = "optimum int8"
MAX_TEXTS = 300
FIXED_LENGTHS, TEXTS_A_LENGTH = (16, 32, 128), 20  # tokens, special ones counted


def main() -> None:
    """Run the program."""
    config = tyro.cli(TextsConfig, prog="python -m bench.latency", description=__doc__)
    check_repeats(config.repeats)
    all_texts = read_texts(config.texts, max_texts=None)
    bundle = config.peers.bundle
    encoder = Encoder(bundle, max_length=open_bundle(bundle).max_length, pair=False, offsets=False)
    cases = {"texts": read_texts(config.texts, max_texts=config.max_texts or MAX_TEXTS)}
    cases |= {f"{length} tokens": texts_of_length(all_texts, length, encoder=encoder) for length in FIXED_LENGTHS}
    load = warn_of_load()
    with lineup(config.peers, TABLE, calibration=all_texts) as peers:
        results = measure(peers, cases=cases, at_once=1, repeats=config.repeats)
    document = {
        "question": "latency",
        **describe_timing(config, results, load=load),
        "reference": REFERENCE,
        "cases": {case: _describe_case(texts, encoder) for case, texts in cases.items()},
        "peers": {name: _figures(peer, results) for name, peer in results.measured.items()},
    }
    _print_table(document)
    finish(document, config.peers.output)


def texts_of_length(texts: list[str], length: int, *, encoder: Encoder, count: int = TEXTS_A_LENGTH) -> list[str]:
    """Give `count` texts of `length` tokens: real ones, and where there are too few, running words of the file cut to length."""
    lengths = encoder.encode(texts).batch.lengths
    chosen = [text for text, own in zip(texts, lengths, strict=True) if own == length][:count]
    words = " ".join(texts).split()
    while len(chosen) < count:
        start = len(chosen) * len(words) // count
        running = [words[(start + place) % len(words)] for place in range(length)]
        prefixes = [" ".join(running[: place + 1]) for place in range(length)]
        distances = np.abs(encoder.encode(prefixes).batch.lengths - length)
        chosen.append(prefixes[int(distances.argmin())])
    return chosen


def _describe_case(texts: list[str], encoder: Encoder) -> dict[str, Any]:
    lengths = encoder.encode(texts).batch.lengths
    return {
        "num_texts": len(texts),
        "tokens_median": float(np.median(lengths)),
        "tokens_least": int(lengths.min()),
        "tokens_most": int(lengths.max()),
    }


def _figures(peer: Measured, results: Results) -> dict[str, Any]:
    reference = results.measured.get(REFERENCE)
    return {
        **describe_peer(peer, results),
        "cases": {
            case: _case_figures(rounds, reference.rounds[case] if reference else None)
            for case, rounds in peer.rounds.items()
        },
    }


def _case_figures(rounds: list[list[float]], reference: list[list[float]] | None) -> dict[str, Any]:
    """Sum up one case: `ratio` is how many times as fast as the reference, by the medians of each round."""
    ratios = [
        float(np.median(other) / np.median(own)) for own, other in zip(rounds, reference or rounds[:0], strict=False)
    ]
    return {
        "median_ms": float(np.median(rounds)) * 1e3,
        "p95_ms": float(np.percentile(rounds, 95)) * 1e3,
        "ratio": float(np.median(ratios)) if ratios else None,
        "ratios": ratios,
        "seconds": [[round(seconds, 7) for seconds in row] for row in rounds],
    }


def _print_table(document: dict[str, Any]) -> None:
    print(f"{'ms a text':32}" + "".join(f"{case + ': median':>20}{'p95':>8}{'×':>7}" for case in document["cases"]))
    for name, peer in document["peers"].items():
        cells = "".join(
            f"{case['median_ms']:>20.2f}{case['p95_ms']:>8.2f}{cell(case['ratio'], '.2f'):>7}"
            for case in peer["cases"].values()
        )
        print(f"{name:32}{cells}{cell(peer['agreement'], '.2%'):>11} agree")
    print(f"×: times as fast as {REFERENCE}")
    print_doubts(document)


if __name__ == "__main__":
    main()
