"""The training program, top to bottom: read, set up, loop, evaluate, save.

python -m trainer --train train.csv --eval dev.csv --output runs/mine
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from accelerate.utils import gather_object, set_seed
from tqdm import tqdm

from runtime.bundle import write_synced
from runtime.encode import Encoded, Encoder
from runtime.errors import InputError
from runtime.records import Record
from runtime.tasks import TASKS

from .calibration import describe
from .calibration_report import write_sections
from .checkpoint import CONFIG, RECORD, RunRecord, publish, read_config, read_record, write_config
from .collate import collate, num_batches, visit
from .config import TrainConfig
from .data import load_data
from .device import Place, choose_place
from .errors import Interrupted, RunError, TrainingError
from .evaluate import Shipped, evaluate, measure_shipped
from .metrics import is_better
from .model import graph_inputs, load_pretrained, start_head_at
from .objectives import OBJECTIVES, Target
from .optim import learning_rate_factor, make_adamw, set_learning_rate
from .report import write_report
from .signals import StopRequest
from .states import Progress, generator_states, latest_state, restore_best, restore_state, save_best, save_state

LOG_STEPS = 10  # optimizer steps between two lines of metrics.jsonl


class Split(NamedTuple):
    """Rows with their token ids and targets."""

    records: Sequence[Record]
    encoded: Encoded
    targets: list[Target]


def train(config: TrainConfig, *, say: Callable[[str], None]) -> RunRecord:
    """Fine-tune a model as `config` says and leave a run's folder behind.

    Args:
        config: every flag.
        say: where lines for people go.

    Raises:
        InputError: flags or rows that cannot be used, all problems together.
        ModelError: the model cannot be had.
        RunError: the output folder cannot be used.
        TrainingError: the loss is not finite.
        Interrupted: Ctrl-C or SIGTERM; what was reached is saved.
    """
    config.validate()
    objective = OBJECTIVES[config.task]
    best_metric = config.best_metric or objective.best_metric
    if best_metric not in objective.metrics:
        raise InputError(
            f"--best-metric must be one of {', '.join(objective.metrics)} for --task {config.task}. Got {best_metric!r} instead."
        )
    data = load_data(config)
    place = choose_place(device=config.device, precision=config.precision)
    accelerator = place.accelerator
    say = say if accelerator.is_main_process else lambda line: None
    _check_folder(config, main=accelerator.is_main_process)
    for note in [*data.notes, place.description]:
        say(note)

    # Model and rows
    set_seed(config.seed)
    pretrained = load_pretrained(config.model, objective=objective, labels=data.labels, max_length=config.max_length)
    model, tokenizer = pretrained.model, pretrained.tokenizer
    for note in pretrained.notes:
        say(note)
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        encoder = Encoder(
            Path(folder),
            max_length=pretrained.max_length,
            pair=config.text_pair_column is not None,
            offsets=TASKS[config.task].per_token,
        )
    splits = {
        name: _encode(encoder, records, config, data.labels, say=say, name=name)
        for name, records in (("train", data.train), ("eval", data.eval), ("test", data.test))
        if records
    }
    rows, lengths = splits["train"], splits["train"].encoded.batch.lengths
    feed: dict[str, Any] = {"inputs": graph_inputs(model, tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if pretrained.head_is_new and objective.prior is not None and start_head_at(model, objective.prior(rows.targets)):
        say("the new head starts at the labels' frequencies")
    if accelerator.is_main_process and not config.resume:
        _make_folder(config)  # only now: nothing that could be wrong with rows or model has cost an older run
    checkpoints = config.output / "checkpoints"
    accelerator.wait_for_everyone()
    judge: dict[str, Any] = {"objective": objective, "labels": data.labels, "accelerator": accelerator, **feed}

    # Optimizer and schedule
    model = accelerator.prepare(model)
    optimizer = accelerator.prepare(make_adamw(model, weight_decay=config.weight_decay))
    steps_an_epoch = num_batches(len(rows.records), batch_size=config.batch_size)
    total_steps = config.epochs * steps_an_epoch
    warmup_steps = round(config.warmup_fraction * total_steps)
    weights = None
    if config.class_weights:
        weights = torch.from_numpy(objective.weigh(rows.targets, len(data.labels))).to(accelerator.device)
    progress = Progress()
    if config.resume and (state := latest_state(checkpoints)) is not None:
        restore_best(checkpoints / "best")
        progress = restore_state(
            state,
            model=accelerator.unwrap_model(model),
            optimizer=optimizer,
            process=accelerator.process_index,
            num_processes=accelerator.num_processes,
        )
        say(f"resumed at step {progress.step} of {total_steps}")
    else:
        set_seed(config.seed, device_specific=accelerator.num_processes > 1)  # processes drop different neurons
    history = _History(config.output / "metrics.jsonl", progress.step, main=accelerator.is_main_process)

    def record(complete: bool, shipped: Shipped | None = None) -> dict[str, Any]:
        return {
            "complete": complete,
            "step": progress.step,
            "total_steps": total_steps,
            "best_step": progress.best_step,
            "labels": data.labels,
            "max_length": pretrained.max_length,
            "evaluation": data.evaluation,
            "eval": shipped.measured.values if shipped and shipped.measured else None,
            "test": shipped.tested.values if shipped and shipped.tested else None,
            "calibration": shipped and shipped.calibration,
        }

    def judge_and_keep() -> None:
        """Evaluate, and keep the weights if they are the best so far."""
        metrics = evaluate(model, splits["eval"].records, splits["eval"].encoded, **judge)
        history.add({"step": progress.step, "epoch": progress.step / steps_an_epoch, "eval": metrics.values})
        value = metrics.values[best_metric]
        better = is_better(best_metric, value, progress.best_value)
        progress.stale = 0 if better else progress.stale + 1
        figures = ", ".join(f"{name} {figure:.4f}" for name, figure in metrics.values.items())
        say(f"step {progress.step}/{total_steps}: {figures}{' (best so far)' if better else ''}")
        if better:
            progress.best_value, progress.best_step = value, progress.step
            if accelerator.is_main_process:
                save_best(checkpoints / "best", model=accelerator.unwrap_model(model), tokenizer=tokenizer)

    def keep_state() -> None:
        generators = gather_object([generator_states()])  # each process drops neurons of its own
        if accelerator.is_main_process:
            save_state(
                checkpoints,
                progress=progress,
                model=accelerator.unwrap_model(model),
                optimizer=optimizer,
                generators=generators,
            )

    # The loop
    bar = tqdm(
        total=total_steps,
        initial=progress.step,
        unit="step",
        disable=None if accelerator.is_main_process else True,
        dynamic_ncols=True,
    )
    started, texts_seen, losses = time.perf_counter(), 0, list[float]()
    with StopRequest() as stop, bar:
        for indices in _remaining_batches(lengths, config, start=progress.step, steps_an_epoch=steps_an_epoch):
            model.train()
            learning_rate = config.learning_rate * learning_rate_factor(
                progress.step, schedule=config.schedule, warmup_steps=warmup_steps, total_steps=total_steps
            )
            set_learning_rate(optimizer, learning_rate)
            count = objective.count([rows.targets[index] for index in indices])
            loss = torch.zeros((), device=accelerator.device)
            parts = _parts(indices, place, config.gradient_accumulation)
            for number, (part, weight) in enumerate(parts, start=1):
                batch = collate(rows.encoded, rows.targets, part, **feed)
                with accelerator.no_sync(model) if number < len(parts) else nullcontext():
                    logits = model(
                        **{name: tensor.to(accelerator.device) for name, tensor in batch.inputs.items()}
                    ).logits.float()
                    # DDP averages over processes, and the loss is a sum over them: times num_processes makes it one.
                    part_loss = objective.loss(
                        logits, batch.targets.to(accelerator.device), weights, config.label_smoothing
                    ) / max(1, count)
                    accelerator.backward(part_loss * weight * accelerator.num_processes)
                loss += part_loss.detach() * weight
            if config.max_grad_norm:
                accelerator.clip_grad_norm_(model.parameters(), config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            progress.step += 1
            texts_seen += len(indices)
            step_loss = float(accelerator.reduce(loss, reduction="sum"))
            if not math.isfinite(step_loss):
                raise TrainingError(
                    f"the loss is {step_loss} at step {progress.step}. Lower --learning-rate (it is {config.learning_rate:g}), or use --precision fp32."
                )
            losses.append(step_loss)
            texts_per_s = texts_seen / (time.perf_counter() - started)
            bar.set_postfix(
                loss=f"{np.mean(losses[-LOG_STEPS:]):.4f}",
                lr=f"{learning_rate:.1e}",
                texts_per_s=f"{texts_per_s:.0f}",
                refresh=False,
            )
            bar.update()
            if progress.step % LOG_STEPS == 0 or progress.step == total_steps:
                history.add(
                    {
                        "step": progress.step,
                        "epoch": progress.step / steps_an_epoch,
                        "loss": float(np.mean(losses[-LOG_STEPS:])),
                        "learning_rate": learning_rate,
                        "texts_per_s": texts_per_s,
                    }
                )
            if "eval" in splits and _due(progress.step, config.eval_steps, steps_an_epoch, total_steps):
                judge_and_keep()
            if config.patience is not None and progress.stale >= config.patience:
                say(
                    f"stopped early: {progress.stale} evaluations without a better {best_metric} than step {progress.best_step}'s"
                )
                break
            stopping = _any_process(stop.requested, place)
            if stopping or _due(progress.step, config.save_steps, steps_an_epoch, total_steps):
                keep_state()
            if stopping and progress.step < total_steps:
                if accelerator.is_main_process:
                    if progress.best_step is None:
                        save_best(checkpoints / "best", model=accelerator.unwrap_model(model), tokenizer=tokenizer)
                    publish(config.output, checkpoints / "best", record(complete=False))
                raise Interrupted(
                    f"stopped at step {progress.step} of {total_steps}; {config.output} holds the best weights so far. "
                    "Go on with the same command and --resume."
                )

    # The best weights, measured once more as they are shipped
    if "eval" not in splits and accelerator.is_main_process:
        save_best(checkpoints / "best", model=accelerator.unwrap_model(model), tokenizer=tokenizer)
    accelerator.wait_for_everyone()
    _load_weights(accelerator.unwrap_model(model), checkpoints / "best")
    held_out = {name: split for name, split in splits.items() if name != "train"}
    shipped = measure_shipped(model, held_out, config=config, **judge)
    for line in describe(shipped.calibration) if shipped.calibration else ():
        say(line)
    done = record(complete=True, shipped=shipped)
    if not accelerator.is_main_process:
        return RunRecord(**done, model_sha256="", made_by={})
    result = publish(
        config.output,
        checkpoints / "best",
        done,
        report=lambda record: write_report(
            config.output,
            config=config,
            record=record,
            history=history.lines(),
            measured=shipped.measured,
            tested=shipped.tested,
            labels=data.labels,
            sections=write_sections(shipped, labels=data.labels),
        ),
    )
    shutil.rmtree(checkpoints)
    return result


def _check_folder(config: TrainConfig, *, main: bool) -> None:
    """Refuse a folder that is in use, or that there is nothing to resume in."""
    run, file = config.output, config.output / CONFIG
    if config.resume:
        if not file.is_file():
            raise RunError(f"--resume, but {run} holds no run. Start it without --resume.")
        if (run / RECORD).is_file() and read_record(run).complete:
            raise RunError(f"{run} is complete; there is nothing to resume. Train again with --overwrite.")
        was, now = asdict(replace(read_config(file), resume=True, overwrite=False)), asdict(config)
        changed = [
            f"--{name.replace('_', '-')} was {was[name]!r}, is {now[name]!r}"
            for name in now
            if name not in ("output", "config") and was[name] != now[name]
        ]
        if changed:
            raise RunError(f"--resume goes on with the flags of {run}; these differ:\n  " + "\n  ".join(changed))
        return
    if run.exists() and not run.is_dir():
        raise RunError(f"{run} is a file; a run is a folder. Choose another --output.")
    if main and run.exists() and any(not file.name.startswith(".") for file in run.iterdir()):
        if not config.overwrite:
            hint = "go on with it by --resume, " if (run / "checkpoints").is_dir() else ""
            raise RunError(f"{run} exists already. Choose another --output, {hint}or replace it with --overwrite.")
        if not file.is_file():
            raise RunError(f"{run} is not a run of this program; it will not be replaced. Choose another --output.")


def _make_folder(config: TrainConfig) -> None:
    """Empty the run's folder or make it. The configuration marks it as ours, so it goes last and comes first."""
    run = config.output
    run.mkdir(parents=True, exist_ok=True)
    (run / RECORD).unlink(missing_ok=True)  # from here on the old run is no longer whole
    for old in run.iterdir():
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        elif old.name != CONFIG:
            old.unlink()
    write_config(run / CONFIG, replace(config, resume=False, overwrite=False))
    (run / "checkpoints").mkdir()


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


