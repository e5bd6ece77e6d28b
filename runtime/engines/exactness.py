"""Does onnxruntime add 8-bit products exactly on this CPU, as it is?

Without VNNI, CPUs with AVX2 or AVX512 add pairs of uint8 · int8 in 16 bits, and a sum beyond ±32,767 sticks there. `session.x64quantprecision` makes onnxruntime go another
way, exact and slower. CPUs with VNNI need no other way, but take it all the same when asked to, at half the speed (docs/LOG.md); so it is asked for where the
products are seen to be wrong. Seen, not looked up: the flags of a CPU are told differently by every system, and say nothing of what an onnxruntime was built to use.
"""

from functools import cache
from typing import Any

import numpy as np

EXACT = {"session.x64quantprecision": "1"}
# MatMulInteger of (2, 4) by four times 127; tests/runtime/test_exactness.py makes it with onnx.
PRODUCT = (
    b'\x08\x08:X\n\x18\n\x01a\n\x01b\x12\x01y"\rMatMulInteger\x12\x01g*\x0f\x08\x04\x08\x01\x10\x03B\x01bJ\x04\x7f\x7f\x7f\x7fZ\x13\n\x01a\x12\x0e\n\x0c\x08\x02\x12'
    b"\x08\n\x02\x08\x02\n\x02\x08\x04b\x13\n\x01y\x12\x0e\n\x0c\x08\x06\x12\x08\n\x02\x08\x02\n\x02\x08\x01B\x04\n\x00\x10\x0e"
)
LARGEST = 4 * 255 * 127


@cache
def saturates() -> bool:
    """Whether the largest product of 8-bit numbers comes out too small; takes a millisecond, once a process."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(PRODUCT, options, providers=["CPUExecutionProvider"])
    (product,) = session.run(None, {"a": np.full((2, 4), 255, dtype=np.uint8)})
    return bool((np.asarray(product) != LARGEST).any())


def exact_options() -> Any:
    """Give onnxruntime's session options with which sums of 8-bit products are exact here, as they are or the slower way."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    for key, value in EXACT.items() if saturates() else ():
        options.add_session_config_entry(key, value)
    return options
