"""What each field of a host profile must be: one table a level, and what must hold between fields."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from .engines import ENGINES
from .fields import Field, Reader, Wrong, exactly, is_text, list_of, mapping_of, nullable, number, object_of, one_of

FORMAT = 1  # of profiles; the one this version reads and writes
GOALS = ("throughput", "latency", "both")  # tests hold them equal to tune's
MAX_THREADS, LARGEST_BATCH = 4096, 1 << 20  # a profile from elsewhere must not ask for all memory


def cross_check(values: Mapping[str, Any]) -> Iterator[str]:
    """Find what is wrong between the fields of an otherwise sound profile."""
    measured = {tuple(m["choice"].items()): m for m in values["measurements"]}
    if len(measured) < len(values["measurements"]):
        yield "'measurements' has a choice twice"
    if values["goal"] not in values["winners"]:
        yield f"'winners' must have one for the goal, {values['goal']!r}. Got {', '.join(values['winners'])} instead"
    for goal, choice in values["winners"].items():
        found = measured.get(tuple(choice.items()))
        if found is None or found["out"] is not None:
            yield f"the winner for {goal} must be a measurement that may win"
    if values["default"] is not None and tuple(values["default"].items()) not in measured:
        yield "'default' must be one of the measurements"
    for choice in [m["choice"] for m in values["measurements"]]:
        if choice["threads"] > values["host"]["threads"]:
            yield f"'threads' must be at most the host's, {values['host']['threads']}. Got {choice['threads']} instead"
        if choice["streams"] is not None and choice["streams"] > choice["threads"]:
            yield f"'streams' must be at most 'threads', {choice['threads']}. Got {choice['streams']} instead"


def _date(reader: Reader, value: Any, at: str) -> str:
    try:
        return datetime.fromisoformat(value).isoformat()
    except (TypeError, ValueError):
        raise Wrong("a date such as 2026-11-25T12:00:00+00:00") from None


def _count(most: int, least: int = 1) -> Field:
    return exactly(int, f"an integer from {least} to {most}", lambda value: least <= value <= most)


_positive = number("a number above 0", lambda value: value > 0)
_share = number("a number from 0 to 1", lambda value: 0 <= value <= 1)
_truth = exactly(bool, "true or false")
_name = exactly(str, "a non-empty string", lambda value: bool(value) and is_text(value))
_variant = exactly(str, "the name of a variant", lambda value: bool(re.fullmatch("[a-z0-9-]+", value)))

CHOICE: dict[str, Field] = {
    "engine": one_of(tuple(ENGINES)),
    "variant": _variant,
    "threads": _count(MAX_THREADS),
    "streams": nullable(_count(MAX_THREADS)),
    "spinning": nullable(_truth),
    "max_batch_tokens": _count(LARGEST_BATCH),
}
MEASUREMENT: dict[str, Field] = {
    "choice": object_of(CHOICE),
    "texts_per_s": nullable(_positive),
    "latency_ms": nullable(_positive),
    "agreement": nullable(_share),
    "quality": nullable(number("a number from -1 to 1", lambda value: -1 <= value <= 1)),
    "golden_error": nullable(number("a number of 0 or more", lambda value: value >= 0)),
    "passes": _count(1 << 30, least=0),
    "out": nullable(_name),
}
HOST: dict[str, Field] = {
    "bundle": exactly(str, "64 hexadecimal digits", lambda value: bool(re.fullmatch("[0-9a-f]{64}", value))),
    "processor": _name,
    "threads": _count(MAX_THREADS),
    "versions": mapping_of(_name, "an object of package versions", is_text),
}
CONDITIONS: dict[str, Field] = {
    "num_texts": _count(1 << 30),
    "mean_tokens": _positive,
    "own_texts": _truth,
    "reference": _name,
    "floor": _share,
    "batch_invariant": _truth,
    "quality": nullable(_name),
    "complete": _truth,
}
FIELDS: dict[str, Field] = {
    "format": exactly(int, str(FORMAT), lambda value: value == FORMAT),
    "date": _date,
    "host": object_of(HOST),
    "goal": one_of(GOALS),
    "winners": mapping_of(object_of(CHOICE), f"an object of choices by goal, {', '.join(GOALS)}", GOALS.__contains__),
    "default": nullable(object_of(CHOICE)),
    "gain": nullable(_positive),
    "conditions": object_of(CONDITIONS),
    "measurements": list_of(object_of(MEASUREMENT), "a non-empty list of measurements", bool),
}
