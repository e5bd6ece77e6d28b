"""What is dropped follows from the seeds alone, and as often as asked for."""

import pytest
import torch

from trainer.noise import Noise

ROWS = torch.ones(300, 401)  # no multiple of the four numbers that a draw gives


def test_the_same_seeds_drop_the_same_whatever_was_drawn_before() -> None:
    first = Noise(1, 2, 0).drop(ROWS, 0.1)
    torch.rand(7)
    assert torch.equal(Noise(1, 2, 0).drop(ROWS, 0.1), first)
    for other in ((1, 3, 0), (2, 2, 0), (1, 2, 1)):
        assert not torch.equal(Noise(*other).drop(ROWS, 0.1), first)


def test_a_second_draw_is_another_one() -> None:
    noise = Noise(0)
    assert not torch.equal(noise.drop(ROWS, 0.1), noise.drop(ROWS, 0.1))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_asked_for_is_dropped_and_the_mean_stays(p: float) -> None:
    dropped = Noise(5).drop(ROWS, p)
    share = float((dropped == 0).double().mean())
    assert share == pytest.approx(p, abs=4 * (p * (1 - p) / ROWS.numel()) ** 0.5 + 2**-16)
    assert dropped.max() == pytest.approx(1 / (1 - p), rel=1e-4)
    assert float(dropped.double().mean()) == pytest.approx(1, abs=0.02)


def test_neighbours_are_dropped_independently() -> None:
    dropped = (Noise(6).drop(ROWS, 0.5) == 0).double()
    for shift in (1, 2, 4):  # a draw of 64 bits gives four neighbours
        pairs = torch.stack([dropped[:, :-shift].flatten(), dropped[:, shift:].flatten()])
        assert abs(float(torch.corrcoef(pairs)[0, 1])) < 0.015


def test_nothing_is_dropped_or_copied_where_nothing_is_to_be() -> None:
    assert Noise(0).drop(ROWS, 0.0) is ROWS


def test_torchs_own_generator_follows_from_the_seeds_too() -> None:
    """Padded models drop by it."""
    Noise(1, 2)
    first = torch.rand(4)
    Noise(1, 2)
    assert torch.equal(torch.rand(4), first)
    Noise(1, 3)
    assert not torch.equal(torch.rand(4), first)
