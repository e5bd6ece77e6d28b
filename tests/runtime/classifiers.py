"""Tiny bundles, changed as a test wants them and loaded with a fake engine."""

import json
from pathlib import Path
from typing import Any

import runtime
from runtime.testing import LABELS, FakeEngine, tiny_bundle


def fake(folder: Path, *, task: str = "single-label", pair: bool = False, **changes: Any) -> runtime.Classifier:
    """Load a tiny bundle, with changes to its manifest."""
    tiny_bundle(folder, task=task, pair=pair)
    change(folder, **changes)
    return runtime.load(folder, engine=engine_for(task))


def engine_for(task: str) -> FakeEngine:
    return FakeEngine(num_labels=len(LABELS[task]), per_token=runtime.TASKS[task].per_token)


def change(folder: Path, **changes: Any) -> None:
    """Change fields of a bundle's manifest."""
    file = folder / "bundle.json"
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changes}), encoding="utf-8")
