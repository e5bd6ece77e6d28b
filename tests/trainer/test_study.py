"""A study's proposals follow from its seed and its trials, whatever happened in between; its file is whole or cut back to what was."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from trainer.config import TrainConfig, Tunable
from trainer.errors import RunError
from trainer.search_space import SPACE, Choice, space_of
from trainer.study import FIRST_JUDGED, NUM_UNPRUNED, NUM_WEIGHED, Study, Trial

CONFIG = TrainConfig(learning_rate=1e-4, tune=20, tune_over=("learning_rate", "batch_size"))
GIVEN: dict[str, float] = {"learning_rate": 1e-4, "batch_size": 16}


def open_study(file: Path, *, metric: str = "accuracy", seed: int = 0) -> Study:
    return Study(file, metric=metric, space=space_of(CONFIG), seed=seed)


def fill(study: Study, num_trials: int) -> None:
    """Add trials whose value is told by the learning rate, every fourth one failed, every third one pruned."""
    for number in range(len(study.trials) + 1, num_trials + 1):
        settings = study.propose(GIVEN)
        value = 0.9 - abs(float(np.log(settings["learning_rate"] / 2e-4))) / 5
        state: Any = "failed" if number % 4 == 0 else "pruned" if number % 3 == 0 else "complete"
        reason = "the loss is nan" if state == "failed" else None
        study.add(Trial(number, settings, state, (value / 2, value), 1.5, reason))


def complete(number: int, *curve: float) -> Trial:
    return Trial(number, GIVEN, "complete", curve, 1.0)


# the space


def test_everything_that_may_be_varied_has_a_row() -> None:
    assert set(SPACE) == set(get_args(Tunable))


@pytest.mark.parametrize("name", SPACE)
@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        replace(CONFIG, learning_rate=0.9, batch_size=1, layer_decay=0.1, warmup_fraction=1.0, weight_decay=3.0),
        replace(CONFIG, learning_rate=1e-7, batch_size=24, gradient_accumulation=16, label_smoothing=0.9),
    ],
)
def test_a_range_holds_what_is_given_and_nothing_that_training_would_refuse(name: str, config: TrainConfig) -> None:
    span, given = SPACE[name](config), getattr(config, name)
    values = span.values if isinstance(span, Choice) else (span.low, span.high)
    assert given in values if isinstance(span, Choice) else values[0] <= given <= values[1]
    for value in values:
        replace(config, **{name: value}).validate()


# proposals


def test_the_first_trial_has_what_is_given_and_the_others_something_else(tmp_path: Path) -> None:
    study = open_study(tmp_path / "study")
    fill(study, 6)
    assert study.trials[0].settings == GIVEN
    rates = [trial.settings["learning_rate"] for trial in study.trials]
    assert len(set(rates)) == 6
    assert all(2e-5 <= rate <= 5e-4 for rate in rates)
    assert {trial.settings["batch_size"] for trial in study.trials} <= {8, 16, 32}


def test_a_study_that_is_opened_anew_for_every_trial_proposes_the_same(tmp_path: Path) -> None:
    """As after a kill behind each: nothing random has a state. Twelve trials, for only from the eleventh on the values count."""
    undisturbed = open_study(tmp_path / "undisturbed")
    fill(undisturbed, 13)
    for number in range(1, 14):
        fill(open_study(tmp_path / "disturbed"), number)
    assert open_study(tmp_path / "disturbed").trials == undisturbed.trials


def test_proposals_follow_from_the_values_and_from_the_seed(tmp_path: Path) -> None:
    fill(study := open_study(tmp_path / "study"), 12)
    fill(other_seed := open_study(tmp_path / "other", seed=1), 12)
    turned = open_study(tmp_path / "turned")
    for trial in study.trials:
        turned.add(trial._replace(curve=tuple(1 - value for value in trial.curve)))
    assert turned.propose(GIVEN) != study.propose(GIVEN) == study.propose(GIVEN)
    assert other_seed.trials[1].settings != study.trials[1].settings


def test_the_sampler_shuns_where_trials_failed(tmp_path: Path) -> None:
    """A trial that it were not told of would be proposed again and again: nothing else speaks against high rates here."""
    study = open_study(tmp_path / "study")
    for number, rate in enumerate(np.geomspace(2e-5, 5e-4, 30).tolist(), start=1):
        fails = rate > 1e-4
        settings = {"learning_rate": rate, "batch_size": 16}
        study.add(Trial(number, settings, "failed" if fails else "complete", () if fails else (0.5 + rate,), 1.0))
    proposed = [open_study(tmp_path / "study", seed=seed).propose(GIVEN)["learning_rate"] for seed in range(20)]
    assert sum(rate > 1.3e-4 for rate in proposed) <= 4


# pruning


def test_a_trial_is_behind_where_its_best_is_worse_than_the_median_at_the_same_evaluation(tmp_path: Path) -> None:
    study = open_study(tmp_path / "study")
    for number in range(1, NUM_UNPRUNED + 1):
        assert not study.is_behind((0.0, 0.0)), "of few trials the median is chance"
        study.add(complete(number, 0.1, 0.1 * number, 0.9))
    assert FIRST_JUDGED == 2
    assert not study.is_behind(())
    assert not study.is_behind((0.0,))
    assert study.is_behind((0.0, 0.24))
    assert not study.is_behind((0.0, 0.26))
    assert not study.is_behind((0.26, 0.0)), "its best counts, for its best weights would ship"
    assert study.is_behind((0.0, 0.3, 0.8))
    reopened = open_study(tmp_path / "study")
    assert reopened.is_behind((0.0, 0.24))
    assert not reopened.is_behind((0.0, 0.26))


def test_where_less_is_better_the_greater_error_is_behind_and_the_least_is_best(tmp_path: Path) -> None:
    study = open_study(tmp_path / "study", metric="rmse")
    for number in range(1, NUM_UNPRUNED + 1):
        study.add(complete(number, 2.0, float(number), 1.5))
    assert study.is_behind((9.0, 2.6))
    assert not study.is_behind((9.0, 2.4))
    assert study.best == study.trials[0]
    assert study.trials[0].value("rmse") == 1.0


# what is kept


def test_of_equal_trials_the_first_is_best_and_only_complete_ones_count(tmp_path: Path) -> None:
    study = open_study(tmp_path / "study")
    assert study.best is None
    study.add(Trial(1, GIVEN, "failed", (0.9,), 1.0, "the loss is nan"))
    assert study.best is None
    study.add(complete(2, 0.6, 0.5))
    study.add(complete(3, 0.5, 0.6))
    study.add(Trial(4, GIVEN, "pruned", (0.8,), 1.0))
    assert study.best == study.trials[1]


def test_a_line_that_was_cut_by_a_kill_is_as_if_it_had_not_been_begun(tmp_path: Path) -> None:
    file = tmp_path / "study"
    fill(open_study(file), 3)
    before = file.read_bytes()
    fill(open_study(file), 4)
    whole = file.read_bytes()
    for length in (1, (len(whole) - len(before)) // 2, len(whole) - len(before) - 1):
        file.write_bytes(whole[: len(before) + length])
        study = open_study(file)
        assert file.read_bytes() == before
        fill(study, 4)
        assert open_study(file).trials == study.trials
        assert len(study.trials) == 4


def test_a_kill_before_the_first_line_was_whole_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "study").write_bytes(b'{"op_code":0,')
    fill(study := open_study(tmp_path / "study"), 2)
    assert open_study(tmp_path / "study").trials == study.trials


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "study"
    fill(open_study(file), 2)
    file.write_bytes(file.read_bytes().replace(b'{"op_code":4', b"?", 1))
    with pytest.raises(RunError, match=r"study is damaged: .*Search anew with --overwrite"):
        open_study(file)


def test_a_study_that_cannot_be_written_says_how_to_go_on(tmp_path: Path) -> None:
    study = open_study(tmp_path / "study")
    (tmp_path / "study").unlink()
    (tmp_path / "study").mkdir()
    with pytest.raises(RunError, match=r"study of 0 trials cannot be written: Is a directory.*--resume"):
        study.add(complete(1, 0.5))


def test_what_mattered_is_said_of_enough_trials_that_differ(tmp_path: Path) -> None:
    study = open_study(tmp_path / "study")
    for number in range(1, NUM_WEIGHED + 1):
        assert study.weigh() == {}
        settings = study.propose(GIVEN)
        study.add(Trial(number, settings, "complete", (settings["learning_rate"] * 1e3,), 1.0))
    weights = study.weigh()
    assert list(weights) == ["learning_rate", "batch_size"]
    assert sum(weights.values()) == pytest.approx(1)
    alike = open_study(tmp_path / "alike")
    for number in range(1, NUM_WEIGHED + 1):
        alike.add(complete(number, 0.5))
    assert alike.weigh() == {}
