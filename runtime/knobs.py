"""What `tune` turns, and where each knob may be turned from where the best stands: doubled, halved or switched."""

from collections.abc import Callable
from dataclasses import replace

from .engines import ENGINES
from .entrant import Entrant
from .profile import Choice
from .profile_fields import LARGEST_BATCH

SMALLEST_BATCH = 64
# By goal, what moves most first. A text alone fits any budget.
KNOBS_OF = {
    "throughput": ("streams", "max_batch_tokens", "threads", "spinning"),
    "latency": ("streams", "threads", "spinning"),
    "both": ("streams", "max_batch_tokens", "threads", "spinning"),
}


def neighbours(best: Entrant, *, goal: str, usable: int) -> list[Choice]:
    """List the choices that differ from the best in one knob by one step.

    Args:
        best: where it stands.
        goal: a key of KNOBS_OF.
        usable: the most threads.
    """
    return [choice for knob in KNOBS_OF[goal] for choice in KNOBS[knob](best, usable)]


def _threads(best: Entrant, usable: int) -> list[Choice]:
    numbers = [number for number in (best.choice.threads // 2, best.choice.threads * 2) if 1 <= number <= usable]
    return [
        replace(best.choice, threads=n, streams=best.choice.streams and min(best.choice.streams, n)) for n in numbers
    ]


def _streams(best: Entrant, usable: int) -> list[Choice]:
    lanes = (best.facts and best.facts.num_lanes) or best.choice.streams or 1
    return [replace(best.choice, streams=n) for n in (lanes // 2, lanes * 2) if 1 <= n <= best.choice.threads]


def _spinning(best: Entrant, usable: int) -> list[Choice]:
    if not ENGINES[best.choice.engine].spins:
        return []
    return [replace(best.choice, spinning=False if best.choice.spinning is None else None)]


def _max_batch_tokens(best: Entrant, usable: int) -> list[Choice]:
    if best.facts and best.facts.num_lanes is None:
        return []
    numbers = (best.choice.max_batch_tokens * 2, best.choice.max_batch_tokens // 2)
    return [replace(best.choice, max_batch_tokens=n) for n in numbers if SMALLEST_BATCH <= n <= LARGEST_BATCH]


# Where each knob may be turned from where the best stands.
KNOBS: dict[str, Callable[[Entrant, int], list[Choice]]] = {
    "threads": _threads,
    "streams": _streams,
    "spinning": _spinning,
    "max_batch_tokens": _max_batch_tokens,
}