def _remaining_batches(
    lengths: npt.NDArray[np.int32], config: TrainConfig, *, start: int, steps_an_epoch: int
) -> Iterator[npt.NDArray[np.intp]]:
    for epoch in range(start // steps_an_epoch, config.epochs):
        batches = visit(lengths, batch_size=config.batch_size, seed=config.seed, epoch=epoch)
        yield from islice(batches, start % steps_an_epoch if epoch == start // steps_an_epoch else 0, None)


def _parts(indices: npt.NDArray[np.intp], place: Place, accumulation: int) -> list[tuple[npt.NDArray[np.intp], float]]:
    """Cut a batch into this process's parts. Where rows run out, a row of weight 0 keeps the processes in step."""
    parts, processes = [], place.accelerator.num_processes
    for part in range(place.accelerator.process_index, processes * accumulation, processes):
        chosen = indices[part :: processes * accumulation]
        if len(chosen) or processes > 1:
            parts.append((chosen, 1.0) if len(chosen) else (indices[:1], 0.0))
    return parts


def _due(step: int, every: int | None, steps_an_epoch: int, total_steps: int) -> bool:
    return step % (every or steps_an_epoch) == 0 or step == total_steps


def _any_process(requested: bool, place: Place) -> bool:
    """Agree over all processes, so that none waits for one that stopped."""
    if place.accelerator.num_processes == 1:
        return requested
    flag = torch.tensor(float(requested), device=place.accelerator.device)
    return bool(place.accelerator.reduce(flag, reduction="sum") > 0)


def _load_weights(model: torch.nn.Module, folder: Path) -> None:
    from safetensors.torch import load_file

    missing, unexpected = model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    tied = {name for name in missing if not name.endswith(("position_ids", "token_type_ids"))}
    if unexpected or (tied and not getattr(model, "_tied_weights_keys", None)):
        raise AssertionError(f"the weights that were saved do not load: missing {missing}, unexpected {unexpected}")


class _History:
    """metrics.jsonl, cut back to the step a run resumes from."""

    def __init__(self, file: Path, step: int, *, main: bool) -> None:
        self._file, self._main = file, main
        if main:
            kept = [line for line in self.lines() if line["step"] <= step] if step else []
            write_synced(file, "".join(json.dumps(line) + "\n" for line in kept))

    def add(self, line: dict[str, Any]) -> None:
        if self._main:
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        if not self._file.is_file():
            return []
        lines = self._file.read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines[:-1]]  # what follows the last line end was cut by a kill
