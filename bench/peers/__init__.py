"""The ways to answer texts that the benchmarks compare, each used as its own documentation says.

A peer is one row of a table: how it is opened, its settings in words, the precision of its products, and where it runs. One file a library says how.
A peer is opened in a worker process (bench/worker.py), perhaps under an interpreter of its own, so nothing but the standard library is imported before a
peer is asked for.
"""

from collections.abc import Callable
from functools import partial

from bench.peers import (
    ctranslate2_encoder,
    onnxruntime_by_hand,
    openvino_by_hand,
    optimum_intel,
    optimum_onnx,
    portabert,
    pytorch,
    transformers_exporters,
)
from bench.peers.peer import Job, Model, Peer

__all__ = ["ACCURACY", "LATENCY", "THROUGHPUT", "Job", "Model", "Peer"]

# How a pipeline is fed, and on how many texts the slow ways are measured.
FEEDS: dict[str, tuple[int, bool, str, int | None]] = {
    "batch 1": (1, False, "batch_size=1", 400),
    "batch 32": (32, False, "batch_size=32", 800),
    "sorted 32": (32, True, f"batch_size=32, {pytorch.SORTED}", None),
    "alone": (1, False, "a text a call", None),
}


def _portabert(variant: str, precision: str, *, engine: str = "ort-cpu", package: str = "onnxruntime") -> Peer:
    return Peer(
        partial(portabert.open_portabert, variant=variant, engine=engine),
        portabert.SETTINGS.format(variant, engine),
        precision,
        (*portabert.PACKAGES, package),
    )


PORTABERT: dict[str, Peer] = {
    "portabert fp32": _portabert("fp32", "fp32"),
    "portabert native int8": _portabert("native-int8", "int8", engine="native", package="portabert-native"),
    "portabert native bf16": _portabert("native-bf16", "bf16", engine="native", package="portabert-native"),
    "portabert int8": _portabert("int8", "int8"),
    "portabert int8-channel": _portabert("int8-channel", "int8"),
    "portabert openvino bf16": _portabert("bf16", "bf16", engine="openvino", package="openvino"),
    "portabert openvino int8-weights": _portabert("int8-weights", "int8", engine="openvino", package="openvino"),
    "portabert tuned": Peer(
        portabert.open_tuned, portabert.TUNED, "int8", (*portabert.PACKAGES, "onnxruntime", "openvino")
    ),
}


def _fed(
    open_model: Callable[..., Model],
    settings: str,
    words: str,
    precision: str,
    packages: tuple[str, ...],
    *,
    environment: str | None = None,
    feeds: tuple[str, ...] = ("batch 32", "sorted 32", "alone"),
) -> dict[str, Peer]:
    """Give the rows of one model in a pipeline, by how it is fed."""
    return {
        feed: Peer(
            partial(open_model, batch_size=batch_size, by_length=by_length),
            settings.format(f"{words}, {fed}"),
            precision,
            packages,
            environment,
            max_texts,
        )
        for feed, (batch_size, by_length, fed, max_texts) in ((feed, FEEDS[feed]) for feed in feeds)
    }


# Models in transformers' pipeline, by name, then by how they are fed.
PIPELINES: dict[str, dict[str, Peer]] = {
    "transformers fp32": _fed(
        partial(pytorch.open_pytorch, dtype="float32"),
        pytorch.SETTINGS,
        "fp32",
        "fp32",
        pytorch.PACKAGES,
        feeds=tuple(FEEDS),
    ),
    "transformers bf16": _fed(
        partial(pytorch.open_pytorch, dtype="bfloat16"), pytorch.SETTINGS, pytorch.BF16, "bf16", pytorch.PACKAGES
    ),
    "transformers int8": _fed(pytorch.open_int8, pytorch.SETTINGS, pytorch.INT8, "int8", pytorch.PACKAGES),
    "transformers compiled": _fed(pytorch.open_compiled, pytorch.SETTINGS, pytorch.COMPILED, "fp32", pytorch.PACKAGES),
    **{
        f"optimum {precision}": _fed(
            partial(optimum_onnx.open_optimum, precision=precision),
            optimum_onnx.SETTINGS,
            words,
            precision,
            optimum_onnx.PACKAGES,
            feeds=tuple(FEEDS),
        )
        for precision, words in optimum_onnx.WORDS.items()
    },
    **{
        f"optimum-intel {precision}": _fed(
            partial(optimum_intel.open_optimum_intel, precision=precision),
            optimum_intel.SETTINGS,
            words,
            precision,
            optimum_intel.PACKAGES,
            environment=optimum_intel.ENVIRONMENT,
        )
        for precision, words in optimum_intel.WORDS.items()
    },
}


