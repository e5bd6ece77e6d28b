"""Steps on a GPU as CUDA graphs: told once for each shape of batch, then replayed.

A GPU computes a small batch in less time than it takes to be told of its operations, some 700 for MiniLM (docs/LOG.md). A graph is told of as one:

    batch, padded to its shape ─► copied into the graph's own tensors ─► replay: gradients to 0, forward, backward ─► gradients, loss

Clipping and the optimizer's step, a few operations however many weights there are, come after it as ever. What is dropped is drawn anew, since a replay starts from
the generator's seed of that moment. A graph is trusted after it gave the gradients that the same step has without it; where it cannot be made or gives others, the
run ends, for what a recording leaves behind that broke off is not to be trained on.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import torch

from .batch_shapes import BatchShape
from .errors import TrainingError
from .noise import Noise
from .packing import Packing, on_device, tensors_of
from .padded import Feeds

TOLERANCE = 0.01  # of the loss and of each gradient's norm; of those that are a thousandth of the largest or less, a thousandth of that
SMALL = 1e-3


class Inputs(NamedTuple):
    """What a step learns from.

    Attributes:
        texts: B of them, as the network takes them.
        targets: (B,), (B, C) or (T,).
        num_targets: () in the whole optimizer step.
    """

    texts: Packing | Feeds
    targets: torch.Tensor
    num_targets: torch.Tensor


Operations = Callable[[], torch.Tensor]  # → the loss; gradients are added to what is there


class Recorder(Protocol):
    """Records what a device is told."""

    def rehearse(self, operations: Operations) -> torch.Tensor:
        """Do operations as a recording needs them done once before."""

    def record(self, operations: Operations) -> Operations:
        """Record operations, and give what does them again, on the same tensors."""


class CudaRecorder:
    """Records CUDA graphs, which share their memory: one replays at a time, and what it leaves is copied out."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # one, for each costs libraries memory of their own

    def rehearse(self, operations: Operations) -> torch.Tensor:
        """Do operations on a stream of their own: what libraries set up at first use must not be recorded."""
        self._aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._aside):
            loss = operations()
        torch.cuda.current_stream().wait_stream(self._aside)
        return loss

    def record(self, operations: Operations) -> Operations:
        """Record operations, which must not wait for the GPU."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            loss = operations()

        def replay() -> torch.Tensor:
            graph.replay()
            return loss.clone()

        return replay


class _Recorded(NamedTuple):
    inputs: Inputs
    replay: Operations


class Graphs:
    """The graphs of a run.

    Args:
        compute: (inputs, noise) → the loss of a step; adds its gradients to those that are there.
        parameters: those that are trained.
        shapes: that get a graph, when they are first met.
        device: of the parameters.
        recorder: of its graphs.
    """

    def __init__(
        self,
        compute: Callable[[Inputs, Noise], torch.Tensor],
        parameters: Iterable[torch.nn.Parameter],
        *,
        shapes: frozenset[BatchShape],
        device: torch.device,
        recorder: Recorder,
    ) -> None:
        self.shapes = shapes
        self._compute, self._parameters, self._device, self._recorder = compute, list(parameters), device, recorder
        self._recorded = dict[BatchShape, _Recorded]()
        self._gradients = dict[torch.nn.Parameter, torch.Tensor]()  # where all graphs leave them
        self._noise = Noise(0)

    def step(self, shape: BatchShape, inputs: Inputs, seeds: tuple[int, ...]) -> torch.Tensor:
        """Leave the gradients of a step in the parameters, which have none, and give its loss.

        Args:
            shape: one of `shapes`.
            inputs: of that shape, on any device.
            seeds: of what is dropped.

        Raises:
            TrainingError: it cannot be recorded, or comes out as another.
        """
        if shape not in self._recorded:
            self._recorded[shape] = self._record(inputs, seeds)
        return self._replay(self._recorded[shape], inputs, seeds)

    def _replay(self, recorded: _Recorded, inputs: Inputs, seeds: tuple[int, ...]) -> torch.Tensor:
        for own, given in zip(tensors_of(recorded.inputs), tensors_of(inputs), strict=True):
            own.copy_(given, non_blocking=True)
        self._noise = Noise(*seeds)
        self._show_gradients()
        return recorded.replay()

    def _record(self, inputs: Inputs, seeds: tuple[int, ...]) -> _Recorded:
        """Record a step after it was taken without a graph, and hold what is recorded to what it gave."""
        own: Inputs = on_device(inputs, self._device, copy=True)

        def operations() -> torch.Tensor:
            return self._compute(own, self._noise)

        def from_zero() -> torch.Tensor:
            torch._foreach_zero_(list(self._gradients.values()))
            return operations()

        self._noise = Noise(*seeds)
        expected = self._figures(self._recorder.rehearse(operations))
        found = {parameter: parameter.grad for parameter in self._parameters if parameter.grad is not None}
        self._gradients = self._gradients or found
        if found.keys() != self._gradients.keys():
            raise _refusal("batches of different shapes train different weights")
        self._show_gradients()
        self._noise = Noise(*seeds, 1)  # other numbers than the replay below must draw
        try:
            recorded = _Recorded(own, self._recorder.record(from_zero))
        except RuntimeError as exc:
            raise _refusal(str(exc.__context__ or exc)) from exc
        actual = self._figures(self._replay(recorded, inputs, seeds))
        apart = float(((actual - expected).abs() / (expected + SMALL * expected.max())).max())
        if not apart <= TOLERANCE:
            raise _refusal(f"it gives another loss or other gradients than without, by {apart:.1e}")
        return recorded

    def _show_gradients(self) -> None:
        for parameter, gradient in self._gradients.items():
            parameter.grad = gradient

    def _figures(self, loss: torch.Tensor) -> torch.Tensor:
        """Give a step's loss and its gradients' norms."""
        norms = [parameter.grad.norm() for parameter in self._parameters if parameter.grad is not None]
        return torch.stack([loss.detach(), *norms]).double()


def _refusal(reason: str) -> TrainingError:
    return TrainingError(f"a step cannot be a CUDA graph: {' '.join(reason.split())}. Train without --cuda-graphs.")
