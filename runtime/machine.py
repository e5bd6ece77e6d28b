"""This machine, as far as answers and speed depend on it: the processor, and the packages that compute."""

import platform
from functools import cache
from pathlib import Path

# Instruction sets that decide how fast int8 and bf16 are, as Linux names them.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm", "bf16")
PACKAGES = ("portabert", "numpy", "tokenizers", "onnxruntime", "onnxruntime-gpu", "openvino", "portabert-native")


def processor() -> str:
    """Name the processor and those of its instruction sets that matter here."""
    values = _cpuinfo()
    if not values:
        return platform.processor() or platform.machine()
    have = cpu_flags()
    return f"{values.get('model name', platform.machine())}; {' '.join(flag for flag in FLAGS if flag in have)}"


def cpu_flags() -> frozenset[str]:
    """Name all of the processor's instruction sets; none where the system is not Linux and does not list them."""
    values = _cpuinfo()
    return frozenset((values.get("flags") or values.get("Features", "")).split())


@cache  # reading the metadata takes milliseconds, and loading asks for several packages
def package_version(package: str) -> str | None:
    """Give the version of an installed package; None where it is not installed (the source tree may be used as it is)."""
    from importlib.metadata import PackageNotFoundError, version  # takes as long to import as a model to open

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpuinfo() -> dict[str, str]:
    """Read what Linux says of the last CPU: all are alike in what matters here."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