def _onnxruntime(precision: str, *, best: bool, in_lanes: bool = False) -> Peer:
    words = optimum_onnx.WORDS[precision]
    how = onnxruntime_by_hand.LANES if in_lanes else "a batch at a time on all threads"
    return Peer(
        partial(
            onnxruntime_by_hand.open_by_hand,
            files=partial(optimum_onnx.optimum_files, precision=precision),
            disabled=onnxruntime_by_hand.NO_FUSION if best else (),
            in_lanes=in_lanes,
        ),
        onnxruntime_by_hand.BEST.format(words, how) if best else onnxruntime_by_hand.DEFAULTS.format(words),
        precision,
        onnxruntime_by_hand.PACKAGES,
    )


def _openvino(hint: str, precision: str, *, streams: int) -> Peer:
    return Peer(
        partial(openvino_by_hand.open_by_hand, hint=hint, streams=streams),
        openvino_by_hand.SETTINGS.format(hint, streams),
        precision,
        openvino_by_hand.PACKAGES,
    )


def _ctranslate2(compute_type: str, precision: str, *, in_lanes: bool) -> Peer:
    how = "inter_threads: a thread each" if in_lanes else "intra_threads: all threads share a batch"
    return Peer(
        partial(ctranslate2_encoder.open_encoder, compute_type=compute_type, in_lanes=in_lanes),
        ctranslate2_encoder.SETTINGS.format(compute_type, how),
        precision,
        ctranslate2_encoder.PACKAGES,
        ctranslate2_encoder.ENVIRONMENT,
    )


EXPORTED: dict[str, Peer] = {
    f"transformers-5 exporter {precision}": Peer(
        partial(transformers_exporters.open_exported, precision=precision),
        transformers_exporters.SETTINGS.format(words),
        precision,
        transformers_exporters.PACKAGES,
        transformers_exporters.ENVIRONMENT,
    )
    for precision, words in transformers_exporters.WORDS.items()
}
COMPUTE_TYPES = {"float32": "fp32", "int8": "int8", "int8_bfloat16": "int8"}  # CTranslate2's → precision

THROUGHPUT: dict[str, Peer] = {
    **PORTABERT,
    **{f"{name} {feed}": peer for name, rows in PIPELINES.items() for feed, peer in rows.items() if feed != "alone"},
    "onnxruntime fp32 by hand": _onnxruntime("fp32", best=True, in_lanes=True),
    "onnxruntime int8 by hand": _onnxruntime("int8", best=False),
    "onnxruntime int8 at its best": _onnxruntime("int8", best=True, in_lanes=True),
    **EXPORTED,
    "openvino fp32 by hand": _openvino("f32", "fp32", streams=2),
    "openvino bf16 by hand": _openvino("bf16", "bf16", streams=2),
    **{
        f"ctranslate2 {compute_type}": _ctranslate2(compute_type, precision, in_lanes=True)
        for compute_type, precision in COMPUTE_TYPES.items()
    },
}

# One text a call, which all threads share.
LATENCY: dict[str, Peer] = {
    **PORTABERT,
    **{name: rows["alone"] for name, rows in PIPELINES.items()},
    "optimum int8 without pipeline": Peer(
        partial(optimum_onnx.open_direct, precision="int8"), optimum_onnx.DIRECT, "int8", optimum_onnx.PACKAGES
    ),
    "onnxruntime fp32 by hand": _onnxruntime("fp32", best=True),
    "onnxruntime int8 by hand": THROUGHPUT["onnxruntime int8 by hand"],
    "onnxruntime int8 at its best": _onnxruntime("int8", best=True),
    **EXPORTED,
    "openvino fp32 by hand": _openvino("f32", "fp32", streams=1),
    "openvino bf16 by hand": _openvino("bf16", "bf16", streams=1),
    **{
        f"ctranslate2 {compute_type}": _ctranslate2(compute_type, precision, in_lanes=False)
        for compute_type, precision in COMPUTE_TYPES.items()
    },
}

# Every arithmetic once, in the batches that its users compute: a pipeline's of 32 texts as they come, the others' as they batch.
ACCURACY: dict[str, Peer] = {
    **{name: peer for name, peer in THROUGHPUT.items() if not any(name.endswith(feed) for feed in FEEDS)},
    **{name: rows["batch 32"]._replace(max_texts=None) for name, rows in PIPELINES.items()},
}
