"""What this machine has, what would be used, and why: lines of (name, value) for people."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .engines import ENGINES, why_missing
from .model import Classifier
from .threads import usable_threads

# Instruction sets that decide how fast int8 and bf16 are, as Linux names them.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm", "bf16")
PACKAGES = ("portabert", "numpy", "tokenizers", "onnxruntime", "onnxruntime-gpu")


def describe_machine(threads: int | None = None) -> list[tuple[str, str]]:
    """Describe processor, threads, versions and engines."""
    found = usable_threads(threads)
    lines = [
        ("processor", processor()),
        ("threads", f"{found.number} ({found.reason})"),
        ("versions", ", ".join(f"{package} {number}" for package in PACKAGES if (number := package_version(package)))),
    ]
    return lines + [
        (f"engine {name}", f"no: {missing}" if (missing := why_missing(name)) else "yes") for name in ENGINES
    ]


def describe_bundle(classifier: Classifier) -> list[tuple[str, str]]:
    """Describe a loaded bundle and how it is run."""
    manifest, opened = classifier.manifest, classifier.opened
    labels = ", ".join(manifest.labels[:12]) + (f" … ({len(manifest.labels)})" if len(manifest.labels) > 12 else "")
    variants = [
        f"{name} ({manifest.files[variant.file].size / 1e6:.1f} MB{'' if variant.passed else ', unverified'})"
        for name, variant in manifest.variants.items()
    ]
    return [
        ("task", manifest.task + (", pairs" if manifest.pair else "")),
        ("labels", labels),
        ("max_length", f"{manifest.max_length} tokens"),
        ("variants", ", ".join(variants)),
        ("used", f"{opened.variant} on {opened.engine.description}"),
        ("why", f"{opened.name}: {opened.reason}"),
        (
            "in a batch",
            "the same to the bit as alone" if classifier.batch_invariant else "not the same to the bit as alone",
        ),
    ]


def processor() -> str:
    """Name the processor and those of its instruction sets that matter here."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    values = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    have = set((values.get("flags") or values.get("Features", "")).split())
    return f"{values.get('model name', platform.machine())}; {' '.join(flag for flag in FLAGS if flag in have)}"


def package_version(package: str) -> str | None:
    """Give the version of an installed package; None where it is not installed (the source tree may be used as it is)."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
