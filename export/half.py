"""An fp32 graph to fp16, for GPUs: half the bytes, and the arithmetic that their matrix units have.

Inputs and logits stay as they are. What adds up or raises to powers over a whole row stays in fp32: an fp16 number ends at 65,504, and LayerNorm's variance or a
softmax over masked scores passes it.
"""

import logging
from pathlib import Path

import onnx

from .graph import save

KEPT_IN_FP32 = ("LayerNormalization", "Softmax", "ReduceMean", "Pow", "Sqrt", "Range", "CumSum")


def to_fp16(source: Path, target: Path) -> None:
    """Write the fp16 form of a graph.

    Args:
        source: the fp32 graph.
        target: where the fp16 graph goes.
    """
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    logger = logging.getLogger("onnxruntime.transformers.float16")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it names every weight that is rounded to 0; the gate says what that costs
    try:
        model = convert_float_to_float16(
            onnx.load(source), keep_io_types=True, op_block_list=[*DEFAULT_OP_BLOCK_LIST, *KEPT_IN_FP32]
        )
    finally:
        logger.setLevel(level)
    OnnxModel(model).topological_sort()  # it puts its casts at the end
    save(model, target)
