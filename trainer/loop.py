"""The training program, top to bottom: read, set up, loop, evaluate, save.

python -m trainer --train train.csv --eval dev.csv --output runs/mine
"""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate.utils import set_seed
from tqdm import tqdm

from runtime.encode import Encoded, Encoder
from runtime.errors import InputError
from runtime.records import Record
from runtime.tasks import TASKS

from .average import choose, write_mean
from .calibration import describe
from .calibration_report import write_sections
from .checkpoint import CHECKPOINTS, RunRecord, publish
from .config import TrainConfig
from .data import load_data
from .device import Place, choose_place
from .doctor.page import render_section
from .errors import Interrupted, TrainingError
from .evaluate import Shipped, evaluate, measure_shipped
from .flops import ADAPTING, TRAINING
from .hardest_report import write_hardest
from .history import METRICS, TIMING, History
from .kept import Kept, Whole
from .layers import reinitialise
from .lora import add_adapters
from .losses import LossOptions, Target
from .metrics import is_better
from .model import graph_inputs, load_pretrained, open_encoder, start_head_at
from .network import answer_in_int8, choose_network
from .objectives import OBJECTIVES
from .optim import learning_rate_factor, make_adamw, set_learning_rate
from .pace import Pace, overall, share_of_peak
from .peak import find_ceiling
from .report import write_report
from .run_folder import check_folder, check_space, make_folder
from .signals import StopRequest
from .slices import as_json
from .slices_report import write_slices
from .states import (
    Progress,
    best_of,
    last_evaluated,
    latest_state,
    restore_state,
    save_best,
    save_evaluated,
    save_state,
)
from .step import Stepper
from .trackers import Trackers
from .used_rows import train_used_rows
from .visit import Visits

LOG_STEPS = 10  # optimizer steps between two lines of metrics.jsonl


class Split(NamedTuple):
    """Rows with their token ids and targets."""

    records: Sequence[Record]
    encoded: Encoded
    targets: list[Target]


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
        return _fine_tune(config, trackers=trackers, say=say, watch=watch, sections=sections)


