"""onnxruntime sessions that add 8-bit products exactly, as the runtime's do."""

from typing import Any

import onnxruntime

from runtime.engines.exactness import EXACT, saturates


def exact_options() -> Any:
    """Give the options with which int8 is exact on this CPU, with VNNI or without."""
    options = onnxruntime.SessionOptions()
    for key, value in EXACT.items() if saturates() else ():
        options.add_session_config_entry(key, value)
    return options
