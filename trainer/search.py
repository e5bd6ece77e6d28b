"""A search for settings: trials one after the other, proposed by Optuna, those that fall behind stopped early; the best one is kept.

RUN/tune/train_config.json   the flags of the search
RUN/tune/study.journal       the trials that ended, in Optuna's format
RUN/tune/1/ …                a run a trial; weights and states of the best so far and of the one that trains, of the others the figures
RUN/tune.json                every trial's settings and what it reached
RUN/…                        the best trial's files, its flags in train_config.json; run.json last

A trial ends with its last step: it is neither calibrated nor measured on the test rows, and no report is written. That is what the best one gets, gone
on with from its last state, so that it ends as the run that its flags would give alone, and nothing is seen of the test rows before the choice is made.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from runtime.bundle import write_synced
from runtime.errors import InputError

from .checkpoint import CONFIG, RECORD, TRIALS, RunRecord, read_config, read_record, write_config
from .config import TUNED, TrainConfig
from .errors import TrainingError
from .history import History
from .loop import train
from .model import read_width
from .objectives import OBJECTIVES
from .optim import usual_learning_rate
from .search_report import shown, tabulate, write_section
from .search_space import Space, space_of
from .siblings import begin, drop_weights, ship
from .study import State, Study, Trial

STUDY, FIGURES = "study.journal", "tune.json"


def search(config: TrainConfig, *, say: Callable[[str], None]) -> RunRecord:
    """Fine-tune `config.tune` times with settings that are searched for, and leave the best run in `config.output`.

    Args:
        config: every flag.
        say: where lines for people go.

    Raises:
        InputError: several processes, or Optuna is missing.
        TrainingError: no trial came to its end.
        Error: as `loop.train`.
    """
    config.validate()
    if config.learning_rate is None:  # a range lies around a number
        rate = usual_learning_rate(read_width(config.model), adapters=config.lora_rank > 0)
        config = replace(config, learning_rate=rate)
    assert config.tune is not None
    metric = config.best_metric or OBJECTIVES[config.task].best_metric
    space = space_of(config)
    study = Study(_begin(config), metric=metric, space=space, seed=config.seed)
    while len(study.trials) < config.tune:
        study.add(_run_next(config, study, say=say))
        _keep_best_alone(config, study)
        _write_figures(config, study, space)
    _keep_best_alone(config, study)  # a search that was killed may have left more
    best = study.best
    if best is None:
        raise TrainingError(
            f"none of the {config.tune} trials came to its end. The first: {study.trials[0].reason} Then search anew with --overwrite."
        )
    _write_figures(config, study, space)
    section = write_section(study.trials, kept=best, metric=metric, space=space, weights=study.weigh())
    record = _ship(config, _folder(config, best.number), section, say=say)
    for line in tabulate(study.trials, kept=best, metric=metric):
        say(line)
    return record


def _begin(config: TrainConfig) -> Path:
    """Make the folder of the search, or see that it can be gone on with; say where its study lies."""
    if find_spec("optuna") is None:
        raise InputError(f"--tune {config.tune} needs Optuna: pip install 'portabert[tune]'")
    # Beside the study, for RUN's own flags become those of the best trial, and a kill may come before its run.json.
    flags = config.output / TRIALS / CONFIG
    begin(
        config,
        flag=f"--tune {config.tune}",
        way_out="Search with one, then train with the settings that were found.",
        flags=flags if flags.is_file() else None,
    )
    if not flags.is_file():
        flags.parent.mkdir(exist_ok=True)
        write_config(flags, replace(config, resume=False, overwrite=False))
    return flags.with_name(STUDY)


def _run_next(config: TrainConfig, study: Study, *, say: Callable[[str], None]) -> Trial:
    """Train the next trial, or go on with it where a kill or Ctrl-C left it."""
    number, start = len(study.trials) + 1, time.perf_counter()
    run, name = _folder(config, number), f"trial {number} of {config.tune}"
    begun = (run / CONFIG).is_file()
    # What has begun keeps its settings, even if another version of Optuna would propose others by now.
    given = _settings(read_config(run / CONFIG) if begun else config, config.tune_over)
    settings = given if begun else study.propose(given)
    own = _config_of(config, run, settings, resume=begun)
    say(f"{name}: {', '.join(f'{flag} {shown(value)}' for flag, value in settings.items())}")
    reason = None
    try:
        if _goes_on(own, study):
            train(own, say=say, watch=lambda: _goes_on(own, study))
    except TrainingError as exc:
        reason = str(exc)
        say(f"warning: {name} cannot go on: {reason}")
    course = _course(own, study.metric)
    state: State = "failed" if reason is not None else "complete" if course.ended else "pruned"
    say(f"{name} is {state}")
    return Trial(number, settings, state, course.curve, time.perf_counter() - start, reason)


def _settings(config: TrainConfig, names: Sequence[str]) -> dict[str, float]:
    return {name: getattr(config, name) for name in names}


def _config_of(config: TrainConfig, run: Path, settings: dict[str, Any], *, resume: bool) -> TrainConfig:
    """Give a trial's own flags: those of a run that is trained alone."""
    return replace(config, **settings, tune=None, tune_over=TUNED, output=run, resume=resume, overwrite=False)


class Course(NamedTuple):
    """How far a trial came: the metric at each evaluation, and whether the last one was at its last step."""

    curve: tuple[float, ...]
    ended: bool


def _course(config: TrainConfig, metric: str) -> Course:
    lines = [line for line in History(config.output, 0, main=False).lines() if "eval" in line]
    ended = bool(lines) and lines[-1]["epoch"] >= config.epochs
    return Course(tuple(line["eval"][metric] for line in lines), ended)


def _goes_on(config: TrainConfig, study: Study) -> bool:
    """Whether a trial is worth its next step. It is asked before it is resumed, too: a kill may have come between an evaluation and the answer."""
    course = _course(config, study.metric)
    return course.ended or not study.is_behind(course.curve)


def _keep_best_alone(config: TrainConfig, study: Study) -> None:
    """Free the disk of the trials that ended and are not the best."""
    best = study.best
    for trial in study.trials:
        if trial != best:
            drop_weights(_folder(config, trial.number))


def _ship(config: TrainConfig, run: Path, section: str, *, say: Callable[[str], None]) -> RunRecord:
    """Go on with the best trial from its last state to its end, and make it the run of the search."""
    own = replace(read_config(run / CONFIG), output=run, keep_checkpoints=config.keep_checkpoints, resume=True)
    shipped = (run / RECORD).is_file() and read_record(run).complete  # and the search was killed just then
    record = read_record(run) if shipped else train(own, say=say, sections=[section])
    write_config(config.output / CONFIG, replace(own, output=config.output, resume=False))
    ship(run, config.output)
    drop_weights(run)
    return record


def _folder(config: TrainConfig, number: int) -> Path:
    return config.output / TRIALS / str(number)


def _write_figures(config: TrainConfig, study: Study, space: Space) -> None:
    best = study.best
    figures = {
        "metric": study.metric,
        "kept": best and best.number,
        "space": {name: span._asdict() for name, span in space.items()},
        "trials": [{**trial._asdict(), "value": trial.value(study.metric)} for trial in study.trials],
    }
    write_synced(config.output / FIGURES, json.dumps(figures, indent=1) + "\n")
