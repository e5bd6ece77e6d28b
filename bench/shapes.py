"""Row-wise int8 beside Optimum's per-channel dynamic int8: the two graphs alone, at fixed shapes, each with the session options that suit it best.

    python -m bench.shapes --run RUN --bundle BUNDLE [--shapes 1x16 1x128 32x32 32x128] [--repeats 5] [--calls 10]
    python -m bench.shapes --run RUN --bundle BUNDLE --profile 32x128

A shape is texts × tokens; all its tokens are real. Every file is opened with every row of OPTIONS, each in a process of its own, and all compute in turn; of a
file the fastest row counts, shape by shape. No text is tokenised: the worker is sent the names of shapes where others get texts. `--profile` shows instead where
one pass spends its time, by kind of node, by onnxruntime's own profiler. Prints a table, then one JSON document as its last line.
"""

import json
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Annotated, Any, NamedTuple

import tyro

from bench.comparison import PeersConfig, cell, check_repeats, describe_run, finish, lineup, print_doubts, warn_of_load
from bench.driver import Lineup, Measured, measure
from bench.node_times import node_times, print_node_times
from bench.peers import Job, Model, Peer
from bench.peers.by_hand import config_of
from bench.peers.onnxruntime_by_hand import NO_FUSION, open_session
from bench.peers.optimum_onnx import WORDS, optimum_files

TABLE = "bench.shapes:GRAPHS"
OURS, THEIRS = "portabert int8", "optimum int8"


class Options(NamedTuple):
    """How a session is opened.

    Attributes:
        disabled: onnxruntime's graph optimisers left out.
        in_lanes: a batch is cut into as many parts as there are threads, each computed on one; else all threads share it.
    """

    disabled: tuple[str, ...]
    in_lanes: bool


OPTIONS: dict[str, Options] = {
    "fused, shared": Options((), False),
    "fused, in lanes": Options((), True),
    "unfused, shared": Options(NO_FUSION, False),
    "unfused, in lanes": Options(NO_FUSION, True),
}


def portabert_file(job: Job, *, variant: str) -> Path:
    """Give the bundle's file of a variant."""
    manifest = json.loads((Path(job.bundle) / "bundle.json").read_text(encoding="utf-8"))
    return Path(job.bundle) / str(manifest["variants"][variant]["file"])


FILES: dict[str, tuple[Callable[[Job], Path], str]] = {
    OURS: (partial(portabert_file, variant="int8"), "the bundle's variant int8: row-wise, a scale a token"),
    "portabert int8-channel": (
        partial(portabert_file, variant="int8-channel"),
        "the bundle's variant int8-channel: onnxruntime's dynamic int8, a scale a batch",
    ),
    THEIRS: (lambda job: optimum_files(job, "int8")[0], WORDS["int8"]),
}


def _open(job: Job, *, file: Callable[[Job], Path], options: Options) -> Model:
    path = file(job)
    session = open_session(path, threads=1 if options.in_lanes else job.threads, disabled=options.disabled)
    names = tuple(node.name for node in session.get_inputs())
    lanes = job.threads if options.in_lanes else 1
    pool, vocab_size = ThreadPoolExecutor(lanes), int(config_of(job)["vocab_size"])

    def one(shape: str) -> str:
        parts = _feeds(shape, lanes, names, vocab_size=vocab_size)
        if len(parts) == 1:
            answers = [session.run(None, parts[0])[0]]
        else:
            answers = [answer[0] for answer in pool.map(lambda feeds: session.run(None, feeds), parts)]
        return "".join(str(best) for logits in answers for best in logits.argmax(axis=-1))

    return Model(lambda shapes: [one(shape) for shape in shapes], one, files=(path,))


@lru_cache
def _feeds(shape: str, lanes: int, names: tuple[str, ...], *, vocab_size: int) -> list[dict[str, Any]]:
    """Make the arrays of a shape, in as many parts as there are lanes, or texts if these are fewer; random tokens, the same for every file."""
    import numpy as np

    batch, length = read_shape(shape)
    input_ids = np.random.default_rng(0).integers(vocab_size, size=(batch, length))  # (B, S)
    return [
        {
            name: {
                "input_ids": part,
                "attention_mask": np.ones_like(part),
                "token_type_ids": np.zeros_like(part),
            }[name]
            for name in names
        }
        for part in np.array_split(input_ids, min(lanes, batch))
    ]


GRAPHS: dict[str, Peer] = {
    f"{name}, {how}": Peer(partial(_open, file=file, options=options), f"onnxruntime; {words}; {how}", "int8")
    for name, (file, words) in FILES.items()
    for how, options in OPTIONS.items()
}


@dataclass(frozen=True, kw_only=True)
class ShapesConfig:
    """Compare two int8 graphs at fixed shapes."""

    peers: Annotated[PeersConfig, tyro.conf.arg(name="")]
    shapes: tuple[str, ...] = ("1x16", "1x128", "32x32", "32x128")
    """Texts x tokens."""
    repeats: int = 5
    """Rounds; a figure is the median over them."""
    calls: int = 10
    """Passes a round."""
    profile: str | None = None
    """Show instead where a pass of this shape spends its time."""


