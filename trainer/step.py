"""One optimizer step: a batch in parts, forward, backward, clip, update."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from runtime.encode import Batch

from .batch_shapes import BatchShape, shape_of
from .device import Place
from .errors import TrainingError
from .graphs import Graphs, Inputs, Recorder
from .losses import LossOptions, Target
from .network import Network
from .noise import Noise
from .objectives import Objective
from .packing import on_device


@dataclass(kw_only=True)
class Stepper:
    """Takes steps. A batch that does not fit into memory is cut into twice as many parts, from then on; the sum, and so the step, stays the same.

    Attributes:
        network: how the model is trained.
        wrapped: the same as accelerate prepared it.
        optimizer: of its parameters.
        objective: the task's.
        texts: all rows' tokens.
        targets: all rows' targets.
        loss: what a user chose about the loss.
        max_grad_norm: gradients are scaled down to this norm; 0 leaves them.
        place: device and processes.
        seed: of what is dropped.
        num_parts: what a process's share of a batch is computed in.
        say: where lines for people go.
        graphs: of steps in one part; None where each is told of anew.
    """

    network: Network
    wrapped: Any
    optimizer: Any
    objective: Objective
    texts: Batch
    targets: Sequence[Target]
    loss: LossOptions
    max_grad_norm: float
    place: Place
    seed: int
    num_parts: int
    say: Callable[[str], None]
    graphs: Graphs | None = None

    def record_steps(self, shapes: frozenset[BatchShape], recorder: Recorder) -> None:
        """Take steps on batches of some shapes by graphs from here on, while they are computed in one part."""
        device = self.place.accelerator.device
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.graphs = Graphs(self._add_gradients, parameters, shapes=shapes, device=device, recorder=recorder)

    def take(self, step: int, indices: npt.NDArray[np.intp]) -> torch.Tensor:
        """Take a step, counted from 0, on the rows `indices` and give its loss, still on the device.

        Raises:
            TrainingError: there is not enough memory for a single row, or the step cannot be the graph it should be.
        """
        accelerator = self.place.accelerator
        self.wrapped.train()
        loss = self._gradients(step, indices)
        if self.max_grad_norm:
            accelerator.clip_grad_norm_(self.wrapped.parameters(), self.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        reduced: torch.Tensor = accelerator.reduce(loss, reduction="sum")
        return reduced

    def _gradients(self, step: int, indices: npt.NDArray[np.intp]) -> torch.Tensor:
        while True:
            try:
                replayed = self._replayed(step, indices)
                return self._forward_backward(step, indices) if replayed is None else replayed
            except (RuntimeError, MemoryError) as exc:
                if not _is_out_of_memory(exc):
                    raise
                self._halve(step, indices, exc)

    def _forward_backward(self, step: int, indices: npt.NDArray[np.intp]) -> torch.Tensor:
        accelerator, count = self.place.accelerator, self._count(indices)
        loss = torch.zeros((), device=accelerator.device)
        parts = _parts(indices, self.place, self.num_parts)
        for number, (part, weight) in enumerate(parts, start=1):
            noise = Noise(self.seed, step, accelerator.process_index, number)
            with accelerator.no_sync(self.wrapped) if number < len(parts) else nullcontext():
                loss += self._add_gradients(self._inputs(part, count), noise, weight)
        return loss

    def _replayed(self, step: int, indices: npt.NDArray[np.intp]) -> torch.Tensor | None:
        """Take a step by the graph of its shape; None where there is none."""
        if self.graphs is None or self.num_parts > 1:
            return None
        shape = shape_of(self.texts.lengths[indices])
        if shape not in self.graphs.shapes:
            return None
        inputs = self._inputs(indices, self._count(indices), shape=shape)
        return self.graphs.step(shape, inputs, (self.seed, step, self.place.accelerator.process_index, 1))

    def _count(self, indices: npt.NDArray[np.intp]) -> int:
        return max(1, self.objective.count([self.targets[index] for index in indices]))

    def _inputs(self, part: npt.NDArray[np.intp], count: int, **shape: BatchShape) -> Inputs:
        """Give what a part of a step learns from; of a shape, which a packed network takes."""
        batch = self.texts.take(part)
        targets = self.network.stack([self.targets[index] for index in part], batch.lengths, **shape)
        return Inputs(self.network.feed(batch, **shape), targets, torch.tensor(float(count)))

    def _add_gradients(self, inputs: Inputs, noise: Noise, weight: float = 1.0) -> torch.Tensor:
        """Add a part's gradients to what is there, and give its share of the step's loss."""
        accelerator = self.place.accelerator
        texts, targets, num_targets = on_device(inputs, accelerator.device)
        logits = self.wrapped(texts, noise=noise).float()
        loss: torch.Tensor = self.objective.loss(logits, targets, self.loss) / num_targets
        # DDP averages over processes, and the loss is a sum over them: times num_processes makes it one.
        accelerator.backward(loss * weight * accelerator.num_processes)
        return loss.detach() * weight

    def _halve(self, step: int, indices: npt.NDArray[np.intp], exc: BaseException) -> None:
        """Make room: half as many rows at once."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.place.accelerator.num_processes > 1:  # the others wait for this one's gradients
            raise TrainingError(
                f"process {self.place.accelerator.process_index} has too little memory at step {step + 1}. "
                f"Raise --gradient-accumulation (it is {self.num_parts}), or lower --max-length."
            ) from exc
        longest = int(self.texts.lengths[indices].max())
        if self.num_parts >= len(indices):
            raise TrainingError(
                f"there is too little memory at step {step + 1} for a single text of {longest} tokens. Lower --max-length, or take a smaller --model."
            ) from exc
        self.num_parts *= 2
        self.graphs = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self.say(
            f"warning: too little memory for {len(indices)} rows of up to {longest} tokens at step {step + 1}; "
            f"from here on a batch is computed in {self.num_parts} parts, which changes no result but takes longer"
        )


def _parts(indices: npt.NDArray[np.intp], place: Place, num_parts: int) -> list[tuple[npt.NDArray[np.intp], float]]:
    """Cut a batch into this process's parts. Where rows run out, a row of weight 0 keeps the processes in step."""
    parts, processes = [], place.accelerator.num_processes
    for part in range(place.accelerator.process_index, processes * num_parts, processes):
        chosen = indices[part :: processes * num_parts]
        if len(chosen) or processes > 1:
            parts.append((chosen, 1.0) if len(chosen) else (indices[:1], 0.0))
    return parts


def _is_out_of_memory(exc: BaseException) -> bool:
    """Whether torch, on a GPU or a CPU, or numpy ran out of memory; a CPU's allocator has no class of its own."""
    return isinstance(exc, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(exc)
