"""Plots are pictures, whatever they have to show."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainer.plots.confusion import plot_confusion
from trainer.plots.curves import plot_curves

from .reports import (
    make_history,
    write,
)


@pytest.mark.parametrize("num_labels", [2, 28, 150])
def test_matrices_of_any_size_are_pictures_in_both_schemes(num_labels: int) -> None:
    counts = np.eye(num_labels, dtype=np.int64) * 12 + np.eye(num_labels, k=1, dtype=np.int64)
    picture = plot_confusion(counts, [f"label {number}" for number in range(num_labels)])
    for png, corner in ((picture.light, 255), (picture.dark, 17)):
        image = Image.open(io.BytesIO(png)).convert("RGB")
        assert image.getpixel((0, 0))[0] == corner  # type: ignore[index]  # three channels
        assert len(image.getcolors(2**24) or []) > 10
    assert 0.5 * num_labels < picture.width < 3000


@pytest.mark.parametrize("label", ["$x", "$\\frac$", "标签", "a\tb\x00", "🙂", "long " * 40])
def test_any_label_can_stand_on_an_axis(label: str) -> None:
    assert plot_confusion(np.eye(2, dtype=np.int64), [label, "other"]).width > 100


@pytest.mark.parametrize("steps", [[], [10], [10, 20]])
def test_curves_are_drawn_from_as_little_as_one_line(steps: list[int]) -> None:
    history: list[dict[str, Any]] = [
        {"step": step, "epoch": 1.0, "eval": {"spearman": -0.1, "rmse": 9.0}} for step in steps
    ]
    picture = plot_curves(history, best_step=None, width_inches=4)
    assert (picture is None) == (not steps)


def test_loss_png_is_a_picture(tmp_path: Path) -> None:
    write(tmp_path, history=make_history({"accuracy": 0.5}))
    with Image.open(tmp_path / "loss.png") as image:
        assert image.width > 1000
        assert len(image.convert("RGB").getcolors(2**24) or []) > 10


def test_importing_the_report_imports_no_matplotlib() -> None:
    code = "import sys, trainer.report; sys.exit(any(name.startswith('matplotlib') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
