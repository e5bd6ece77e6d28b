"""The machine and the versions that a figure belongs to."""

import platform
from typing import Any

from runtime.machine import package_version, processor
from runtime.threads import usable_threads

PACKAGES = (
    "portabert",
    "torch",
    "transformers",
    "tokenizers",
    "onnx",
    "onnxruntime",
    "optimum",
    "optimum-onnx",
    "numpy",
)


def describe_machine() -> dict[str, Any]:
    """Name processor, threads and versions."""
    threads = usable_threads()
    return {
        "processor": processor(),
        "threads": threads.number,
        "threads_reason": threads.reason,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: package_version(package) or "not installed" for package in PACKAGES},
    }
