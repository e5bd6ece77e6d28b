"""A step that is replayed is the step; one that cannot be recorded, or comes out as another, ends the run.

Without a GPU what is recorded is done again by torch, on the very tensors that a graph would read and write.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from runtime.errors import InputError
from trainer.batch_shapes import LEAST_STEPS, BatchShape, frequent_shapes, shape_of
from trainer.device import choose_place
from trainer.errors import TrainingError
from trainer.graphs import CudaRecorder, Operations
from trainer.step import Stepper

from .runs import Run, history, kill_at_save, same_weights

ALL_ROWS, SHORT_ROWS = np.arange(8), np.arange(4, 8)
Make = Callable[..., Stepper]


class Again:
    """Does what it recorded again."""

    def __init__(self) -> None:
        self.recorded = 0

    def rehearse(self, operations: Operations) -> torch.Tensor:
        return operations()

    def record(self, operations: Operations) -> Operations:
        self.recorded += 1
        return operations


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.packed.BY_BLOCKS", ())


def shapes_of(stepper: Stepper, *batches: np.ndarray) -> frozenset[BatchShape]:
    return frozenset(shape_of(stepper.texts.lengths[batch]) for batch in batches)


def recorded(stepper: Stepper, recorder: Any, *batches: np.ndarray) -> Stepper:
    stepper.record_steps(shapes_of(stepper, *(batches or (ALL_ROWS,))), recorder)
    return stepper


def weights(stepper: Stepper) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in stepper.network.parameters()])


# shapes


def test_a_shape_holds_its_texts_and_few_hold_many() -> None:
    generator = np.random.default_rng(0)
    batches = [generator.integers(1, 60, 16).astype(np.int32) for _ in range(500)]
    shapes = [shape_of(lengths) for lengths in batches]
    for lengths, shape in zip(batches, shapes, strict=True):
        assert lengths.sum() <= shape.num_tokens <= max(lengths.sum() + 63, lengths.sum() * 9 / 8)
        assert lengths.max() <= shape.longest <= lengths.max() + 7
    assert len(set(shapes)) < 30


def test_shapes_that_a_run_meets_often_enough_are_chosen() -> None:
    lengths = np.array([5] * LEAST_STEPS + [100] * 2, dtype=np.int32)
    batches = [np.array([row]) for row in range(len(lengths))]
    short, long = shape_of(lengths[:1]), shape_of(lengths[-1:])
    assert frequent_shapes(lengths, batches, epochs=1) == {short: LEAST_STEPS}
    assert frequent_shapes(lengths, batches, epochs=LEAST_STEPS // 2) == {short: LEAST_STEPS, long: 2}


# steps


def test_steps_by_graphs_are_the_steps(make_stepper: Make) -> None:
    recorder = Again()
    graphs, plain = recorded(make_stepper(), recorder, ALL_ROWS, SHORT_ROWS), make_stepper()
    for step, rows in enumerate((ALL_ROWS, SHORT_ROWS, ALL_ROWS, np.arange(3), SHORT_ROWS)):
        torch.testing.assert_close(graphs.take(step, rows), plain.take(step, rows))
    torch.testing.assert_close(weights(graphs), weights(plain), atol=1e-6, rtol=1e-5)
    assert recorder.recorded == 2, "one a shape, and none for the third"
    assert graphs.said == []  # type: ignore[attr-defined]


def test_what_is_dropped_follows_from_the_step_whichever_graphs_were_recorded_before(make_stepper: Make) -> None:
    """So a resumed run takes the steps of the undisturbed one."""
    first, resumed = (recorded(make_stepper(dropout=0.2), Again()) for _ in range(2))
    first.take(0, ALL_ROWS)
    state = {name: tensor.clone() for name, tensor in first.network.state_dict().items()}
    losses = [first.take(step, ALL_ROWS) for step in (1, 2)]
    resumed.network.load_state_dict(state)
    assert losses == [resumed.take(step, ALL_ROWS) for step in (1, 2)]
    assert torch.equal(weights(first), weights(resumed))
    assert losses[0] != resumed.take(3, ALL_ROWS)


def test_weights_that_no_gradient_reaches_have_none(make_stepper: Make) -> None:
    """As without graphs: a gradient of 0 would let weight decay at them."""
    stepper = make_stepper()
    stepper.network.register_parameter("unused", torch.nn.Parameter(torch.ones(3)))
    stepper = recorded(stepper, Again())
    seen = list[Any]()
    stepper.optimizer.step = lambda: seen.append(stepper.network.unused.grad)
    stepper.take(0, ALL_ROWS)
    stepper.take(1, ALL_ROWS)
    assert seen == [None, None]


# what goes wrong


class Wrong(Again):
    """Gives half of the loss that it recorded."""

    def record(self, operations: Operations) -> Operations:
        def replay() -> torch.Tensor:
            return operations() / 2

        return replay


class Refusing(Again):
    """Cannot record."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def record(self, operations: Operations) -> Operations:
        operations()
        raise self.error


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [
        (Wrong(), r"it gives another loss or other gradients than without, by 5\.0e-01"),
        (Refusing(RuntimeError("operation not permitted\nwhen capturing")), "operation not permitted when capturing"),
        (Refusing(torch.OutOfMemoryError("CUDA out of memory")), "CUDA out of memory"),
    ],
    ids=["another loss", "an error", "no memory"],
)
def test_a_step_that_cannot_be_replayed_ends_the_run_with_the_way_out(
    recorder: Again, reason: str, make_stepper: Make
) -> None:
    """A recording that broke off leaves torch's generator and allocator as if it went on."""
    told = rf"a step cannot be a CUDA graph: {reason}\. Train without --cuda-graphs\."
    with pytest.raises(TrainingError, match=told):
        recorded(make_stepper(), recorder).take(0, ALL_ROWS)


