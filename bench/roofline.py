"""How fast could a model be here? The machine's peak of matrix products in each precision, and the FLOPs of a text.

    python -m bench.roofline --run RUN --bundle BUNDLE --texts FILE [--threads 2]

The peak of a precision is the highest rate seen over every way in WAYS and every size in SIZES, all threads sharing one product or each at one of its own
(ARRANGEMENTS); trainer/flops.py counts a text's. Prints tables, then one JSON document as its last line.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro

from bench.comparison import finish, read_texts, warn_of_load
from bench.flops import read_model, token_lengths
from bench.machine import describe_machine
from runtime.errors import InputError
from runtime.threads import usable_threads
from trainer.flops import flops_of_texts

# (rows, inner, columns): the products of MiniLM and BERT-base at 512 tokens, and two square ones.
SIZES = ((512, 384, 1536), (512, 1536, 384), (512, 768, 3072), (512, 3072, 768), (1024, 1024, 1024), (2048, 2048, 2048))
SECONDS, TRIES = 0.1, 3  # of each size, the best of three tries


class Way(NamedTuple):
    """One library's matrix product: `prepare(m, k, n, threads)` gives a function that computes it once."""

    precision: str
    prepare: Callable[[int, int, int, int], Callable[[], object]]


class Peak(NamedTuple):
    """The highest rate one way reached.

    Attributes:
        precision: fp32, bf16 or int8.
        way: a key of WAYS.
        flops_per_s: multiplications and additions a second.
        size: rows, inner and columns of the product.
        arrangement: a key of ARRANGEMENTS.
    """

    precision: str
    way: str
    flops_per_s: float
    size: tuple[int, int, int]
    arrangement: str


def _numpy(m: int, k: int, n: int, threads: int) -> Callable[[], object]:
    rows, weights = np.ones((m, k), np.float32), np.ones((k, n), np.float32)
    out = np.empty((m, n), np.float32)
    return lambda: np.matmul(rows, weights, out=out)


def _torch(m: int, k: int, n: int, threads: int, *, dtype: str) -> Callable[[], object]:
    import torch

    torch.set_num_threads(threads)
    rows, weights = torch.ones(m, k, dtype=getattr(torch, dtype)), torch.ones(n, k, dtype=getattr(torch, dtype))

    def product() -> object:
        with torch.inference_mode():
            return torch.nn.functional.linear(rows, weights)

    return product


def _torch_int8(m: int, k: int, n: int, threads: int) -> Callable[[], object]:
    import torch

    torch.set_num_threads(threads)
    rows, weights = torch.ones(m, k, dtype=torch.int8), torch.ones(k, n, dtype=torch.int8)
    return lambda: torch._int_mm(rows, weights)


