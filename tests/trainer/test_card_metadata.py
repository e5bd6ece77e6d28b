"""huggingface_hub reads the card's metadata, and finds the figures in it; where rows lie stays at home."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import EvalResult, ModelCard

from trainer.card_metadata import UNPUBLISHED
from trainer.config import TrainConfig
from trainer.data import Evaluation
from trainer.metrics import Metrics
from trainer.model_card import write_card
from trainer.objectives import OBJECTIVES
from trainer.wording import NAMES, WORDING

from .reports import LABELS, RECORD


def card(config: TrainConfig, **changes: Any) -> ModelCard:
    """Write a card and let huggingface_hub read it; what it cannot read it raises."""
    measured = Metrics({name: 0.25 + index / 8 for index, name in enumerate(OBJECTIVES[config.task].metrics)}, [], None)
    given: dict[str, Any] = {"record": RECORD, "measured": measured, "tested": None, "labels": LABELS}
    return ModelCard(write_card(config=config, **{**given, **changes}))


def results(read: ModelCard) -> list[EvalResult]:
    found: list[EvalResult] = read.data.eval_results
    return found


@pytest.mark.parametrize("task", WORDING)
def test_the_hub_finds_every_figure(task: str) -> None:
    read = card(TrainConfig(task=task))  # type: ignore[arg-type]
    names = OBJECTIVES[task].metrics
    assert [(one.metric_type, one.metric_name, one.metric_value) for one in results(read)] == [
        (NAMES[name].hub, NAMES[name].title, 0.25 + index / 8) for index, name in enumerate(names)
    ]
    assert {one.task_type for one in results(read)} == {read.data.pipeline_tag} == {WORDING[task].pipeline}
    assert read.data.model_name == f"all-MiniLM-L6-v2-{task}"
    assert (read.data.library_name, read.data.license, read.data.language) == ("transformers", None, None)


def test_rows_on_the_hub_are_named() -> None:
    config = TrainConfig(train="hf:imdb:train", test="hf:owner/data/german:test")
    record = replace(RECORD, evaluation=Evaluation("hf:glue/mrpc:validation", "a" * 64, "eval", 6))
    tested = Metrics({"accuracy": 0.5, "macro_f1": 0.4}, [], None)
    read = card(config, record=record, tested=tested)
    assert read.data.datasets == ["imdb"]
    assert {(r.dataset_type, r.dataset_name, r.dataset_config, r.dataset_split) for r in results(read)} == {
        ("glue/mrpc", "glue/mrpc", None, "validation"),
        ("owner/data", "owner/data/german", "german", "test"),
    }


@pytest.mark.parametrize("source", ["/home/someone/dev.csv", "someone.csv", "hf:/home/someone/data:train", "hf:someone:train", "demo:intent"])  # fmt: skip
def test_rows_elsewhere_are_not(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "someone").mkdir()  # hf:someone:train is a folder of data sets here
    monkeypatch.chdir(tmp_path)
    config = TrainConfig(train=source, model="/home/someone/model", test=source, output=Path("/home/someone/run"))
    record = replace(RECORD, evaluation=Evaluation(source, "a" * 64, "eval", 6))
    read = card(config, record=record, tested=Metrics({"accuracy": 0.5, "macro_f1": 0.4}, [], None))
    assert "someone" not in str(read)
    assert {(one.dataset_type, one.dataset_name) for one in results(read)} == {tuple(UNPUBLISHED.values())}
    assert {one.dataset_split for one in results(read)} == {"validation", "test"}
    assert read.data.datasets is None
    assert read.data.model_name == "model-single-label"


def test_what_was_not_measured_has_no_results() -> None:
    read = card(TrainConfig(), measured=None)
    assert read.data.eval_results is None
    assert "model-index" not in str(read)
