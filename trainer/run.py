"""A run between two steps: what it learns with, how far it is, and what it leaves in its folder."""

import math
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .batch_shapes import frequent_shapes
from .checkpoint import CHECKPOINTS, RunRecord, publish
from .config import TrainConfig
from .errors import TrainingError
from .evaluate import Shipped, evaluate
from .flops import ADAPTING, TRAINING
from .graphs import CudaRecorder
from .history import METRICS, TIMING, History
from .losses import LossOptions
from .metrics import Metrics, is_better
from .optim import learning_rate_factor, make_adamw, set_learning_rate
from .pace import Pace
from .packed import Packed
from .peak import find_ceiling
from .prepare import Prepared
from .slices import as_json
from .states import Progress, best_of, latest_state, restore_state, save_best, save_evaluated, save_state
from .step import Stepper
from .trackers import Trackers
from .visit import Visits

LEARNT = 0.02  # of the loss of an answer that is the same for all texts; a run that takes off less has learnt nothing


class Run:
    """A run, at its first step or at the one that it resumes from.

    Args:
        config: every flag.
        prepared: rows and model.
        trackers: who is told each line of the log.
        say: where lines for people go.

    Attributes:
        wrapped: the network as accelerate prepared it.
        visits: which rows make a step.
        progress: how far it is.
        history: its log.
        pace: how fast it goes.
        folder: RUN/checkpoints.
        total_steps: optimizer steps from the first to the last.
    """

    def __init__(
        self, config: TrainConfig, prepared: Prepared, *, trackers: Trackers, say: Callable[[str], None]
    ) -> None:
        self.config, self.prepared, self.say = config, prepared, say
        self.folder = config.output / CHECKPOINTS
        accelerator, rows = prepared.place.accelerator, prepared.splits["train"]
        self.wrapped = accelerator.prepare(prepared.network)
        self._optimizer = accelerator.prepare(
            make_adamw(self.wrapped, weight_decay=config.weight_decay, layer_decay=config.layer_decay)
        )
        self._lengths = rows.encoded.batch.lengths
        self._targets = prepared.scale.standardise(rows.targets) if prepared.scale else rows.targets
        self.visits = Visits(
            lengths=self._lengths, batch_size=config.batch_size, batch_tokens=config.batch_tokens, seed=config.seed
        )
        self.total_steps = config.epochs * self.visits.num_batches
        self.progress = self._resume() if config.resume else Progress(num_parts=config.gradient_accumulation)
        weights = None
        if config.class_weights:
            balanced = prepared.objective.weigh(rows.targets, len(prepared.data.labels), config.class_weights)
            weights = torch.from_numpy(balanced).to(accelerator.device)
        self._stepper = Stepper(
            network=prepared.network,
            wrapped=self.wrapped,
            optimizer=self._optimizer,
            objective=prepared.objective,
            texts=rows.encoded.batch,
            targets=self._targets,
            loss=LossOptions(weights, config.label_smoothing, config.focal_gamma),
            max_grad_norm=config.max_grad_norm,
            place=prepared.place,
            seed=config.seed,
            num_parts=self.progress.num_parts,
            say=say,
        )
        if config.cuda_graphs:
            self._record_steps()
        self.history = History(config.output, self.progress.step, main=self.main, tell=trackers.log)
        if self.main:
            trackers.start(self.progress.step)
        passes = ADAPTING if config.lora_rank else TRAINING
        self.pace = Pace(find_ceiling(prepared.network.model, prepared.place, passes=passes))
        self._learning_rate = 0.0
        self._pending = list[torch.Tensor]()

    @property
    def main(self) -> bool:
        """Whether this process writes."""
        return bool(self.prepared.place.accelerator.is_main_process)

    def _resume(self) -> Progress:
        state = latest_state(self.folder)
        if state is None:
            self.say("no state was saved yet: the run begins at its first step")
            return Progress(num_parts=self.config.gradient_accumulation)
        progress = restore_state(
            state,
            model=self.prepared.kept,
            optimizer=self._optimizer,
            data=self.prepared.data.digests,
            num_processes=self.prepared.place.accelerator.num_processes,
        )
        self.say(f"resumed at step {progress.step} of {self.total_steps}")
        return progress

    def _record_steps(self) -> None:
        """Let steps on batches of the run's frequent shapes be CUDA graphs."""
        if not isinstance(self.prepared.network, Packed):
            self.say("warning: steps are no CUDA graphs, which need packed texts")
            return
        shapes = frequent_shapes(self._lengths, self.visits.epoch(0), epochs=self.config.epochs)
        share = sum(shapes.values()) / self.visits.num_batches
        self.say(
            f"{share:.0%} of steps are CUDA graphs, one for each of {len(shapes)} shapes that batches are padded to"
        )
        self._stepper.record_steps(frozenset(shapes), CudaRecorder())

    def let_go_of_graphs(self) -> None:
        """Give the memory of CUDA graphs back; steps that follow are taken without."""
        self._stepper.graphs = None

    def take_step(self, indices: npt.NDArray[np.intp]) -> None:
        """Learn from the rows `indices`."""
        config, progress = self.config, self.progress
        self._learning_rate = self.prepared.learning_rate * learning_rate_factor(
            progress.step,
            schedule=config.schedule,
            warmup_steps=round(config.warmup_fraction * self.total_steps),
            total_steps=self.total_steps,
        )
        set_learning_rate(self._optimizer, self._learning_rate)
        if progress.step >= self.total_steps - config.quant_aware * self.visits.num_batches:
            self.prepared.network.trains_in_int8 = True
            self.let_go_of_graphs()
        self._pending.append(self._stepper.take(progress.step, indices))
        progress.step, progress.num_parts = progress.step + 1, self._stepper.num_parts
        self.pace.count(self._lengths[indices])

    def fetch_losses(self) -> None:
        """Wait for the device, and note the losses of the steps since it was last waited for.

        Raises:
            TrainingError: one is not finite.
        """
        losses = torch.stack(self._pending).tolist()
        self._pending.clear()
        for before, loss in zip(range(len(losses) - 1, -1, -1), losses, strict=True):
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss is {loss} at step {self.progress.step - before}. "
                    f"Lower --learning-rate (it is {self.prepared.learning_rate:g}), or use --precision fp32."
                )
        self.progress.losses += losses

    def log(self) -> dict[str, str]:
        """Log the mean loss and the speed since the last line; give both for people."""
        line, loss, speed = self._line(), float(np.mean(self.progress.losses)), self.pace.lap()
        self.history.add(METRICS, {**line, "loss": loss, "learning_rate": self._learning_rate})
        self.history.add(TIMING, {**line, **speed})
        self.progress.losses.clear()
        rates = {name: f"{speed[name]:,.0f}" for name in ("texts_per_s", "tokens_per_s")}
        return {"loss": f"{loss:.4f}", "lr": f"{self._learning_rate:.1e}", **rates}

    def evaluate(self) -> Metrics:
        """Measure the evaluation rows with the weights as they are."""
        records, encoded, _ = self.prepared.splits["eval"]
        return evaluate(
            self.wrapped,
            records,
            encoded,
            objective=self.prepared.objective,
            labels=self.prepared.data.labels,
            accelerator=self.prepared.place.accelerator,
            scale=self.prepared.scale,
        )

    def measure(self, weights: Path) -> float:
        """Give the metric that chooses, of the weights in a folder; training is over."""
        self.prepared.kept.load_pretrained(weights)
        return self.evaluate().values[self.prepared.best_metric]

    def judge_and_keep(self) -> None:
        """Evaluate, and keep the weights if they are the best so far."""
        metrics, progress = self.evaluate(), self.progress
        self.history.add(METRICS, {**self._line(), "eval": metrics.values})
        value = metrics.values[self.prepared.best_metric]
        better = is_better(self.prepared.best_metric, value, progress.best_value)
        progress.stale = 0 if better else progress.stale + 1
        figures = ", ".join(f"{name} {figure:.4f}" for name, figure in metrics.values.items())
        self.say(f"step {progress.step}/{self.total_steps}: {figures}{' (best so far)' if better else ''}")
        if better:
            progress.best_value, progress.best_step = value, progress.step
            self._keep_best()
        if self.config.average and self.main:
            save_evaluated(self.folder, progress.step, model=self.prepared.kept, count=self.config.average)

    def keep_state(self) -> None:
        """Save all that the next step follows from."""
        if self.main:
            save_state(
                self.folder,
                progress=self.progress,
                model=self.prepared.kept,
                optimizer=self._optimizer,
                data=self.prepared.data.digests,
                num_processes=self.prepared.place.accelerator.num_processes,
                keep=self.config.keep_checkpoints,
            )

    def best_weights(self) -> Path:
        """Give the folder of the best weights so far; where none were measured, this step's are kept and it is theirs."""
        if self.progress.best_step is None:
            self._keep_best()
        return best_of(self.folder, self.progress.best_step or self.progress.step)

    def leave_unfinished(self) -> None:
        """Make the best weights so far the folder's own."""
        best = self.best_weights()
        if self.main:
            publish(self.config.output, best, self.record(complete=False))

    def collapsed(self) -> bool:
        """Whether the last tenth of the steps cost no less than the best answer that looks at no text would have; weighted and smoothed losses do not tell."""
        if self.config.class_weights or self.config.focal_gamma or self.config.label_smoothing:
            return False
        lines = [(0, 0.0), *((line["step"], line["loss"]) for line in self.history.lines() if "loss" in line)]
        # The log has no line of the last steps of a run that ended early.
        last, start, total = self.progress.step, lines[-1][0], sum(self.progress.losses)
        for (before, _), (step, loss) in reversed(list(pairwise(lines))):
            if step <= 0.9 * last:
                break
            start, total = before, total + loss * (step - before)
        rows = np.concatenate(list(islice(self.visits.from_step(start, epochs=self.config.epochs), last - start)))
        seen = [self._targets[row] for row in rows]
        constant = self.prepared.objective.constant_loss(self._targets, seen)
        return bool(total / (last - start) > (1 - LEARNT) * constant)

    def record(
        self,
        *,
        complete: bool,
        shipped: Shipped | None = None,
        averaged: tuple[int, ...] | None = None,
        collapsed: bool = False,
    ) -> dict[str, Any]:
        """Say what run.json says but for what `publish` adds."""
        prepared, progress = self.prepared, self.progress
        return {
            "complete": complete,
            "step": progress.step,
            "total_steps": self.total_steps,
            "best_step": progress.best_step,
            "labels": prepared.data.labels,
            "max_length": prepared.max_length,
            "learning_rate": prepared.learning_rate,
            "constant_loss": prepared.objective.constant_loss(self._targets, self._targets),
            "evaluation": prepared.data.evaluation,
            "eval": shipped.measured.values if shipped and shipped.measured else None,
            "test": shipped.tested.values if shipped and shipped.tested else None,
            "num_weights": prepared.num_weights,
            "num_trained": prepared.num_trained,
            "calibration": shipped and shipped.calibration,
            "averaged": averaged,
            "slices": shipped and as_json(shipped.slices),
            "collapsed": collapsed,
        }

    def unpublished(self, *, complete: bool, **found: Any) -> RunRecord:
        """Give the record of a run whose weights this process does not ship."""
        return RunRecord(**self.record(complete=complete, **found), model_sha256="", made_by={})

    def _line(self) -> dict[str, Any]:
        return {"step": self.progress.step, "epoch": self.progress.step / self.visits.num_batches}

    def _keep_best(self) -> None:
        if self.main:
            save_best(self.folder, self.progress.step, model=self.prepared.kept, tokenizer=self.prepared.tokenizer)
