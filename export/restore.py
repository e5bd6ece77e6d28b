"""Which weights of a model have to stay in fp32, when int8 changes too much: the fewest that make it fit, the dearest first.

1  all in int8: does it fit? Mostly it does, and that is all
2  each weight alone in int8, all others exact: its error in the logits
3  weights in the order of error² a byte; errors of different weights add up as squares, being independent
4  the shortest beginning of that list which fits once it is fp32, found by halving; every step is measured on all rows
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .parity import RowFigures


class Trial(NamedTuple):
    """One form that was tried.

    Attributes:
        exact: the weights in fp32.
        figures: how it answers the evaluation rows.
        problems: what is over the limits; none where it fits.
    """

    exact: tuple[str, ...]
    figures: RowFigures
    problems: tuple[str, ...]


class Restored(NamedTuple):
    """How a variant came to fit, or not.

    Attributes:
        trials: every form tried, as it was, the one that was written last.
        errors: root mean square error of the logits with one weight in int8, by its name; empty where all fitted at once.
        num_weights: how many weights could be int8.
    """

    trials: tuple[Trial, ...]
    errors: dict[str, float]
    num_weights: int

    @property
    def chosen(self) -> Trial:
        """The form that was written."""
        return self.trials[-1]

    def as_json(self) -> dict[str, Any]:
        """Give it as dicts and lists."""
        trials = [{**trial._asdict(), "figures": trial.figures._asdict()} for trial in self.trials]
        return {"trials": trials, "errors": self.errors, "num_weights": self.num_weights}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Restored":
        """Read what `as_json` gave."""
        trials = tuple(
            Trial(
                tuple(trial["exact"]),
                RowFigures(**{**trial["figures"], "quantiles": tuple(trial["figures"]["quantiles"])}),
                tuple(trial["problems"]),
            )
            for trial in values["trials"]
        )
        return cls(trials, values["errors"], values["num_weights"])


def restore(
    write: Callable[[frozenset[str]], Mapping[str, int]],
    judge: Callable[[], tuple[RowFigures, tuple[str, ...]]],
    error: Callable[[], float],
    *,
    say: Callable[[str], None],
) -> Restored:
    """Write a variant with as few weights in fp32 as the limits allow.

    Args:
        write: writes the variant with these weights in fp32; gives its int8 weights with their sizes in bytes.
        judge: measures what was written last: its figures, and what is over the limits.
        error: gives the root mean square error of its logits, perhaps on fewer rows.
        say: where lines for people go.
    """

    def attempt(exact: list[str]) -> Trial:
        write(frozenset(exact))
        trials.append(Trial(tuple(exact), *judge()))
        return trials[-1]

    trials: list[Trial] = []
    sizes = write(frozenset())
    trials.append(Trial((), *judge()))
    if not trials[0].problems:
        return Restored((trials[0],), {}, len(sizes))
    say(f"{trials[0].problems[0]}; looking for the weights that cost most in int8, to keep them in fp32")
    errors = {}
    for name in sizes:
        write(frozenset(sizes) - {name})
        errors[name] = error()
    order = sorted(sizes, key=lambda name: -(errors[name] ** 2) / sizes[name])
    over, fits = 0, len(order)
    last = attempt(order)
    while fits - over > 1 and not last.problems:
        middle = (over + fits) // 2
        if attempt(order[:middle]).problems:
            over = middle
        else:
            fits = middle
    if len(trials[-1].exact) != fits:
        attempt(order[:fits])
    return Restored(tuple(trials), errors, len(sizes))