def _fine_tune(
    config: TrainConfig,
    *,
    trackers: Trackers,
    say: Callable[[str], None],
    watch: Callable[[], bool] | None,
    sections: Sequence[str],
) -> RunRecord:
    objective = OBJECTIVES[config.task]
    best_metric = config.best_metric or objective.best_metric
    if best_metric not in objective.metrics:
        raise InputError(
            f"--best-metric must be one of {', '.join(objective.metrics)} for --task {config.task}. Got {best_metric!r} instead."
        )
    data = load_data(config)
    place = choose_place(device=config.device, precision=config.precision)
    accelerator, main = place.accelerator, place.accelerator.is_main_process
    say = say if main else lambda line: None
    check_folder(config, main=main)
    for note in [*data.notes, place.description]:
        say(note)

    # Model and rows
    set_seed(config.seed)
    pretrained = load_pretrained(config.model, objective=objective, labels=data.labels, max_length=config.max_length)
    model, tokenizer = pretrained.model.to(accelerator.device), pretrained.tokenizer
    for note in pretrained.notes:
        say(note)
    encoder = open_encoder(
        tokenizer,
        max_length=pretrained.max_length,
        pair=config.text_pair_column is not None,
        offsets=TASKS[config.task].per_token,
    )
    splits = {
        name: _encode(encoder, records, config, data.labels, say=say, name=name)
        for name, records in (("train", data.train), ("eval", data.eval), ("test", data.test))
        if records
    }
    rows, texts = splits["train"], splits["train"].encoded.batch
    if pretrained.head_is_new and objective.prior is not None and start_head_at(model, objective.prior(rows.targets)):
        say("the new head starts at the labels' frequencies")
    if config.reinit_layers:
        say(reinitialise(model, config.reinit_layers))
    num_weights = model.num_parameters()
    kept: Kept = Whole(model)
    if config.lora_rank:
        kept = add_adapters(model, rank=config.lora_rank, alpha=config.alpha, num_new=config.reinit_layers)
    with kept.on_trial():
        choice = choose_network(
            model,
            per_token=TASKS[config.task].per_token,
            inputs=graph_inputs(model, tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            texts=texts,
        )
        kept.check(choice.network, texts)
    say(choice.description)
    if config.quant_aware:
        answer_in_int8(choice.network, config.model)
    train_used_rows(model, np.append(texts.input_ids, tokenizer.pad_token_id))
    num_trained = model.num_parameters(only_trainable=True)
    if config.lora_rank:
        say(
            f"adapters of rank {config.lora_rank}: {num_trained:,} of {num_weights:,} weights are trained, the head's among them"
        )
    if main and not config.resume:
        check_space(config, num_weights=num_weights, num_trained=num_trained)
        make_folder(config)  # only now: nothing that could be wrong with rows or model has cost an older run
    checkpoints = config.output / CHECKPOINTS
    accelerator.wait_for_everyone()

    # Optimizer and schedule
    wrapped = accelerator.prepare(choice.network)
    optimizer = accelerator.prepare(
        make_adamw(wrapped, weight_decay=config.weight_decay, layer_decay=config.layer_decay)
    )
    visits = Visits(
        lengths=texts.lengths, batch_size=config.batch_size, batch_tokens=config.batch_tokens, seed=config.seed
    )
    steps_an_epoch = visits.num_batches
    total_steps = config.epochs * steps_an_epoch
    warmup_steps = round(config.warmup_fraction * total_steps)
    int8_from = total_steps - config.quant_aware * steps_an_epoch  # the first step, counted from 0, in int8
    progress = Progress(num_parts=config.gradient_accumulation)
    if config.resume and (state := latest_state(checkpoints)) is not None:
        progress = restore_state(
            state, model=kept, optimizer=optimizer, data=data.digests, num_processes=accelerator.num_processes
        )
        say(f"resumed at step {progress.step} of {total_steps}")
    elif config.resume:
        say("no state was saved yet: the run begins at its first step")
    weights = None
    if config.class_weights:
        balanced = objective.weigh(rows.targets, len(data.labels), config.class_weights)
        weights = torch.from_numpy(balanced).to(accelerator.device)
    stepper = Stepper(
        network=choice.network,
        wrapped=wrapped,
        optimizer=optimizer,
        objective=objective,
        texts=texts,
        targets=rows.targets,
        loss=LossOptions(weights, config.label_smoothing, config.focal_gamma),
        max_grad_norm=config.max_grad_norm,
        place=place,
        seed=config.seed,
        num_parts=progress.num_parts,
        say=say,
    )
    history = History(config.output, progress.step, main=main, tell=trackers.log)
    if main:
        trackers.start(progress.step)

    def record(
        complete: bool, shipped: Shipped | None = None, averaged: tuple[int, ...] | None = None
    ) -> dict[str, Any]:
        return {
            "complete": complete,
            "step": progress.step,
            "total_steps": total_steps,
            "best_step": progress.best_step,
            "labels": data.labels,
            "max_length": pretrained.max_length,
            "constant_loss": objective.constant_loss(rows.targets),
            "evaluation": data.evaluation,
            "eval": shipped.measured.values if shipped and shipped.measured else None,
            "test": shipped.tested.values if shipped and shipped.tested else None,
            "num_weights": num_weights,
            "num_trained": num_trained,
            "calibration": shipped and shipped.calibration,
            "averaged": averaged,
            "slices": shipped and as_json(shipped.slices),
        }

    def keep_best(step: int) -> None:
        if main:
            save_best(checkpoints, step, model=kept, tokenizer=tokenizer)

    def judge_and_keep() -> None:
        """Evaluate, and keep the weights if they are the best so far."""
        records, encoded, _ = splits["eval"]
        metrics = evaluate(wrapped, records, encoded, objective=objective, labels=data.labels, accelerator=accelerator)
        history.add(METRICS, {"step": progress.step, "epoch": progress.step / steps_an_epoch, "eval": metrics.values})
        value = metrics.values[best_metric]
        better = is_better(best_metric, value, progress.best_value)
        progress.stale = 0 if better else progress.stale + 1
        figures = ", ".join(f"{name} {figure:.4f}" for name, figure in metrics.values.items())
        say(f"step {progress.step}/{total_steps}: {figures}{' (best so far)' if better else ''}")
        if better:
            progress.best_value, progress.best_step = value, progress.step
            keep_best(progress.step)
        if config.average and main:
            save_evaluated(checkpoints, progress.step, model=kept, count=config.average)

    def value_of(folder: Path) -> float:
        kept.load_pretrained(folder)
        records, encoded, _ = splits["eval"]
        metrics = evaluate(wrapped, records, encoded, objective=objective, labels=data.labels, accelerator=accelerator)
        return metrics.values[best_metric]

    def keep_state() -> None:
        if main:
            save_state(
                checkpoints,
                progress=progress,
                model=kept,
                optimizer=optimizer,
                data=data.digests,
                num_processes=accelerator.num_processes,
                keep=config.keep_checkpoints,
            )

    # The loop
    passes = ADAPTING if config.lora_rank else TRAINING
    pace, pending = Pace(find_ceiling(model, place, passes=passes)), list[torch.Tensor]()
    bar = tqdm(
        total=total_steps, initial=progress.step, unit="step", disable=None if main else True, dynamic_ncols=True
    )
    with StopRequest() as stop, bar:
        for indices in visits.from_step(progress.step, epochs=config.epochs):
            learning_rate = config.learning_rate * learning_rate_factor(
                progress.step, schedule=config.schedule, warmup_steps=warmup_steps, total_steps=total_steps
            )
            set_learning_rate(optimizer, learning_rate)
            if progress.step >= int8_from:
                choice.network.trains_in_int8 = True
            pending.append(stepper.take(progress.step, indices))
            progress.step, progress.num_parts = progress.step + 1, stepper.num_parts
            pace.count(texts.lengths[indices])
            bar.update()

            last = progress.step == total_steps
            logs = last or progress.step % LOG_STEPS == 0
            evaluates = "eval" in splits and _due(progress.step, config.eval_steps, steps_an_epoch, total_steps)
            stopping = _any_process(stop.requested, place)
            saves = stopping or _due(progress.step, config.save_steps, steps_an_epoch, total_steps)
            if not (logs or evaluates or saves):
                continue
            progress.losses += _finite(pending, progress.step, config.learning_rate)  # waits for the device
            if logs:
                line = {"step": progress.step, "epoch": progress.step / steps_an_epoch}
                loss, speed = float(np.mean(progress.losses)), pace.lap()
                history.add(METRICS, {**line, "loss": loss, "learning_rate": learning_rate})
                history.add(TIMING, {**line, **speed})
                bar.set_postfix(loss=f"{loss:.4f}", lr=f"{learning_rate:.1e}", **_rounded(speed), refresh=False)
                progress.losses.clear()
            with pace.pause():
                if evaluates:
                    judge_and_keep()
                if config.patience is not None and progress.stale >= config.patience:
                    say(
                        f"stopped early: {progress.stale} evaluations without a better {best_metric} than step {progress.best_step}'s"
                    )
                    break
                if saves:
                    keep_state()
            if stopping and not last:
                if progress.best_step is None:
                    keep_best(progress.step)
                if main:
                    best = best_of(checkpoints, progress.best_step or progress.step)
                    publish(config.output, best, record(complete=False))
                raise Interrupted(
                    f"stopped at step {progress.step} of {total_steps}; {config.output} holds the best weights so far. "
                    "Go on with the same command and --resume."
                )
            if evaluates and watch is not None and not watch():
                break
    if watch is not None:
        return RunRecord(**record(complete=False), model_sha256="", made_by={})

    if main and (share := share_of_peak(overall(history.lines()), precision=place.precision)):
        say(f"training took {share}")

    # The best weights, measured once more as they are shipped
    if "eval" not in splits:
        keep_best(progress.step)
    accelerator.wait_for_everyone()
    best = best_of(checkpoints, progress.best_step or progress.step)
    averaged, mean = None, checkpoints / "mean"
    lasts = last_evaluated(checkpoints, progress.step, count=config.average) if config.average else []
    if len(lasts) < config.average:
        say(f"warning: --average {config.average}, but there were only {len(lasts)} evaluations")
    if len(lasts) > 1:
        if main:
            write_mean(mean, lasts, best)
        accelerator.wait_for_everyone()
        best, averaged, verdict = choose(best, mean, lasts, metric=best_metric, measure=value_of)
        say(verdict)
    kept.load_pretrained(best)
    held_out = {name: split for name, split in splits.items() if name != "train"}
    shipped = measure_shipped(
        wrapped,
        held_out,
        config=config,
        objective=objective,
        labels=data.labels,
        accelerator=accelerator,
        groups=data.slices,
    )
    for sentence in describe(shipped.calibration) if shipped.calibration else ():
        say(sentence)
    done = record(complete=True, shipped=shipped, averaged=averaged)
    if not main:
        return RunRecord(**done, model_sha256="", made_by={})
    result = publish(
        config.output,
        best,
        done,
        report=lambda record: write_report(
            config.output,
            config=config,
            record=record,
            history=history.lines(),
            measured=shipped.measured,
            tested=shipped.tested,
            labels=data.labels,
            sections=[
                *write_slices(shipped.slices, config.slice_column),
                *write_hardest(shipped.answers, config),
                render_section(data.findings),
                *write_sections(shipped, labels=data.labels),
                *sections,
            ],
        ),
    )
    shutil.rmtree(checkpoints)
    return result


def _encode(
    encoder: Encoder,
    records: Sequence[Record],
    config: TrainConfig,
    labels: tuple[str, ...],
    *,
    say: Callable[[str], None],
    name: str,
) -> Split:
    texts = [r.model_input for r in records]
    encoded = encoder.encode(texts)
    if encoded.truncated.any():
        say(
            f"warning: {int(encoded.truncated.sum())} of {len(records)} {name} texts are cut at --max-length; raise it to keep their ends"
        )
    return Split(records, encoded, OBJECTIVES[config.task].targets(records, encoded, labels))


def _finite(pending: list[torch.Tensor], step: int, learning_rate: float) -> list[float]:
    """Fetch the losses of the steps up to `step`, and forget them here."""
    losses = torch.stack(pending).tolist()
    pending.clear()
    for before, loss in zip(range(len(losses) - 1, -1, -1), losses, strict=True):
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {step - before}. Lower --learning-rate (it is {learning_rate:g}), or use --precision fp32."
            )
    return losses


def _rounded(speed: dict[str, float]) -> dict[str, str]:
    return {name: f"{speed[name]:,.0f}" for name in ("texts_per_s", "tokens_per_s")}


def _due(step: int, every: int | None, steps_an_epoch: int, total_steps: int) -> bool:
    return step % (every or steps_an_epoch) == 0 or step == total_steps


def _any_process(requested: bool, place: Place) -> bool:
    """Agree over all processes, so that none waits for one that stopped."""
    if place.accelerator.num_processes == 1:
        return requested
    flag = torch.tensor(float(requested), device=place.accelerator.device)
    return bool(place.accelerator.reduce(flag, reduction="sum") > 0)
