"""transformers' Trainer with the settings that its example scripts name for fine-tuning, one run in a process of its own.

    python -m bench.example_script DATA FOLDER OUTPUT SEED

Texts follow run_classification.py and run_glue.py (batch 32, learning rate 2e-5), tags run_ner.py (batch 8, 5e-5, a word's first token has its tag): AdamW without weight decay, linear, no warm-up,
128 tokens at most. What differs: batches are padded to their longest and rows of like length grouped, and products are bf16 where the hardware has it, all for time; epochs are the data set's, each is evaluated,
and the best one's weights are kept, as portabert keeps them.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.datasets import RECIPES
from trainer.losses import IGNORED
from trainer.objectives import OBJECTIVES
from trainer.sources import read_source

MAX_LENGTH = 128


class Settings(NamedTuple):
    """What the example script of a task names: rows a step, learning rate, and the metric that chooses the weights.

    Attributes:
        batch_size: rows of a step.
        learning_rate: at its start.
        metric: the name of what `score` gives.
        score: (logits (N, …), targets) → the metric.
    """

    batch_size: int
    learning_rate: float
    metric: str
    score: Callable[[Any, Any, Sequence[str]], float]


def _accuracy(logits: npt.NDArray[Any], targets: npt.NDArray[Any], labels: Sequence[str]) -> float:
    return float((logits.argmax(axis=-1) == targets).mean())


def _micro_f1(logits: npt.NDArray[Any], targets: npt.NDArray[Any], labels: Sequence[str]) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(targets, logits > 0, average="micro", zero_division=0))


def _spearman(logits: npt.NDArray[Any], targets: npt.NDArray[Any], labels: Sequence[str]) -> float:
    from scipy.stats import spearmanr

    return float(np.nan_to_num(spearmanr(logits[:, 0], targets).statistic))


def _span_f1(logits: npt.NDArray[Any], targets: npt.NDArray[Any], labels: Sequence[str]) -> float:
    from seqeval.metrics import f1_score

    found, truth = logits.argmax(axis=-1), targets
    kept = [row != IGNORED for row in truth]
    names = [
        [[labels[index] for index in row[keep]] for row, keep in zip(rows, kept, strict=True)]
        for rows in (truth, found)
    ]
    return float(f1_score(*names, zero_division=0))


SETTINGS: dict[str, Settings] = {
    "single-label": Settings(32, 2e-5, "accuracy", _accuracy),
    "multi-label": Settings(32, 2e-5, "micro_f1", _micro_f1),
    "regression": Settings(32, 2e-5, "spearman", _spearman),
    "token": Settings(8, 5e-5, "span_f1", _span_f1),
}


def main() -> None:
    """Train, and leave a checkpoint."""
    name, folder, output, seed = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    _train(name, folder, output, seed)


def _train(name: str, folder: Path, output: Path, seed: int) -> None:
    import torch
    import transformers

    from trainer.device import choose_place
    from trainer.model import find_model

    recipe, place = RECIPES[name], choose_place(device="auto", precision="auto")
    settings, objective = SETTINGS[recipe.task], OBJECTIVES[recipe.task]
    transformers.set_seed(seed)
    labels = _labels(recipe.task, folder / "train.jsonl")
    start = find_model("minilm")
    tokenizer = transformers.AutoTokenizer.from_pretrained(start)
    model = getattr(transformers, objective.auto_model).from_pretrained(
        start,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type=objective.problem_type,
    )
    data = {split: _encode(tokenizer, _read(folder / f"{split}.jsonl"), labels) for split in ("train", "eval")}
    collator = (
        transformers.DataCollatorForTokenClassification(tokenizer)
        if recipe.task == "token"
        else transformers.DataCollatorWithPadding(tokenizer)
    )
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=output / "states",
            per_device_train_batch_size=settings.batch_size,
            per_device_eval_batch_size=64,
            num_train_epochs=recipe.epochs,
            learning_rate=settings.learning_rate,
            seed=seed,
            bf16=place.precision == "bf16",
            use_cpu=not torch.cuda.is_available(),
            group_by_length=True,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_only_model=True,
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model=settings.metric,
            greater_is_better=True,
            logging_steps=10,
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=data["train"],
        eval_dataset=data["eval"],
        data_collator=collator,
        compute_metrics=lambda found: {settings.metric: settings.score(found.predictions, found.label_ids, labels)},
    )
    trainer.train()
    trainer.save_model(output)
    tokenizer.save_pretrained(output)


def _labels(task: str, train: Path) -> tuple[str, ...]:
    from runtime.records import Columns
    from runtime.tables import Layout
    from runtime.tasks import TASKS

    rows = read_source(str(train), split="train", target=TASKS[task].target, columns=Columns(), layout=Layout())
    return OBJECTIVES[task].find_labels(rows.records, None)


def _read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _encode(tokenizer: Any, rows: list[dict[str, Any]], labels: Sequence[str]) -> list[dict[str, Any]]:
    index = {label: position for position, label in enumerate(labels)}
    if "tags" in rows[0]:
        return [_encode_words(tokenizer, row, index) for row in rows]
    texts = [row["text"] for row in rows], [row["text_pair"] for row in rows] if "text_pair" in rows[0] else None
    encoded = tokenizer(*texts, truncation=True, max_length=MAX_LENGTH)
    return [
        {**{key: encoded[key][number] for key in encoded}, "labels": _target(row, index)}
        for number, row in enumerate(rows)
    ]


def _target(row: dict[str, Any], index: dict[str, int]) -> Any:
    if "labels" in row:
        return [float(label in row["labels"]) for label in index]
    return float(row["score"]) if "score" in row else index[row["label"]]


def _encode_words(tokenizer: Any, row: dict[str, Any], index: dict[str, int]) -> dict[str, Any]:
    encoded = tokenizer(row["words"], is_split_into_words=True, truncation=True, max_length=MAX_LENGTH)
    words = encoded.word_ids()
    firsts = [word is not None and word != before for word, before in zip(words, [None, *words[:-1]], strict=True)]
    tags = [index[row["tags"][word]] if first else IGNORED for word, first in zip(words, firsts, strict=True)]
    return {**encoded, "labels": tags}


if __name__ == "__main__":
    main()
