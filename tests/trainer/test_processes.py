"""Two processes give what one gives: the same batches, the same loss, the same weights, the same metrics.

The reference is the same command in one process. Dropout is off, because each process drops other neurons.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from trainer.__main__ import main

from .runs import history

ROOT = Path(__file__).parents[2]
# 27 texts in batches of 8: the last batch has 3, so that neither 8 nor 3 divides evenly among two processes with two parts each.
FLAGS = ("--epochs=2", "--batch-size=8", "--gradient-accumulation=2", "--precision=fp32", "--device=cpu")


@pytest.fixture
def model(make_encoder_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    """Give a tiny BERT without dropout."""
    folder = shutil.copytree(make_encoder_folder("bert"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def launch(flags: tuple[str, ...]) -> str:
    """Train in two processes, over the loopback device alone; give what they print."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    launcher = ("torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1", f"--master_port={port}")
    process = subprocess.Popen(
        [sys.executable, "-m", *launcher, "-m", "trainer", *FLAGS, *flags],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "GLOO_SOCKET_IFNAME": "lo"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        told, errors = process.communicate(timeout=240)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # the launcher and both processes
        raise
    assert process.returncode == 0, errors
    return told


@pytest.mark.slow
def test_two_processes_train_the_model_that_one_trains(model: Path, tmp_path: Path, texts: list[str]) -> None:
    rows = [{"text": text, "label": ("cat", "dog", "owl")[index % 3]} for index, text in enumerate(texts[:48])]
    for name, part in (("train", rows[:27]), ("eval", rows[27:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    shared = (f"--model={model}", f"--train={tmp_path / 'train.jsonl'}", f"--eval={tmp_path / 'eval.jsonl'}")
    assert main([*FLAGS, *shared, f"--output={tmp_path / 'one'}"]) == 0
    told = launch((*shared, f"--output={tmp_path / 'two'}"))

    one, two = (json.loads((tmp_path / run / "run.json").read_text()) for run in ("one", "two"))
    assert two["eval"] == pytest.approx(one["eval"], abs=1e-6)
    assert (two["best_step"], two["total_steps"]) == (one["best_step"], 8)
    expected, weights = (load_file(tmp_path / run / "model.safetensors") for run in ("one", "two"))
    assert weights.keys() == expected.keys()
    apart = {name: float((weights[name] - expected[name]).abs().max()) for name in expected}
    # Softmax does not see a key's bias: its gradient is rounding alone, which Adam scales up to whole steps.
    assert {name: gap for name, gap in apart.items() if gap > 1e-5 and not name.endswith("key.bias")} == {}
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), abs=1e-5)
    assert told.count("next: python -m export") == 1, "only the main process speaks"


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in history(run) if "loss" in line]