def _onnxruntime(m: int, k: int, n: int, threads: int, *, int8: bool) -> Callable[[], object]:
    import onnx
    import onnxruntime

    types = (onnx.TensorProto.UINT8, onnx.TensorProto.INT32) if int8 else (onnx.TensorProto.FLOAT,) * 2
    weights = np.ones((k, n), np.int8 if int8 else np.float32)  # uint8 · int8 is the pairing with fast kernels
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMulInteger" if int8 else "MatMul", ["rows", "weights"], ["product"])],
        "product",
        [onnx.helper.make_tensor_value_info("rows", types[0], [m, k])],
        [onnx.helper.make_tensor_value_info("product", types[1], [m, n])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {"rows": np.ones((m, k), np.uint8 if int8 else np.float32)}
    return lambda: session.run(None, feeds)


def _openvino(m: int, k: int, n: int, threads: int, *, hint: str) -> Callable[[], object]:
    import openvino
    from openvino import opset13

    rows = opset13.parameter([m, k], np.float32)
    product = opset13.matmul(rows, opset13.constant(np.ones((k, n), np.float32)), False, False)
    properties = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": str(threads), "NUM_STREAMS": "1"}
    request = openvino.Core().compile_model(openvino.Model([product], [rows]), "CPU", properties).create_infer_request()
    request.set_input_tensor(openvino.Tensor(np.ones((m, k), np.float32)))
    return lambda: request.infer()


WAYS: dict[str, Way] = {
    "numpy fp32": Way("fp32", _numpy),
    "torch fp32": Way("fp32", partial(_torch, dtype="float32")),
    "onnxruntime fp32": Way("fp32", partial(_onnxruntime, int8=False)),
    "openvino fp32": Way("fp32", partial(_openvino, hint="f32")),
    "torch bf16": Way("bf16", partial(_torch, dtype="bfloat16")),
    "openvino bf16": Way("bf16", partial(_openvino, hint="bf16")),
    "torch int8": Way("int8", _torch_int8),
    "onnxruntime int8": Way("int8", partial(_onnxruntime, int8=True)),
}
ARRANGEMENTS: dict[str, Callable[[int], tuple[int, int]]] = {  # threads → products at once, threads of each
    "all threads share a product": lambda threads: (1, threads),
    "a product a thread": lambda threads: (threads, 1),
}


@dataclass(frozen=True, kw_only=True)
class RooflineConfig:
    """Measure the machine's peak, and say what it would mean for a model."""

    run: Path
    """The checkpoint: a Hugging Face folder."""
    bundle: Path
    """What `python -m export` made of it, for its tokenizer and its longest text."""
    texts: Path
    """Plain text, a line a text."""
    threads: int | None = None
    """Threads to compute with. Default: as many as this process really has."""
    output: Path | None = None
    """Write the JSON here too."""


def main() -> None:
    """Run the program."""
    config = tyro.cli(RooflineConfig, prog="python -m bench.roofline", description=__doc__)
    threads = usable_threads(config.threads).number
    lengths = token_lengths(config.bundle, read_texts(config.texts, max_texts=None))
    try:
        flops = flops_of_texts(read_model(config.run), lengths)
    except InputError as exc:
        raise SystemExit(f"error: {exc}") from exc
    load = warn_of_load()
    peaks = measure_peaks(threads=threads)
    best = best_peaks(peaks)
    for peak in sorted(peaks, key=lambda peak: (peak.precision, -peak.flops_per_s)):
        size = "×".join(map(str, peak.size))
        print(f"{peak.precision:6}{peak.way:20}{peak.flops_per_s / 1e9:>9.0f} GFLOP/s  {size}, {peak.arrangement}")
    print(f"a text: {flops.mean() / 1e6:.0f} MFLOP on average, {lengths.mean():.1f} tokens")
    for precision, peak in best.items():
        print(f"{precision:6}at most {peak.flops_per_s / flops.mean():.0f} texts/s")
    document = {
        "question": "roofline",
        "machine": describe_machine(),
        "threads": threads,
        "load_before": load,
        "run": config.run.resolve().name,
        "texts": config.texts.name,
        "flops_a_text": float(flops.mean()),
        "peaks": [peak._asdict() for peak in peaks],
        "texts_per_s": {precision: peak.flops_per_s / float(flops.mean()) for precision, peak in best.items()},
    }
    finish(document, config.output)


def measure_peaks(*, threads: int) -> list[Peak]:
    """Measure every way that works here, each arrangement in a process of its own, for libraries keep the thread pools they first made."""
    peaks: list[Peak] = []
    for arrangement in ARRANGEMENTS:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            peaks += pool.submit(_peaks, arrangement, threads).result()
    return peaks


def best_peaks(peaks: Sequence[Peak]) -> dict[str, Peak]:
    """Choose the highest of each precision."""
    best: dict[str, Peak] = {}
    for peak in peaks:
        if peak.precision not in best or peak.flops_per_s > best[peak.precision].flops_per_s:
            best[peak.precision] = peak
    return best


def _peaks(arrangement: str, threads: int) -> list[Peak]:
    lanes, width = ARRANGEMENTS[arrangement](threads)
    peaks = []
    for name, way in WAYS.items():
        try:
            rates = [(_rate(way, size, lanes=lanes, width=width), size) for size in SIZES]
        except (ImportError, RuntimeError):  # a library that is not here, or has no such kernel on this CPU
            continue
        flops_per_s, size = max(rates)
        peaks.append(Peak(way.precision, name, flops_per_s, size, arrangement))
    return peaks


def _rate(way: Way, size: tuple[int, int, int], *, lanes: int, width: int) -> float:
    """Time products of one size: FLOPs a second, all lanes together."""
    import threadpoolctl

    with threadpoolctl.threadpool_limits(width), ThreadPoolExecutor(lanes) as pool:
        products = list(pool.map(lambda _: way.prepare(*size, width), range(lanes)))
        best = 0.0
        for _ in range(TRIES):
            start = time.perf_counter()
            numbers = list(pool.map(_repeat, products))
            best = max(best, sum(numbers) / (time.perf_counter() - start))
    m, k, n = size
    return 2.0 * m * k * n * best


def _repeat(product: Callable[[], object]) -> int:
    """Compute for SECONDS; how many times."""
    number, end = 0, time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        product()
        number += 1
    return number


if __name__ == "__main__":
    main()
