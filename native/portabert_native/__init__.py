"""portabert's CPU engine: an encoder in C++, bound by ctypes, in int8 or bf16, and WordPiece beside it.

    model = Model(Shape(vocabulary=…, …), threads=2)
    model.set({"layer_0_up_int8": array, …})     arrays stay where they are; nothing is copied
    logits = model.run(input_ids, token_type_ids, cu_seqlens, together=False)

ctypes, not an extension module: one library serves every Python version, and it is what other languages call, too. `runtime/engines/native.py` of portabert opens
bundles with it; docs/native.md names the tensors.
"""

from .library import NativeError
from .model import MAX_STEPS, Model, Shape, instruction_sets
from .wordpiece import FIRST_PART, LEFT, SECOND_PART, TRUNCATED, WHOLE, Encodings, Kind, Rules, WordPiece

__all__ = [
    "FIRST_PART",
    "LEFT",
    "MAX_STEPS",
    "SECOND_PART",
    "TRUNCATED",
    "WHOLE",
    "Encodings",
    "Kind",
    "Model",
    "NativeError",
    "Rules",
    "Shape",
    "WordPiece",
    "__version__",
    "instruction_sets",
]
__version__ = "0.1.0"
