"""A small valid profile and a whole bundle of dummy files, for the tests of everything that reads one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.profile import Choice, Conditions, Host, Measurement, Profile

from .bundles import write_whole

HOST = Host(bundle="0" * 64, processor="a processor", threads=2, versions={"numpy": "2.0"})
# One thread, which every machine has.
DEFAULT = Choice(engine="ort-cpu", variant="int8", threads=1, streams=None, spinning=None, max_batch_tokens=512)
WINNER = replace(DEFAULT, variant="fp32", spinning=False, max_batch_tokens=1024)


def _measurement(choice: Choice, **values: Any) -> Measurement:
    usual = {"texts_per_s": 100.0, "latency_ms": 5.0, "agreement": 0.995, "quality": None, "golden_error": 0.1}
    return Measurement(choice=choice, **{**usual, "passes": 5, "out": None, **values})


@pytest.fixture
def measurement() -> Callable[..., Measurement]:
    """Give a function that makes a measurement of a choice that may win."""
    return _measurement


@pytest.fixture
def make_profile() -> Callable[..., Profile]:
    """Give a function that makes a profile in which fp32 with other settings beats int8, the default; fields may be replaced."""

    def make(**values: Any) -> Profile:
        made = Profile(
            format=1,
            date="2026-11-25T12:00:00+00:00",
            host=HOST,
            goal="throughput",
            winners={"throughput": WINNER, "latency": DEFAULT, "both": WINNER},
            default=DEFAULT,
            gain=1.5,
            conditions=Conditions(
                num_texts=300,
                mean_tokens=25.0,
                own_texts=True,
                reference="fp32 on ort-cpu, 1 thread, 512 tokens a batch",
                floor=0.99,
                batch_invariant=False,
                quality=None,
                complete=True,
            ),
            measurements=(_measurement(DEFAULT), _measurement(WINNER, texts_per_s=150.0, agreement=1.0)),
        )
        return replace(made, **values)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a whole bundle of dummy files."""
    return write_whole(tmp_path / "bundle")
