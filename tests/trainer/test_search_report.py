"""What a search tells: a table on the terminal, and a section of the report that stands whatever the trials came to."""

import io
from typing import Any

import pytest

from trainer.config import TrainConfig
from trainer.plots.runs import Dots, plot_trials
from trainer.search_report import shown, tabulate, write_section
from trainer.search_space import space_of
from trainer.study import Trial

SPACE = space_of(TrainConfig(tune=4, learning_rate=1e-4))


def trial(number: int, rate: float, state: Any, curve: tuple[float, ...], reason: str | None = None) -> Trial:
    return Trial(number, {"learning_rate": rate, "batch_size": 32, "layer_decay": 0.9}, state, curve, 61.4, reason)


TRIALS = [
    trial(1, 1e-4, "complete", (0.5, 0.6)),
    trial(2, 2.345678e-5, "pruned", (0.25,)),
    trial(3, 2e-4, "complete", (0.8, 0.7)),
    trial(4, 5e-4, "failed", (), "the loss is <nan>"),
]


def section(trials: list[Trial] = TRIALS, kept: Trial = TRIALS[2], metric: str = "accuracy", **weights: float) -> str:
    return write_section(trials, kept=kept, metric=metric, space=SPACE, weights=weights)


def test_the_table_has_a_line_a_trial_and_says_which_is_kept() -> None:
    head, *lines, kept = tabulate(TRIALS, kept=TRIALS[2], metric="accuracy")
    assert head.split() == ["trial", "learning_rate", "batch_size", "layer_decay", "accuracy", "state", "seconds"]
    assert [line.split() for line in lines] == [
        ["1", "0.0001", "32", "0.9", "0.6000", "complete", "61"],
        ["2", "2.35e-05", "32", "0.9", "0.2500", "pruned", "61"],
        ["3", "0.0002", "32", "0.9", "0.8000", "complete", "61"],
        ["4", "0.0005", "32", "0.9", "–", "failed", "61"],
    ]
    assert kept.startswith("kept: trial 3, the best of 4 on the evaluation rows")


def test_settings_are_shown_short_and_whole_numbers_whole() -> None:
    assert (shown(0.00012345), shown(128), shown(1.0)) == ("0.000123", "128", "1")


def test_the_section_tells_states_and_what_the_flags_as_given_reached() -> None:
    html = section()
    assert "4 trials: 2 complete, 1 pruned, 1 failed. Trial 3 was kept" in html
    assert "Accuracy is 0.8000, with the flags as given 0.6000." in html
    assert "Trial 4: the loss is &lt;nan&gt;" in html
    assert html.count("<img") == 1
    assert "What mattered" not in html


def test_where_the_first_trial_is_kept_or_came_to_nothing_it_is_said() -> None:
    assert "It is the first, which had the flags as given." in section(TRIALS[:1], TRIALS[0])
    failed = trial(1, 1e-4, "failed", (), "no")
    assert "The first, which had the flags as given, could not go on." in section([failed, *TRIALS[1:]])


def test_errors_take_the_least_value() -> None:
    assert "Root mean squared error is 0.7000, with the flags as given 0.5000." in section(metric="rmse")


def test_the_shares_of_the_settings_are_told_where_they_are_known() -> None:
    html = section(learning_rate=0.75, batch_size=0.25)
    assert "<h3>What mattered</h3>" in html
    assert html.index("--learning-rate</th>") < html.index("0.750</td>") < html.index("--batch-size</th>")


@pytest.mark.parametrize("width", [8.1, 4.0])
@pytest.mark.parametrize("num_panels", [2, 3])
def test_trials_are_drawn_at_both_widths_whatever_their_states(width: float, num_panels: int) -> None:
    from matplotlib.image import imread

    points = [(1.0, 0.5), (2.0, 0.6), (4.0, 0.7), (8.0, 0.8)]
    panels = [
        Dots("batch_size", points, log=True, ticks=(1, 2, 4, 8)),
        Dots("trial", points),
        Dots("rate", points, log=True),
    ]
    states = ["complete", "pruned", "failed", "kept"]
    picture = plot_trials(panels[:num_panels], states, metric="accuracy", width_inches=width)
    light, dark = (imread(io.BytesIO(png)) for png in (picture.light, picture.dark))
    assert light.shape == dark.shape
    assert light.mean() > 0.8 > 0.3 > dark[..., :3].mean()
    kept = [0xB4 / 255, 0x53 / 255, 0x09 / 255]
    assert (abs(light[..., :3] - kept).max(axis=-1) < 0.02).sum() > 50, "the kept one stands out"
