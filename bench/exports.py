"""The ways from a checkpoint to files that answer, and a fresh process that goes one of them.

    PYTHON -m bench.exports NAME '{"run": …, "folder": …, "calibration": …}'

Needs the standard library, and what the export itself needs.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bench.peers import ctranslate2_encoder, optimum_intel, optimum_onnx, transformers_exporters


class Order(NamedTuple):
    """What an export is given: the checkpoint, the folder to write, and a file of texts to calibrate on."""

    run: str
    folder: str
    calibration: str


class Export(NamedTuple):
    """A row of the table.

    Attributes:
        write: does it.
        settings: in words.
        environment: the row of bench/environments.py it runs in; None for this one.
        again: what is measured is a second export, onto the files of a first.
    """

    write: Callable[[Order], None]
    settings: str
    environment: str | None = None
    again: bool = False


def _portabert(order: Order, *, reuse: bool) -> None:
    from export.__main__ import main

    foreign = [] if (Path(order.run) / "run.json").is_file() else ["--task", "single-label"]
    flags = [] if reuse else ["--no-reuse"]
    if code := main([order.run, "--output", order.folder, "--overwrite", *flags, *foreign]):
        raise SystemExit(code)


def _optimum(order: Order, *, quantize: bool) -> None:
    optimum_onnx.write(order.run, order.folder, quantize=quantize)


def _transformers(order: Order, *, precision: str) -> None:
    transformers_exporters.write(order.run, order.folder, precision=precision)


def _optimum_intel(order: Order, *, quantize: bool) -> None:
    optimum_intel.write(order.run, order.folder, calibration=order.calibration if quantize else None)


def _ctranslate2(order: Order) -> None:
    ctranslate2_encoder.write(order.run, order.folder, quantization="int8")


_PORTABERT = "python -m export RUN: variants fp32 and int8, verified against PyTorch at every shape and on the run's evaluation rows"
_OPTIMUM = "ORTModelForSequenceClassification.from_pretrained(export=True)"
_TRANSFORMERS = "OnnxExporter, OnnxConfig(dynamic=True, ort_fusions='cpu'{})"
_INTEL = "OVModelForSequenceClassification.from_pretrained(export=True)"
EXPORTS: dict[str, Export] = {
    "portabert": Export(partial(_portabert, reuse=False), f"{_PORTABERT}; --no-reuse"),
    "portabert again": Export(
        partial(_portabert, reuse=True), f"{_PORTABERT}; onto the bundle of the same run (--overwrite)", again=True
    ),
    "optimum fp32": Export(partial(_optimum, quantize=False), _OPTIMUM),
    "optimum fp32 and int8": Export(partial(_optimum, quantize=True), f"{_OPTIMUM}; {optimum_onnx.WORDS['int8']}"),
    **{
        f"transformers-5 exporter {precision}": Export(
            partial(_transformers, precision=precision),
            _TRANSFORMERS.format(words),
            transformers_exporters.ENVIRONMENT,
        )
        for precision, words in transformers_exporters.WORDS.items()
    },
    "optimum-intel fp32": Export(partial(_optimum_intel, quantize=False), _INTEL, optimum_intel.ENVIRONMENT),
    "optimum-intel int8": Export(
        partial(_optimum_intel, quantize=True),
        f"{_INTEL}; {optimum_intel.WORDS['int8']}",
        optimum_intel.ENVIRONMENT,
    ),
    "ctranslate2 int8": Export(
        _ctranslate2, "TransformersConverter.convert(quantization='int8')", ctranslate2_encoder.ENVIRONMENT
    ),
}


if __name__ == "__main__":
    EXPORTS[sys.argv[1]].write(Order(**json.loads(sys.argv[2])))
