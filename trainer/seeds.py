"""Several seeds, one run after the other: the best one is kept, and how far chance alone moves the figures is told.

RUN/seeds/0/ …   a run a seed, complete or to be resumed; of those that are not the best, the figures are left
RUN/seeds.json   what each reached, mean and deviation
RUN/…            the best run's files; run.json last

A run that learnt nothing (its loss ends no lower than that of one answer for all) is begun again with another seed: a small data set and a
high learning rate make some seeds collapse (Mosbach et al. 2021), and a mean over them says little about the others.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from statistics import mean, stdev
from typing import Any, NamedTuple

from runtime.bundle import write_synced

from .checkpoint import CONFIG, RECORD, SEEDS, RunRecord, read_record
from .config import TrainConfig
from .loop import train
from .metrics import is_better
from .objectives import OBJECTIVES
from .siblings import begin, drop_weights, ship

FIGURES = "seeds.json"
NUM_TRIES = 3  # of a seed, before a run that learnt nothing is taken as it is
NEXT_TRY = 1000  # added to a seed


class Outcome(NamedTuple):
    """A run of one seed.

    Attributes:
        seed: its own.
        record: what it reached.
    """

    seed: int
    record: RunRecord


def train_seeds(config: TrainConfig, *, say: Callable[[str], None]) -> RunRecord:
    """Fine-tune `config.seeds` times and leave the best run in `config.output`.

    Args:
        config: every flag.
        say: where lines for people go.

    Raises:
        InputError: several processes.
        Error: as `loop.train`.
    """
    config.validate()
    begin(config, flag=f"--seeds {config.seeds}", way_out="Run each seed by itself with --seed.")
    outcomes = [_train_one(config, config.seed + number, say=say) for number in range(config.seeds)]
    metric = config.best_metric or OBJECTIVES[config.task].best_metric
    best = outcomes[0]
    for outcome in outcomes[1:]:
        if is_better(metric, _value(outcome, metric), _value(best, metric)):
            best = outcome
    figures = _figures(outcomes, best)
    for line in _table(figures):
        say(line)
    write_synced(config.output / FIGURES, json.dumps(figures, indent=1) + "\n")
    ship(config.output / SEEDS / str(best.seed), config.output)
    for outcome in outcomes:
        drop_weights(config.output / SEEDS / str(outcome.seed))
    return best.record


def _train_one(config: TrainConfig, seed: int, *, say: Callable[[str], None]) -> Outcome:
    for tried in range(NUM_TRIES):
        own = seed + tried * NEXT_TRY
        run = config.output / SEEDS / str(own)
        if (run / RECORD).is_file() and read_record(run).complete:
            record = read_record(run)
        else:
            say(f"seed {own}")
            begun = (run / CONFIG).is_file()
            record = train(replace(config, seeds=1, seed=own, output=run, resume=begun, overwrite=False), say=say)
        if not record.collapsed or tried == NUM_TRIES - 1:
            break
        say(f"seed {own} is replaced by another")
    return Outcome(own, record)


def _value(outcome: Outcome, metric: str) -> float:
    assert outcome.record.eval is not None, "the flags are refused without rows to choose by"
    return outcome.record.eval[metric]


def _figures(outcomes: list[Outcome], best: Outcome) -> dict[str, Any]:
    runs = [
        {
            "seed": o.seed,
            "collapsed": o.record.collapsed,
            "best_step": o.record.best_step,
            "eval": o.record.eval,
            "test": o.record.test,
        }
        for o in outcomes
    ]
    spread: dict[str, dict[str, dict[str, float]]] = {}
    for split in ("eval", "test"):
        measured: list[dict[str, float]] = [found for o in outcomes if (found := getattr(o.record, split)) is not None]
        if measured:
            spread[split] = {
                name: {"mean": mean(m[name] for m in measured), "stdev": stdev(m[name] for m in measured)}
                for name in measured[0]
            }
    return {"kept": best.seed, "runs": runs, "spread": spread}


def _table(figures: dict[str, Any]) -> list[str]:
    """Draw a line a split: each metric's mean ± standard deviation over the seeds."""
    lines = [
        f"{split} over {len(figures['runs'])} seeds: "
        + ", ".join(f"{name} {found['mean']:.4f} ± {found['stdev']:.4f}" for name, found in metrics.items())
        for split, metrics in figures["spread"].items()
    ]
    return [
        *lines,
        f"kept: seed {figures['kept']}, the best on the evaluation rows; its test figures are one draw of those above",
    ]
