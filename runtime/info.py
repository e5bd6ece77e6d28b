"""What this machine has, what would be used, and why: lines of (name, value) for people."""

from .engines import ENGINES, why_missing
from .machine import PACKAGES, package_version, processor
from .model import Classifier
from .threads import usable_threads


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
