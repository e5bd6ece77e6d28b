"""How many texts a second, from strings to answers, beside the ways people know?

    python -m bench.throughput --run RUN --bundle BUNDLE --texts FILE [--repeats 5] [--max-texts N] [--no-peak]

Every peer of bench/peers THROUGHPUT computes in a process of its own, in turn, in one run (bench/README.md has the method). Beside each figure stands the
share of the machine's peak that it is, of the peer's precision (bench/roofline.py). Prints a table, then one JSON document as its last line.
"""

import sys
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import tyro

from bench.comparison import (
    ANSWERS_REFERENCE,
    PeersConfig,
    TextsConfig,
    cell,
    check_repeats,
    describe_peer,
    describe_timing,
    finish,
    lineup,
    print_doubts,
    read_texts,
    warn_of_load,
)
from bench.driver import Measured, Results, measure
from bench.flops import read_model, token_lengths
from bench.roofline import Peak, best_peaks, measure_peaks
from runtime.errors import InputError
from trainer.flops import flops_of_texts

TABLE = "bench.peers:THROUGHPUT"
REFERENCE = "optimum int8 batch 32"


@dataclass(frozen=True, kw_only=True)
class ThroughputConfig:
    """Compare how many texts a second the ways to answer with one model give."""

    compared: Annotated[TextsConfig, tyro.conf.arg(name="")]
    peak: bool = True
    """Measure the peak of the machine's matrix products first, half a minute."""


def main() -> None:
    """Run the program."""
    config = tyro.cli(ThroughputConfig, prog="python -m bench.throughput", description=__doc__)
    compared = config.compared
    check_repeats(compared.repeats)
    texts = read_texts(compared.texts, max_texts=compared.max_texts)
    flops = _flops(compared.peers, texts)
    load = warn_of_load()
    with lineup(compared.peers, TABLE, calibration=texts) as peers:
        peaks = measure_peaks(threads=peers.job.threads) if config.peak else []
        results = measure(peers, cases={"all": texts}, at_once=None, repeats=compared.repeats)
    best = best_peaks(peaks)
    document = {
        "question": "throughput",
        **describe_timing(compared, results, load=load),
        "reference": REFERENCE,
        "num_texts": len(texts),
        "flops_a_text": None if flops is None else float(flops.mean()),
        "peaks": [peak._asdict() for peak in peaks],
        "peers": {name: _figures(peer, results, flops, best) for name, peer in results.measured.items()},
    }
    _print_table(document)
    finish(document, compared.peers.output)


def _flops(config: PeersConfig, texts: list[str]) -> npt.NDArray[np.float64] | None:
    """Count the FLOPs of each text; None for a family of models whose FLOPs are not known."""
    try:
        return flops_of_texts(read_model(config.run), token_lengths(config.bundle, texts))
    except InputError as exc:
        print(f"no share of the peak: {exc}", file=sys.stderr)
        return None


def _figures(
    peer: Measured, results: Results, flops: npt.NDArray[np.float64] | None, best: dict[str, Peak]
) -> dict[str, Any]:
    seconds = [round_s[0] for round_s in peer.rounds["all"]]
    indices = peer.indices["all"]
    reference = results.measured.get(REFERENCE)
    ratios = (
        [
            (len(indices) / own) / (len(reference.indices["all"]) / other[0])
            for own, other in zip(seconds, reference.rounds["all"], strict=True)
        ]
        if reference
        else []
    )
    flops_per_s = None if flops is None else float(flops[indices].sum()) / median(seconds)
    peak = best.get(peer.precision)
    return {
        **describe_peer(peer, results),
        "num_texts": len(indices),
        "texts_per_s": len(indices) / median(seconds),
        "flops_per_s": flops_per_s,
        "share_of_peak": flops_per_s / peak.flops_per_s if flops_per_s and peak else None,
        "ratio": median(ratios) if ratios else None,
        "ratios": ratios,
        "seconds": seconds,
    }


def _print_table(document: dict[str, Any]) -> None:
    print(
        f"{'peer':32}{'texts/s':>9}{'× reference':>13}{'(least–most)':>15}{'agreement':>11}{'of peak':>9}{'in':>6}{'texts':>7}"
    )
    for name, peer in document["peers"].items():
        low_high = f"({min(peer['ratios']):.2f}–{max(peer['ratios']):.2f})" if peer["ratios"] else "–"
        print(
            f"{name:32}{peer['texts_per_s']:>9.0f}{cell(peer['ratio'], '.2f'):>13}{low_high:>15}"
            f"{cell(peer['agreement'], '.2%'):>11}{cell(peer['share_of_peak'], '.1%'):>9}{peer['precision']:>6}{peer['num_texts']:>7}"
        )
    print(f"reference: {REFERENCE}; agreement: with the labels of {ANSWERS_REFERENCE}")
    print(
        f"of peak: {cell(document['flops_a_text'] and document['flops_a_text'] / 1e6, '.0f')} MFLOP a text, padding not counted, by the highest matrix product of that precision seen here"
    )
    print_doubts(document)


if __name__ == "__main__":
    main()
