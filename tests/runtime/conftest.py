"""What several tests of the runtime share: a small valid profile, a whole bundle of dummy files, tiny classifiers, and a bundle to tune."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime import candidates, host
from runtime.bundle import read
from runtime.engines import ENGINES
from runtime.model import open_head
from runtime.profile import Choice, Conditions, Host, Measurement, Profile
from runtime.testing import tiny_bundle
from runtime.threads import Threads
from runtime.workload import from_lengths

from .bundles import write_whole
from .classifiers import engine_for
from .machines import SPEEDS, THREADS, Bench, make_variant

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


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., runtime.Classifier]:
    """Give a function that loads a tiny bundle with a fake engine: (task, pair) → classifier."""

    def make(
        task: str = "single-label", *, pair: bool = False, engine: Any = None, **options: Any
    ) -> runtime.Classifier:
        folder = tiny_bundle(tmp_path_factory.mktemp("bundle") / "b", task=task, pair=pair)
        return runtime.load(folder, engine=engine or engine_for(task), **options)

    return make


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Give a bundle to tune on a machine of eight threads that has onnxruntime for the CPU alone."""
    monkeypatch.setattr(host, "usable_threads", lambda: Threads(THREADS, "test"))
    missing = {name: None if name == "ort-cpu" else "it is not installed" for name in ENGINES}
    monkeypatch.setattr(candidates, "why_missing", missing.get)
    bundle = tiny_bundle(tmp_path / "bundle")
    manifest = replace(read(bundle), variants={name: make_variant(name) for name in SPEEDS})
    return Bench(bundle, manifest, from_lengths("8,16", manifest, encoder=open_head(bundle, manifest).encoder))
