"""The training program, top to bottom: prepare, take steps, evaluate, save, ship.

python -m trainer --train train.csv --eval dev.csv --output runs/mine
"""

from collections.abc import Callable, Sequence

import torch
from tqdm import tqdm

from .checkpoint import RunRecord
from .config import TrainConfig
from .device import Place, choose_place
from .errors import Interrupted
from .finish import finish
from .prepare import prepare
from .run import Run
from .run_folder import check_space, make_folder
from .signals import StopRequest
from .trackers import Trackers

LOG_STEPS = 10  # optimizer steps between two lines of metrics.jsonl


def train(
    config: TrainConfig,
    *,
    say: Callable[[str], None],
    watch: Callable[[], bool] | None = None,
    sections: Sequence[str] = (),
) -> RunRecord:
    """Fine-tune a model as `config` says and leave a run's folder behind.

    Args:
        config: every flag.
        say: where lines for people go.
        watch: asked after each evaluation, once it is in the log, whether to go on. A run that is watched neither ships its weights nor looks at the
            test rows: with `resume` it does, from where it ended.
        sections: of the report, as HTML, beside its own.

    Raises:
        InputError: flags or rows that cannot be used, all problems together.
        ModelError: the model cannot be had.
        RunError: the output folder cannot be used, or its disk is full.
        TrainingError: the loss is not finite, or memory does not suffice for a single row.
        Interrupted: Ctrl-C or SIGTERM; what was reached is saved.
    """
    config.validate()
    with Trackers(config, say=say) as trackers:
        place = choose_place(device=config.device, precision=config.precision, cuda_graphs=config.cuda_graphs)
        main = place.accelerator.is_main_process
        say = say if main else lambda line: None
        prepared = prepare(config, place=place, say=say)
        if main and not config.resume:  # only now: nothing that could be wrong with rows or model has cost an older run
            check_space(config, num_weights=prepared.num_weights, num_trained=prepared.num_trained)
            make_folder(config)
        place.accelerator.wait_for_everyone()
        run = Run(config, prepared, trackers=trackers, say=say)
        try:
            _take_steps(run, watch)
        finally:
            run.let_go_of_graphs()
        return finish(run, sections=sections) if watch is None else run.unpublished(complete=False)


def _take_steps(run: Run, watch: Callable[[], bool] | None) -> None:
    """Take the steps that are left, or those until evaluations get no better or whoever watches has seen enough."""
    config, progress, evaluated = run.config, run.progress, "eval" in run.prepared.splits
    bar = tqdm(
        total=run.total_steps,
        initial=progress.step,
        unit="step",
        disable=None if run.main else True,
        dynamic_ncols=True,
    )
    with StopRequest() as stop, bar:
        for indices in run.visits.from_step(progress.step, epochs=config.epochs):
            run.take_step(indices)
            bar.update()

            last = progress.step == run.total_steps
            logs = last or progress.step % LOG_STEPS == 0
            evaluates = evaluated and _due(run, config.eval_steps)
            stopping = _any_process(stop.requested, run.prepared.place)
            saves = stopping or _due(run, config.save_steps)
            if not (logs or evaluates or saves):
                continue
            run.fetch_losses()
            if logs:
                bar.set_postfix(run.log(), refresh=False)
            with run.pace.pause():
                if evaluates:
                    run.judge_and_keep()
                if config.patience is not None and progress.stale >= config.patience:
                    run.say(
                        f"stopped early: {progress.stale} evaluations without a better {run.prepared.best_metric} than step {progress.best_step}'s"
                    )
                    break
                if saves:
                    run.keep_state()
            if stopping and not last:
                run.leave_unfinished()
                raise Interrupted(
                    f"stopped at step {progress.step} of {run.total_steps}; {config.output} holds the best weights so far. "
                    "Go on with the same command and --resume."
                )
            if evaluates and watch is not None and not watch():
                break


def _due(run: Run, every: int | None) -> bool:
    return run.progress.step % (every or run.visits.num_batches) == 0 or run.progress.step == run.total_steps


def _any_process(requested: bool, place: Place) -> bool:
    """Agree over all processes, so that none waits for one that stopped."""
    if place.accelerator.num_processes == 1:
        return requested
    flag = torch.tensor(float(requested), device=place.accelerator.device)
    return bool(place.accelerator.reduce(flag, reduction="sum") > 0)
