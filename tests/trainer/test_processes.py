"""Two processes give what one gives: the same batches, the same loss, the same weights, the same metrics.

The reference is the same command in one process. Dropout is off, because each process drops other neurons.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
# 27 texts in batches of 8: the last batch has 3 texts, and neither 8 nor 3 is shared evenly by two processes' two parts.
FLAGS = ("--epochs=2", "--batch-size=8", "--gradient-accumulation=2", "--precision=fp32", "--device=cpu", "--max-length=24")  # fmt: skip


@pytest.fixture
def model(make_encoder_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    """Give a tiny BERT without dropout."""
    folder = shutil.copytree(make_encoder_folder("bert"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def run(launcher: tuple[str, ...], flags: tuple[str, ...]) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "trainer", *FLAGS, *flags],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


LAUNCHERS = {
    "torchrun": ("torch.distributed.run", "--nproc_per_node=2", "--master_addr=127.0.0.1", "--master_port={port}", "-m"),
    "accelerate": ("accelerate.commands.launch", "--cpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "--num_cpu_threads_per_process=1", "--main_process_ip=127.0.0.1", "--main_process_port={port}", "-m"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_train_the_model_that_one_trains(
    launcher: str, model: Path, tmp_path: Path, texts: list[str]
) -> None:
    labels = ["cat", "dog", "owl"]
    rows = [{"text": text, "label": labels[index % 3]} for index, text in enumerate(texts[:48])]
    for name, part in (("train", rows[:27]), ("eval", rows[27:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    shared = (f"--model={model}", f"--train={tmp_path / 'train.jsonl'}", f"--eval={tmp_path / 'eval.jsonl'}")
    from trainer.__main__ import main

    assert main([*FLAGS, *shared, f"--output={tmp_path / 'one'}"]) == 0
    port = free_port()
    told = run(
        tuple(part.format(port=port) for part in LAUNCHERS[launcher]), (*shared, f"--output={tmp_path / 'two'}")
    )

    one, two = (json.loads((tmp_path / run / "run.json").read_text()) for run in ("one", "two"))
    assert two["eval"] == pytest.approx(one["eval"], abs=1e-6)
    assert (two["best_step"], two["total_steps"]) == (one["best_step"], 8)
    weights, twin = (load_file(tmp_path / run / "model.safetensors") for run in ("one", "two"))
    assert weights.keys() == twin.keys()
    for name, expected in weights.items():
        torch.testing.assert_close(twin[name], expected, atol=1e-5, rtol=0, msg=lambda text, name=name: f"{name}: {text}")
    assert told.count("next: python -m export") == 1, "only the main process speaks"
    losses = [
        [line["loss"] for line in map(json.loads, (tmp_path / run / "metrics.jsonl").read_text().splitlines()) if "loss" in line]
        for run in ("one", "two")
    ]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
