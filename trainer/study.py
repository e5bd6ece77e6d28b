"""What Optuna is asked: the next trial's settings, whether a trial has fallen behind, which settings mattered.

The study is a file of finished trials, in Optuna's journal format: a trial is one line, appended and synced when it ends. After a kill the line is there or it is
not; what was written of it is cut off when the file is opened. Optuna's own way, to write a trial when it begins and then parameter by parameter, could leave half
a trial, in SQLite as in a journal, so trials are proposed from a copy in memory.

A trial's settings follow from the seed, its number and the trials before it, for the sampler is seeded anew for each: a search that was resumed proposes
what the undisturbed one would have.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from .errors import RunError
from .metrics import LOWER_IS_BETTER, is_better
from .search_space import Range, Space

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

State: TypeAlias = Literal["complete", "pruned", "failed"]

NUM_UNPRUNED = 4  # complete trials before one is stopped: the median of fewer is chance
FIRST_JUDGED = 2  # evaluation; at the first the learning rate has hardly risen
NUM_WEIGHED = 10  # complete trials before it is said which settings mattered


class Trial(NamedTuple):
    """A trial that ended.

    Attributes:
        number: from 1, in the order of trying.
        settings: what was varied, by flag.
        state: whether it came to its end, fell behind, or could not go on.
        curve: the metric at each evaluation.
        seconds: that it took; of one that was resumed, since then.
        reason: why it could not go on; None where it could.
    """

    number: int
    settings: dict[str, float]
    state: State
    curve: tuple[float, ...]
    seconds: float
    reason: str | None = None

    def value(self, metric: str) -> float | None:
        """Give the best evaluation, whose weights are those that would ship; None where there was none."""
        return (min if metric in LOWER_IS_BETTER else max)(self.curve, default=None)


class Study:
    """The finished trials of a search.

    Args:
        file: where they are kept; made if it is not there.
        metric: what is compared.
        space: what is varied.
        seed: that all proposals follow from.

    Raises:
        RunError: the file is damaged.
    """

    def __init__(self, file: Path, *, metric: str, space: Space, seed: int) -> None:
        self.metric, self._seed = metric, seed
        self._distributions = {name: _distribution(span) for name, span in space.items()}
        self._study = _open(file, direction="minimize" if metric in LOWER_IS_BETTER else "maximize")
        self.trials = [_thawed(frozen) for frozen in self._study.trials]

    @property
    def best(self) -> Trial | None:
        """The complete trial with the best value, the earliest of several; None before the first."""
        best: Trial | None = None
        for trial in self.trials:
            value = trial.value(self.metric)
            if trial.state == "complete" and value is not None:
                best = trial if is_better(self.metric, value, best and best.value(self.metric)) else best
        return best

    def propose(self, given: dict[str, float]) -> dict[str, float]:
        """Give the settings of the next trial: those given for the first one, then what the tree-structured Parzen estimator makes of those before."""
        import optuna

        seed = int(np.random.SeedSequence([self._seed, len(self.trials)]).generate_state(1)[0])
        copy = optuna.create_study(direction=self._study.direction, sampler=optuna.samplers.TPESampler(seed=seed))
        copy.add_trials(self._study.trials)
        if not self.trials:
            copy.enqueue_trial(given)
        return copy.ask(self._distributions).params

    def is_behind(self, curve: Sequence[float]) -> bool:
        """Tell whether the best of a trial's evaluations is worse than the median of the complete trials at the same evaluation."""
        import optuna

        pruner = optuna.pruners.MedianPruner(n_startup_trials=NUM_UNPRUNED, n_warmup_steps=FIRST_JUDGED)
        running = optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING, intermediate_values=_by_evaluation(curve)
        )
        return pruner.prune(self._study, running)

    def add(self, trial: Trial) -> None:
        """Keep a trial that ended.

        Raises:
            RunError: the file cannot be written.
        """
        try:
            self._study.add_trial(self._frozen(trial))
        except OSError as exc:
            raise RunError(
                f"the study of {len(self.trials)} trials cannot be written: {exc.strerror}. Make room, then go on with the same command and --resume."
            ) from exc
        self.trials.append(trial)

    def weigh(self) -> dict[str, float]:
        """Give the share of each setting in how the values differ, the largest first (fANOVA); nothing where too few trials tell."""
        import optuna

        values = [trial.value(self.metric) for trial in self.trials if trial.state == "complete"]
        if len(values) < NUM_WEIGHED or len(set(values)) == 1:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=self._seed)
        found = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        return {name: float(share) for name, share in found.items()}

    def _frozen(self, trial: Trial) -> "FrozenTrial":
        import optuna

        complete = trial.state == "complete"
        return optuna.trial.create_trial(
            # A pruned trial without values is the worst to the sampler; one that "failed" it would not look at, and try the like again.
            state=optuna.trial.TrialState.COMPLETE if complete else optuna.trial.TrialState.PRUNED,
            value=trial.value(self.metric) if complete else None,
            params=trial.settings,
            distributions=self._distributions,
            intermediate_values={} if trial.state == "failed" else _by_evaluation(trial.curve),
            user_attrs={name: getattr(trial, name) for name in ("state", "curve", "seconds", "reason")},
        )


def _thawed(frozen: "FrozenTrial") -> Trial:
    kept = {**frozen.user_attrs, "curve": tuple(frozen.user_attrs["curve"])}
    return Trial(number=frozen.number + 1, settings=frozen.params, **kept)


def _by_evaluation(curve: Sequence[float]) -> dict[int, float]:
    return dict(enumerate(curve, start=1))


def _distribution(span: Any) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(span, Range):
        return FloatDistribution(span.low, span.high, log=span.log)
    return CategoricalDistribution(span.values)


def _open(file: Path, *, direction: Literal["minimize", "maximize"]) -> "OptunaStudy":
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # what is done is told by the search
    _cut_torn_end(file)
    try:
        storage = JournalStorage(JournalFileBackend(str(file)))
        if storage.get_all_studies():  # `load_if_exists` would write another line each time
            return optuna.load_study(storage=storage, study_name="tune")
        return optuna.create_study(storage=storage, study_name="tune", direction=direction)
    except (ValueError, KeyError) as exc:  # what its reader raises: JSONDecodeError, or fields that are missing
        raise RunError(f"{file} is damaged: {exc}. Search anew with --overwrite.") from exc


def _cut_torn_end(file: Path) -> None:
    """Cut off a line that was being written at a kill: once another followed it, Optuna could read neither."""
    if file.is_file():
        content = file.read_bytes()
        with file.open("r+b") as stream:
            stream.truncate(content.rfind(b"\n") + 1)
