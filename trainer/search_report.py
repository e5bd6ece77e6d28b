"""A search for people: its table on a terminal, and its section of the kept run's report."""

from collections.abc import Sequence
from html import escape

from .compare import align
from .page import Picture, image, section, table
from .plots.runs import Dots, plot_trials
from .search_space import Choice, Range, Space
from .study import Trial
from .wording import NAMES

PLOT_INCHES = (8.1, 4.0)  # the column of the page, and a phone


def shown(value: float) -> str:
    """Write a setting so that it can be read; what was trained with to the last digit stands in tune.json."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def tabulate(trials: Sequence[Trial], *, kept: Trial, metric: str) -> list[str]:
    """Draw a line a trial, the head first, and say which one is kept."""
    found = f"kept: trial {kept.number}, the best of {len(trials)} on the evaluation rows, which flatters it; its test figures do not"
    return [*align([_head(kept, metric), *_rows(trials, metric)]), found]


def write_section(trials: Sequence[Trial], *, kept: Trial, metric: str, space: Space, weights: dict[str, float]) -> str:
    """Write the section as HTML.

    Args:
        trials: in their order.
        kept: the one that ships.
        metric: what was compared.
        space: what was varied.
        weights: the share of each setting in how the values differ; empty where it is not known.
    """
    wide, narrow = (_draw(trials, kept, metric, space, width) for width in PLOT_INCHES)
    alt = f"The best {metric} of each trial, by its number and by each setting."
    parts = [
        f'<p class="note">{_lead(trials, kept, metric)}</p>',
        image(wide, alt, narrow=narrow),
        _weights(weights),
        f"<details><summary>All {len(trials)} trials</summary>{_table(trials, kept, metric)}</details>",
    ]
    return section("Search for settings", "\n".join(part for part in parts if part))


def _lead(trials: Sequence[Trial], kept: Trial, metric: str) -> str:
    counts = {state: sum(trial.state == state for trial in trials) for state in ("complete", "pruned", "failed")}
    states = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return (
        f"{len(trials)} trials: {states}. Trial {kept.number} was kept, the best on the evaluation rows. {_beside_first(trials[0], kept, metric)} "
        "The best of many flatters on the rows that chose it; the test rows were looked at after the choice, for this trial alone."
    )


def _beside_first(first: Trial, kept: Trial, metric: str) -> str:
    if first == kept:
        return "It is the first, which had the flags as given."
    given, found = first.value(metric), kept.value(metric)
    if given is None or found is None:
        return "The first, which had the flags as given, could not go on."
    return f"{NAMES[metric].title} is {found:.4f}, with the flags as given {given:.4f}."


def _weights(weights: dict[str, float]) -> str:
    if not weights:
        return ""
    rows = [(f"--{name.replace('_', '-')}", share) for name, share in weights.items()]
    note = "The share of each setting in how the complete trials' values differ (fANOVA, Hutter et al. 2014). Of few trials it is a hint."
    shares = table(("Setting", "Share"), rows, name="What mattered")
    return f'<h3>What mattered</h3><p class="note">{note}</p>{shares}'


def _table(trials: Sequence[Trial], kept: Trial, metric: str) -> str:
    reasons = "".join(
        f'<p class="note">Trial {trial.number}: {escape(trial.reason)}</p>' for trial in trials if trial.reason
    )
    return table(_head(kept, metric), _rows(trials, metric), name="Trials") + reasons


def _head(trial: Trial, metric: str) -> tuple[str, ...]:
    return ("trial", *trial.settings, metric, "state", "seconds")


def _rows(trials: Sequence[Trial], metric: str) -> list[tuple[str, ...]]:
    return [
        (
            str(trial.number),
            *map(shown, trial.settings.values()),
            "–" if (value := trial.value(metric)) is None else f"{value:.4f}",
            trial.state,
            f"{trial.seconds:.0f}",
        )
        for trial in trials
    ]


def _draw(trials: Sequence[Trial], kept: Trial, metric: str, space: Space, width: float) -> Picture:
    values = [trial.value(metric) for trial in trials]
    names = {"trial": [float(trial.number) for trial in trials]} | {
        name: [trial.settings[name] for trial in trials] for name in space
    }
    panels = [
        Dots(
            name,
            [(x, value) for x, value in zip(where, values, strict=True) if value is not None],
            log=isinstance(span := space.get(name), Choice) or (isinstance(span, Range) and span.log),
            ticks=span.values if isinstance(span, Choice) else None,
        )
        for name, where in names.items()
    ]
    measured = [trial for trial, value in zip(trials, values, strict=True) if value is not None]
    states = ["kept" if trial is kept else trial.state for trial in measured]
    return plot_trials(panels, states, metric=metric, width_inches=width)