def test_a_replay_that_drops_what_the_recording_dropped_is_found(make_stepper: Make) -> None:
    class Frozen(Again):
        """Leaves what the recording left, whatever is to be dropped."""

        def record(self, operations: Operations) -> Operations:
            loss = operations()
            left = [parameter.grad.clone() for parameter in stepper.network.parameters()]

            def replay() -> torch.Tensor:
                for parameter, gradient in zip(stepper.network.parameters(), left, strict=True):
                    parameter.grad.copy_(gradient)
                return loss

            return replay

    stepper = recorded(make_stepper(), Frozen())
    stepper.take(0, ALL_ROWS)
    stepper = recorded(make_stepper(dropout=0.2), Frozen())
    with pytest.raises(TrainingError, match="other gradients than without"):
        stepper.take(0, ALL_ROWS)


def test_where_memory_runs_out_before_a_recording_the_batch_is_halved(make_stepper: Make) -> None:
    graphs, plain = recorded(make_stepper(fits=4), Again()), make_stepper()
    torch.testing.assert_close(graphs.take(0, ALL_ROWS), plain.take(0, ALL_ROWS))
    torch.testing.assert_close(weights(graphs), weights(plain), atol=1e-6, rtol=1e-5)
    assert graphs.num_parts == 2
    assert graphs.graphs is None


def test_any_other_error_of_the_step_is_not_hidden(make_stepper: Make) -> None:
    graphs = recorded(make_stepper(fits=0, error=ValueError("shapes do not match")), Again())
    with pytest.raises(ValueError, match="shapes do not match"):
        graphs.take(0, ALL_ROWS)


# runs


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Again]:
    """Let runs on a CPU have graphs, and list what recorded them."""
    made = list[Again]()

    def make() -> Again:
        made.append(Again())
        return made[-1]

    def choose(*, cuda_graphs: bool, **settings: Any) -> Any:
        return choose_place(**settings)

    monkeypatch.setattr("trainer.loop.choose_place", choose)
    monkeypatch.setattr("trainer.run.CudaRecorder", make)
    return made


def test_a_run_says_how_many_of_its_steps_are_graphs(train: Run, recorders: list[Again]) -> None:
    run = train(epochs=8, cuda_graphs=True)
    (line,) = (line for line in train.said if "CUDA graphs" in line)  # type: ignore[attr-defined]
    (recorder,) = recorders
    assert recorder.recorded == 3
    assert line == "100% of steps are CUDA graphs, one for each of 3 shapes that batches are padded to"
    assert history(run)[-1]["step"] == 24


@pytest.mark.usefixtures("recorders")
def test_a_resumed_run_is_the_undisturbed_one(train: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"epochs": 8, "cuda_graphs": True, "save_steps": 5}
    undisturbed = train("undisturbed", **settings)
    with monkeypatch.context() as patch:
        kill_at_save(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            train("killed", **settings)
    killed = train("killed", **settings, resume=True)
    assert "resumed at step 10 of 24" in train.said  # type: ignore[attr-defined]
    assert (killed / "metrics.jsonl").read_bytes() == (undisturbed / "metrics.jsonl").read_bytes()
    assert same_weights(killed, undisturbed)


@pytest.mark.usefixtures("recorders")
def test_a_model_without_a_packed_pass_has_none_and_that_is_said(train: Run) -> None:
    train(family="mpnet", cuda_graphs=True)
    assert "warning: steps are no CUDA graphs, which need packed texts" in train.said  # type: ignore[attr-defined]


@pytest.mark.usefixtures("recorders")
def test_epochs_in_int8_are_taken_without(train: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = list[bool]()
    take = Stepper.take

    def noting(stepper: Stepper, *arguments: Any) -> torch.Tensor:
        taken.append(stepper.graphs is not None)
        return take(stepper, *arguments)

    monkeypatch.setattr(Stepper, "take", noting)
    train(epochs=8, cuda_graphs=True, quant_aware=2)
    assert taken == [True] * 18 + [False] * 6


def test_without_a_gpu_they_are_refused() -> None:
    with pytest.raises(InputError, match=r"--cuda-graphs needs a CUDA GPU and one process\. Got CPU, \d+ threads"):
        choose_place(device="cpu", precision="fp32", cuda_graphs=True)


# on a GPU


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_on_a_gpu_steps_by_graphs_are_the_steps(precision: str, train: Run) -> None:
    settings = {"epochs": 8, "device": "cuda", "precision": precision}
    plain = train("plain", **settings)
    graphs, again = (train(name, **settings, cuda_graphs=True) for name in ("graphs", "again"))
    assert not any("no CUDA graphs" in line for line in train.said)  # type: ignore[attr-defined]
    assert same_weights(graphs, again)
    losses = [[line["loss"] for line in history(run) if "loss" in line] for run in (plain, graphs)]
    np.testing.assert_allclose(*losses, rtol=0.2)  # a batch of another size drops others


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_a_recorder_records() -> None:
    x = torch.zeros(3, device="cuda")
    recorder = CudaRecorder()
    recorder.rehearse(lambda: x.add_(1).sum())
    replay = recorder.record(lambda: x.add_(1).sum())
    assert [float(replay()) for _ in range(2)] == [6.0, 9.0]
