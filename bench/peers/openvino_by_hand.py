"""Optimum's plain ONNX file under OpenVINO, without optimum-intel: batches of like length, several at once."""

from functools import partial
from typing import Any

from bench.peers.by_hand import SORTED, Rows, by_hand, config_of, rectangle
from bench.peers.optimum_onnx import optimum_files
from bench.peers.peer import Job, Model

PACKAGES = ("openvino", "tokenizers", "numpy")
SETTINGS = f"openvino, {SORTED}; Optimum's fp32 ONNX file, INFERENCE_PRECISION_HINT={{}}, NUM_STREAMS={{}}, INFERENCE_NUM_THREADS, AsyncInferQueue"


def open_by_hand(job: Job, *, hint: str, streams: int) -> Model:
    """Open the file.

    Args:
        job: what every peer is given.
        hint: f32 or bf16, what OpenVINO is asked to compute in.
        streams: batches computed at once, each by threads / streams threads.
    """
    import openvino

    paths = optimum_files(job, "fp32")
    streams = min(streams, job.threads)
    compiled = openvino.Core().compile_model(
        str(paths[0]),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": hint,
            "NUM_STREAMS": str(streams),
            "INFERENCE_NUM_THREADS": str(job.threads),
        },
    )
    names = [port.get_any_name() for port in compiled.inputs]
    fill = partial(rectangle, names=names, pad_token_id=config_of(job)["pad_token_id"])
    queue = openvino.AsyncInferQueue(compiled, streams)
    computed: dict[int, Any] = {}
    queue.set_callback(lambda request, place: computed.update({place: request.get_output_tensor().data.copy()}))

    def compute(batches: list[Rows]) -> list[Any]:
        for place, rows in enumerate(batches):
            queue.start_async(fill(rows), place)
        queue.wait_all()
        return [computed.pop(place) for place in range(len(batches))]

    got = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return by_hand(job, compute, files=paths, description=f"OpenVINO computes in {got}")
