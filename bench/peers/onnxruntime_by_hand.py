"""Optimum's files under onnxruntime without a pipeline: what is the graph's merit and what the pipeline's cost."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.peers.by_hand import SORTED, Rows, by_hand, config_of, rectangle
from bench.peers.peer import Job, Model

PACKAGES = ("onnxruntime", "tokenizers", "numpy")
DEFAULTS = f"onnxruntime, {SORTED}; {{}}; intra_op_num_threads, else defaults"
BEST = f"onnxruntime, {SORTED}; {{}}; disabled_optimizers=['SkipLayerNormFusion'], {{}}"
LANES = "as many batches at once as threads, each on one thread"
NO_FUSION = ("SkipLayerNormFusion",)  # its CPU kernel is slower than what it fuses (docs/LOG.md)


def open_by_hand(
    job: Job, *, files: Callable[[Job], list[Path]], disabled: tuple[str, ...] = (), in_lanes: bool = False
) -> Model:
    """Open a file.

    Args:
        job: what every peer is given.
        files: gives the ONNX file, and what belongs to it.
        disabled: onnxruntime's graph optimisers to leave out.
        in_lanes: compute as many batches at once as there are threads, each on one thread; else a batch at a time on all.
    """
    paths = files(job)
    session = open_session(paths[0], threads=1 if in_lanes else job.threads, disabled=disabled)
    names = [node.name for node in session.get_inputs()]
    pad_token_id = config_of(job)["pad_token_id"]

    def compute(rows: Rows) -> Any:
        (logits,) = session.run(None, rectangle(rows, names=names, pad_token_id=pad_token_id))
        return logits

    if in_lanes:
        pool = ThreadPoolExecutor(job.threads)
        return by_hand(job, lambda batches: list(pool.map(compute, batches)), files=paths)
    return by_hand(job, lambda batches: [compute(rows) for rows in batches], files=paths)


def open_session(file: Path, *, threads: int, disabled: tuple[str, ...] = ()) -> Any:
    """Open an ONNX file on the CPU."""
    import onnxruntime

    return onnxruntime.InferenceSession(
        str(file),
        session_options(threads),
        providers=["CPUExecutionProvider"],
        disabled_optimizers=list(disabled) or None,
    )


def session_options(threads: int) -> Any:
    """Give onnxruntime's options with so many threads, else its defaults."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return options
