"""Export's errors, below `runtime.errors.Error`.

Error
├── TraceError     the model cannot be turned into an ONNX graph
└── ParityError    the ONNX model does not answer as the PyTorch model does, beyond the limits; the figures are in the message
"""

from runtime.errors import Error


class TraceError(Error):
    """The model cannot be turned into an ONNX graph."""


class ParityError(Error):
    """The exported model does not agree with the trained one within the limits."""
