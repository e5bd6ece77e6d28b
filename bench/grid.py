"""One text or 32, short or long: how long do the native engine and its rivals take, shape by shape?

    python -m bench.grid --run RUN --bundle BUNDLE --texts FILE [--only NAME …] [--repeats 5]
    ONEDNN_MAX_CPU_ISA=AVX2 PORTABERT_INSTRUCTION_SET=avx2 CT2_FORCE_CPU_ISA=AVX2 python -m bench.grid …

A shape is texts × tokens; texts are real ones of that many tokens, or running words of the file cut to length (bench/latency.py). `mixed` is real texts of all lengths. A lone text is
answered by peers as bench.latency opens them, many by peers as bench.throughput does; all compute in turn. The variables above keep those that heed them to an
instruction set. Prints a table of times and of how many times as long as the native engine's they are, then one JSON document as its last line.
"""

import os
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np
import tyro

from bench.comparison import (
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
from bench.driver import Measured, Results, measure, spread
from bench.flops import read_model
from bench.latency import TABLE as ALONE
from bench.latency import texts_of_length
from bench.roofline import Peak, best_peaks, measure_peaks
from bench.throughput import TABLE as TOGETHER
from bench.throughput import ThroughputConfig
from runtime.encode import Encoder
from trainer.flops import flops_of_texts

REFERENCE = "portabert native int8"
LONE = {"1×16": 16, "1×128": 128}  # tokens
MANY = {"32×32": 32, "32×128": 128}
LONE_TEXTS, MANY_TEXTS, MIXED_TEXTS = 10, 32, 128
FED = " batch 32"  # how the peers of bench.throughput that are fed batches are; nothing in the names of bench.latency's
ISA_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "PORTABERT_INSTRUCTION_SET", "CT2_FORCE_CPU_ISA", "ATEN_CPU_CAPABILITY")
RIVALS = (
    "portabert native",
    "portabert int8",
    "optimum int8",
    "onnxruntime int8 at its best",
    "openvino bf16 by hand",
    "openvino fp32 by hand",
    "ctranslate2 int8",
)


@dataclass(frozen=True, kw_only=True)
class GridConfig(ThroughputConfig):
    """Compare ways to answer texts of fixed shapes with one model. Without --only, with those that are known to be fast."""


def main() -> None:
    """Run the program."""
    config = tyro.cli(GridConfig, prog="python -m bench.grid", description=__doc__)
    compared = config.compared
    check_repeats(compared.repeats)
    if not compared.peers.only:
        compared = replace(compared, peers=replace(compared.peers, only=RIVALS))
    texts = read_texts(compared.texts, max_texts=None)
    encoder = Encoder(compared.peers.bundle, max_length=open_bundle(compared.peers.bundle).max_length, pair=False)
    lone, many = (
        {case: texts_of_length(texts, length, count=count, encoder=encoder) for case, length in shapes.items()}
        for shapes, count in ((LONE, LONE_TEXTS), (MANY, MANY_TEXTS))
    )
    many["mixed"] = [texts[index] for index in spread(len(texts), compared.max_texts or MIXED_TEXTS)]
    load = warn_of_load()
    with lineup(compared.peers, ALONE, calibration=texts) as peers:
        best = best_peaks(measure_peaks(threads=peers.job.threads)) if config.peak else {}
        alone = measure(peers, cases=lone, at_once=1, repeats=compared.repeats)
    fed = replace(compared.peers, only=tuple(_fed(name) for name in compared.peers.only))
    with lineup(fed, TOGETHER, calibration=texts) as peers:
        together = measure(peers, cases=many, at_once=None, repeats=compared.repeats)
    # A call's FLOPs: the average text's of those that come alone, all texts' of those that come together.
    shape = read_model(compared.peers.run)
    flops = {
        case: flops_of_texts(shape, encoder.encode(chosen).batch.lengths).mean() * (1 if case in lone else len(chosen))
        for case, chosen in (lone | many).items()
    }
    results = _merged(alone, together)
    document = {
        "question": "grid",
        **describe_timing(compared, results, load=load),
        "reference": REFERENCE,
        "environment": {name: os.environ[name] for name in ISA_VARIABLES if name in os.environ},
        "peaks": [peak._asdict() for peak in best.values()],
        "mflops": {case: float(number) / 1e6 for case, number in flops.items()},
        "peers": {name: _figures(peer, results, flops, best) for name, peer in results.measured.items()},
    }
    _print_table(document)
    finish(document, compared.peers.output)


def _fed(name: str) -> str:
    """Name a row of bench.latency's as bench.throughput does."""
    return name + FED if name.startswith(("optimum", "transformers ")) else name


def _merged(alone: Results, together: Results) -> Results:
    """Put the two runs together, peer by peer; one that failed in either has failed."""
    others = {name.removesuffix(FED): peer for name, peer in together.measured.items()}
    both = {
        name: replace(
            peer,
            rounds=peer.rounds | others[name].rounds,
            labels=peer.labels | others[name].labels,
            indices=peer.indices | others[name].indices,
        )
        for name, peer in alone.measured.items()
        if name in others
    }
    return Results(both, together.failed | alone.failed, alone.threads)


def _figures(peer: Measured, results: Results, flops: dict[str, float], best: dict[str, Peak]) -> dict[str, Any]:
    reference = results.measured.get(REFERENCE)
    peak = best.get(peer.precision)
    cases = {}
    for case, rounds in peer.rounds.items():
        own = [float(np.median(seconds)) for seconds in rounds]
        others = [float(np.median(seconds)) for seconds in reference.rounds[case]] if reference else []
        ratios = [mine / theirs for mine, theirs in zip(own, others, strict=False)]
        flops_per_s = flops[case] / median(own)
        cases[case] = {
            "median_ms": median(own) * 1e3,
            "ratio": median(ratios) if ratios else None,
            "ratios": ratios,
            "flops_per_s": flops_per_s,
            "share_of_peak": flops_per_s / peak.flops_per_s if peak else None,
            "seconds": own,
        }
    return {**describe_peer(peer, results), "cases": cases}


def _print_table(document: dict[str, Any]) -> None:
    cases = list(document["mflops"])
    print(f"{'ms a call':32}" + "".join(f"{case:>12}{'×':>7}{'peak':>6}" for case in cases))
    for name, peer in document["peers"].items():
        row = (peer["cases"][case] for case in cases)
        print(
            f"{name:32}"
            + "".join(
                f"{one['median_ms']:>12.2f}{cell(one['ratio'], '.2f'):>7}{cell(one['share_of_peak'], '.0%'):>6}"
                for one in row
            )
        )
    print(f"×: times as long as {REFERENCE}; peak: share of the highest matrix product of the same precision seen here")
    print_doubts(document)


if __name__ == "__main__":
    main()
