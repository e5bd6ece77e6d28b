"""Several seeds: the best run is the one that ships, the spread is told, and a run that learnt nothing is begun again."""

import json
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from export.__main__ import main as export
from runtime.errors import InputError
from trainer import seeds
from trainer.__main__ import main
from trainer.checkpoint import open_run, read_record
from trainer.config import TrainConfig

WORDS = ("refund", "parcel", "invoice", "password")


@pytest.fixture
def flags(tmp_path: Path, texts: list[str], make_encoder_folder: Callable[[str], Path]) -> list[str]:
    """Give the flags of a small task that a word tells, in three seeds."""
    rows = [
        {"text": f"{WORDS[index % 4]} {' '.join(texts[index].split()[:4])}", "label": "abcd"[index % 4]}
        for index in range(72)
    ]
    for name, part in (("train", rows[:48]), ("eval", rows[48:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    files = [f"--{name}={tmp_path / f'{name}.jsonl'}" for name in ("train", "eval")]
    return [
        *files,
        f"--test={tmp_path / 'eval.jsonl'}",
        f"--model={make_encoder_folder('bert')}",
        f"--output={tmp_path / 'run'}",
        "--epochs=6",
        "--batch-size=16",
        "--learning-rate=3e-3",
        "--precision=fp32",
        "--device=cpu",
        "--seeds=3",
    ]


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.finish.write_report", lambda run, **_: (run / "report.html").write_text(str(run)))


def test_the_best_run_ships_and_mean_and_deviation_are_told(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(flags) == 0
    told = capsys.readouterr().err
    figures = json.loads((run / "seeds.json").read_text())
    values = [found["eval"]["accuracy"] for found in figures["runs"]]
    assert [found["seed"] for found in figures["runs"]] == [0, 1, 2]
    kept = figures["kept"]
    assert values[kept] == max(values)
    assert figures["spread"]["eval"]["accuracy"] == pytest.approx({"mean": mean(values), "stdev": stdev(values)})
    assert f"eval over 3 seeds: accuracy {mean(values):.4f} ± {stdev(values):.4f}, macro_f1" in told
    assert f"kept: seed {kept}, the best on the evaluation rows" in told

    assert (read_record(run).eval or {})["accuracy"] == values[kept]
    assert open_run(run).config.seeds == 3
    assert (run / "report.html").read_text() == str(run / "seeds" / str(kept))
    assert not list((run / "seeds").glob("*/model.safetensors")), "disks are not filled"
    assert export([str(run), f"--output={tmp_path / 'bundle'}", "--variants", "fp32"]) == 0

    assert main([*flags, "--seeds=1", f"--seed={kept}", f"--output={tmp_path / 'alone'}"]) == 0
    alone, shipped = (load_file(folder / "model.safetensors") for folder in (tmp_path / "alone", run))
    assert all(torch.equal(alone[name], shipped[name]) for name in alone), "each is the run that it would be alone"


def test_seeds_that_are_done_are_not_done_again(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true, seen = seeds.train, list[int]()

    def train(config: TrainConfig, *, say: Callable[[str], None]) -> Any:
        seen.append(config.seed)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return true(config, say=say)

    monkeypatch.setattr(seeds, "train", train)
    with pytest.raises(KeyboardInterrupt):
        main(flags)
    assert main([*flags, "--resume"]) == 0
    assert seen == [0, 1, 1, 2]
    assert read_record(tmp_path / "run").complete


def test_a_run_that_learnt_nothing_is_begun_again_with_another_seed(
    flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As with a learning rate at which this seed collapses."""
    true = seeds.train

    def train(config: TrainConfig, *, say: Callable[[str], None]) -> Any:
        from dataclasses import replace

        return true(replace(config, learning_rate=1e-9) if config.seed == 1 else config, say=say)

    monkeypatch.setattr(seeds, "train", train)
    assert main(flags) == 0
    told = capsys.readouterr().err
    assert "warning: nothing was learnt: the loss ended at that of one answer for all texts" in told
    assert "seed 1 is replaced by another" in told
    figures = json.loads((tmp_path / "run" / "seeds.json").read_text())
    assert [(found["seed"], found["collapsed"]) for found in figures["runs"]] == [(0, False), (1001, False), (2, False)]


def test_several_processes_are_refused(flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(flags) == 1
    assert "error: --seeds 3 is for one process. Run each seed by itself with --seed." in capsys.readouterr().err


def test_without_rows_to_choose_by_seeds_are_refused() -> None:
    with pytest.raises(InputError, match="--seeds needs rows to choose by"):
        TrainConfig(train="a.csv", eval_fraction=0.0, seeds=2).validate()