def main() -> None:
    """Run the program."""
    config = tyro.cli(ShapesConfig, prog="python -m bench.shapes", description=__doc__)
    check_repeats(config.repeats)
    for shape in (*config.shapes, *filter(None, [config.profile])):
        read_shape(shape)
    load = warn_of_load()
    with lineup(config.peers, TABLE, calibration=[]) as peers:
        document = _profile(config, peers, load) if config.profile else _compare(config, peers, load)
    finish(document, config.peers.output)


def read_shape(shape: str) -> tuple[int, int]:
    """Read "32x128": texts, tokens."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", shape)
    if match is None:
        raise SystemExit(f"error: a shape must be TEXTSxTOKENS, as 32x128. Got {shape!r} instead.")
    return int(match[1]), int(match[2])


def _compare(config: ShapesConfig, peers: Lineup, load: float) -> dict[str, Any]:
    cases = {shape: [shape] * config.calls for shape in config.shapes}
    results = measure(peers, cases=cases, at_once=1, repeats=config.repeats)
    document = {
        "question": "shapes",
        **describe_run(config.peers, failed=results.failed, load=load),
        "repeats": config.repeats,
        "calls": config.calls,
        "peers": {name: _figures(peer) for name, peer in results.measured.items()},
        "best": {
            shape: {name: best for name in FILES if (best := _best(results.measured, name, shape))}
            for shape in config.shapes
        },
    }
    _print_table(document)
    return document


def _figures(peer: Measured) -> dict[str, Any]:
    return {
        "settings": peer.settings,
        "idle_cpu_share": peer.idle_cpu_s / peer.idle_s if peer.idle_s else 0.0,
        "shapes": {
            shape: {
                "latency_ms": median(second for row in rounds for second in row) * 1e3,
                "texts_per_s": read_shape(shape)[0] / median(second for row in rounds for second in row),
                "seconds": rounds,
            }
            for shape, rounds in peer.rounds.items()
        },
    }


def _best(measured: Mapping[str, Measured], name: str, shape: str) -> dict[str, Any] | None:
    """Choose a file's options at a shape, and compare with Optimum's best there, round by round."""
    rounds = {how: measured[f"{name}, {how}"].rounds[shape] for how in OPTIONS if f"{name}, {how}" in measured}
    theirs = [measured[f"{THEIRS}, {how}"].rounds[shape] for how in OPTIONS if f"{THEIRS}, {how}" in measured]
    if not rounds:
        return None
    how = min(rounds, key=lambda how: median(second for row in rounds[how] for second in row))
    latency = median(second for row in rounds[how] for second in row)
    reference = min(theirs, key=lambda rows: median(second for row in rows for second in row), default=[])
    ratios = [median(other) / median(own) for own, other in zip(rounds[how], reference, strict=False)]
    return {
        "options": how,
        "latency_ms": latency * 1e3,
        "texts_per_s": read_shape(shape)[0] / latency,
        "ratio": median(ratios) if ratios else None,
        "ratios": ratios,
    }


def _print_table(document: dict[str, Any]) -> None:
    print(f"{'shape':10}{'graph':28}{'best options':20}{'ms':>9}{'texts/s':>9}{'×':>7}{'(least–most)':>15}")
    for shape, graphs in document["best"].items():
        for name, best in graphs.items():
            low_high = f"({min(best['ratios']):.2f}–{max(best['ratios']):.2f})" if best["ratios"] else "–"
            print(
                f"{shape:10}{name:28}{best['options']:20}{best['latency_ms']:>9.2f}{best['texts_per_s']:>9.0f}{cell(best['ratio'], '.2f'):>7}{low_high:>15}"
            )
    print(
        f"×: times as fast as {THEIRS} with its best options. fused: SkipLayerNormFusion on; in lanes: a part of the batch a thread"
    )
    print_doubts(document)


def _profile(config: ShapesConfig, peers: Lineup, load: float) -> dict[str, Any]:
    assert config.profile is not None
    tables: dict[str, dict[str, float]] = {}
    for name, (file, _) in FILES.items():
        path = file(peers.job)
        make_feeds = partial(_feeds, config.profile, 1, vocab_size=int(config_of(peers.job)["vocab_size"]))
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            tables[name] = pool.submit(
                node_times, path, make_feeds, threads=peers.job.threads, disabled=NO_FUSION
            ).result()
    print_node_times(config.profile, tables)
    return {
        "question": "profile",
        **describe_run(config.peers, failed={}, load=load),
        "shape": config.profile,
        "settings": "unfused, shared; onnxruntime's profiler, whose own cost, some µs a node, is included",
        "ms": tables,
    }


if __name__ == "__main__":
    main()
