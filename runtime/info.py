"""What this machine has, what would be used, and why: lines of (name, value) for people."""

from collections.abc import Sequence
from pathlib import Path

from .bundle import Manifest
from .engines import ENGINES, why_missing
from .host import Found
from .machine import PACKAGES, package_version, processor
from .model import Classifier
from .profile import Choice, Profile
from .threads import usable_threads

# What a goal is, for people.
GOALS = {"throughput": "throughput", "latency": "latency", "both": "throughput and latency together"}


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
    return [
        ("task", manifest.task + (", pairs" if manifest.pair else "")),
        ("labels", labels),
        ("max_length", f"{manifest.max_length} tokens"),
        (
            "scores",
            f"calibrated, temperature {manifest.temperature:.3f}" if manifest.temperature != 1 else "the model's own",
        ),
        *(
            [("abstains", f"below a score of {manifest.abstain_below:.4f}")]
            if manifest.abstain_below is not None
            else []
        ),
        ("tokenised by", classifier.tokenizer),
        *((f"variant {name}", _describe_variant(manifest, name)) for name in manifest.variants),
        ("used", f"{opened.variant} on {opened.engine.description}"),
        ("why", f"{opened.name}: {opened.reason}"),
        (
            "in a batch",
            "the same to the bit as alone" if classifier.batch_invariant else "not the same to the bit as alone",
        ),
    ]


def describe_found(found: Found, *, bundle: Path, asked: Sequence[str]) -> list[tuple[str, str]]:
    """Describe the profile for a bundle, or say why none counts.

    Args:
        found: what was found.
        bundle: the bundle's folder.
        asked: the options that were given and come before a profile.
    """
    if found.profile is None:
        return [("profile", found.ignored or f"none is used. Make one: python -m runtime tune {bundle}")]
    unused = f", not used: {', '.join(asked)} {'comes' if len(asked) == 1 else 'come'} first" if asked else ""
    return [("profile", f"{found.file}{unused}"), *describe_profile(found.profile)]


def describe_profile(profile: Profile) -> list[tuple[str, str]]:
    """Describe what was measured, and what won."""
    conditions, winner = profile.conditions, profile.winner
    texts = f"{conditions.num_texts:,} {'texts of yours' if conditions.own_texts else 'made-up texts'}"
    ended = "" if conditions.complete else "; time ended the search, more --seconds may find more"
    lines = [
        (
            "tuned",
            f"{profile.date[:10]}, for {GOALS[profile.goal]}, on {texts} of {conditions.mean_tokens:.0f} tokens on average{ended}",
        ),
        ("chosen", str(winner)),
        ("reaches", _figures(profile, winner)),
        ("gain", _gain(profile)),
    ]
    others = [choice for choice in dict.fromkeys(profile.winners.values()) if choice != winner]
    for choice in others:
        goals = ", ".join(goal for goal, best in profile.winners.items() if best == choice)
        lines.append((f"for {goals}", f"{choice}: {_figures(profile, choice)}"))
    return lines


def _gain(profile: Profile) -> str:
    said = profile.summary.partition(": ")[2] or "not measured beside the default"
    out = None if profile.default is None else profile.measurement(profile.default).out
    return said if out is None else f"{said}; the default may not win: {out}"


def _figures(profile: Profile, choice: Choice) -> str:
    measured, conditions = profile.measurement(choice), profile.conditions
    parts = [
        f"{measured.texts_per_s:,.0f} texts/s" if measured.texts_per_s is not None else "",
        f"{measured.latency_ms:.2f} ms for a text alone" if measured.latency_ms is not None else "",
        f"{measured.agreement:.2%} of decisions as {conditions.reference.partition(',')[0]}"
        if measured.agreement is not None
        else "",
        f"{conditions.quality} {measured.quality:.4f}" if measured.quality is not None else "",
    ]
    return ", ".join(filter(None, parts))


def _describe_variant(manifest: Manifest, name: str) -> str:
    variant = manifest.variants[name]
    gate = "passed its accuracy gate" if variant.passed else "unverified"
    batch = "answers do not depend on the batch" if variant.batch_invariant else "answers depend on the batch"
    return f"{manifest.files[variant.file].size / 1e6:.1f} MB, {variant.precision}, {gate}; {batch}"
