"""The metadata in front of a model card, as the Hugging Face Hub reads it: what the model is for, what it came from, and what it reaches.

Nothing is guessed: no language, no licence. A result must name its data set there; rows that are on the Hub are named, and all others, files and folders among
them, are nobody else's business.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from .checkpoint import RunRecord
from .config import TrainConfig
from .metrics import Metrics
from .model import MINILM_HUB_NAME
from .wording import NAMES, WORDING

UNPUBLISHED = {"type": "unpublished", "name": "Rows that are not published"}


class Split(NamedTuple):
    """Rows that the model was measured on: what the Hub calls them, where they came from, what was reached."""

    name: str
    source: str | None
    metrics: Metrics | None


def write_metadata(config: TrainConfig, record: RunRecord, *, measured: Metrics | None, tested: Metrics | None) -> str:
    """Write it as YAML.

    Args:
        config: how the model was trained.
        record: where its evaluation rows came from.
        measured: what it reaches on the evaluation rows, where there were any.
        tested: what it reaches on the test rows, where there were any.
    """
    base, published = base_model(config.model), _dataset(config.train)
    evaluated = record.evaluation.source if record.evaluation else None
    splits = [Split("validation", evaluated, measured), Split("test", config.test, tested)]
    metrics = measured or tested
    names = [NAMES[name].hub for name in metrics.values] if metrics else []
    values: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": WORDING[config.task].pipeline,
        **({"base_model": base} if base else {}),
        **({"datasets": [published["type"]]} if published else {}),
        "tags": ["portabert", config.task],
        **({"metrics": list(dict.fromkeys(names))} if names else {}),
        **({"model-index": [_index(config, base, splits)]} if names else {}),
    }
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def base_model(model: str) -> str | None:
    """Give the name on the Hub; a folder has none, and is nobody else's business."""
    name = MINILM_HUB_NAME if model == "minilm" else model
    return name if re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name) and not Path(model).exists() else None


def _index(config: TrainConfig, base: str | None, splits: list[Split]) -> dict[str, Any]:
    name = base.rpartition("/")[2] if base else "model"
    return {"name": f"{name}-{config.task}", "results": [_result(config, split) for split in splits if split.metrics]}


def _result(config: TrainConfig, split: Split) -> dict[str, Any]:
    assert split.metrics is not None
    wording = WORDING[config.task]
    return {
        "task": {"type": wording.pipeline, "name": wording.title},
        "dataset": _dataset(split.source or "") or {**UNPUBLISHED, "split": split.name},
        "metrics": [
            {"type": NAMES[name].hub, "value": value, "name": NAMES[name].title}
            for name, value in split.metrics.values.items()
        ],
    }


def _dataset(source: str) -> dict[str, str] | None:
    """Describe rows that are on the Hub, hf:NAME[/CONFIG]:SPLIT; None for others."""
    name, _, split = source.removeprefix("hf:").rpartition(":")
    if not source.startswith("hf:") or not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*){0,2}", name) or Path(name).exists():
        return None
    owner_and_name, config = name, None
    if name.count("/") == 2:  # OWNER/NAME/CONFIG; of two parts nobody knows without asking whether the second is one
        owner_and_name, _, config = name.rpartition("/")
    return {"type": owner_and_name, "name": name, **({"config": config} if config else {}), "split": split}
