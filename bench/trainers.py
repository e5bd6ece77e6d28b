"""One trainer in a process of its own: two epochs over the same rows, of which the second is timed.

    python -m bench.trainers TRAINER MODEL ROWS

The last line of stdout is a JSON document. The recipe is the same for all: AdamW (fused where the trainer takes it), linear decay without warm-up,
gradients clipped at 1, 32 rows a step, no evaluation, no checkpoint.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

BATCH_SIZE, LOG_STEPS = 32, 10
LEARNING_RATE, WEIGHT_DECAY, MAX_LENGTH = 5e-5, 0.01, 128


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """A way to train.

    Attributes:
        settings: what it is, in words.
        seconds: (model, rows) → the seconds of the second epoch.
        gpu: whether it is for GPUs alone.
    """

    settings: str
    seconds: Callable[[str, Path], float]
    gpu: bool = False


def _portabert(precision: str, *, cuda_graphs: bool = False) -> Callable[[str, Path], float]:
    def seconds(model: str, rows: Path) -> float:
        from trainer.config import TrainConfig
        from trainer.loop import train

        with TemporaryDirectory() as folder:
            config = TrainConfig(
                model=model,
                train=str(rows),
                eval_fraction=0.0,
                output=Path(folder) / "run",
                epochs=2,
                batch_size=BATCH_SIZE,
                learning_rate=LEARNING_RATE,
                weight_decay=WEIGHT_DECAY,
                warmup_fraction=0.0,
                max_length=MAX_LENGTH,
                precision=precision,  # type: ignore[arg-type]  # the names of TrainConfig
                cuda_graphs=cuda_graphs,
            )
            record = train(config, say=lambda line: print(line, file=sys.stderr))
            lines = map(json.loads, (config.output / "timing.jsonl").read_text().splitlines())
            return sum(float(line["seconds"]) for line in lines if line["step"] > record.total_steps // 2)

    return seconds


def _transformers(*, padding: bool, precision: str, compiled: bool = False) -> Callable[[str, Path], float]:
    """transformers' Trainer: `padding` to the maximum, as its example scripts do unless told otherwise, else to a batch's longest, with rows of like length grouped."""

    def seconds(model: str, rows: Path) -> float:
        import torch
        import transformers

        from trainer.model import find_model

        place = find_model(model)
        tokenizer = transformers.AutoTokenizer.from_pretrained(place)
        read = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
        labels = sorted({row["label"] for row in read})
        encoded = tokenizer(
            [row["text"] for row in read],
            padding="max_length" if padding else False,
            truncation=True,
            max_length=MAX_LENGTH,
        )
        data = [
            {**{name: encoded[name][index] for name in encoded}, "labels": labels.index(row["label"])}
            for index, row in enumerate(read)
        ]
        clock = _EpochClock()
        with TemporaryDirectory() as folder:
            trainer = transformers.Trainer(
                model=transformers.AutoModelForSequenceClassification.from_pretrained(place, num_labels=len(labels)),
                args=transformers.TrainingArguments(
                    output_dir=folder,
                    per_device_train_batch_size=BATCH_SIZE,
                    num_train_epochs=2,
                    learning_rate=LEARNING_RATE,
                    weight_decay=WEIGHT_DECAY,
                    optim="adamw_torch_fused",
                    bf16=precision == "bf16",
                    use_cpu=not torch.cuda.is_available(),
                    group_by_length=not padding,
                    torch_compile=compiled,
                    logging_steps=LOG_STEPS,
                    save_strategy="no",
                    report_to=[],
                    disable_tqdm=True,
                ),
                train_dataset=data,
                data_collator=transformers.default_data_collator
                if padding
                else transformers.DataCollatorWithPadding(tokenizer),
                callbacks=[clock.callback()],
            )
            trainer.train()
        return clock.seconds[1]

    return seconds


class _EpochClock:
    """The seconds of each epoch of transformers' Trainer."""

    def __init__(self) -> None:
        self.seconds = list[float]()
        self._start = 0.0

    def callback(self) -> Any:
        import transformers

        clock = self

        class Callback(transformers.TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
            def on_epoch_begin(self, *_: Any, **__: Any) -> None:
                _wait_for_gpu()
                clock._start = time.perf_counter()

            def on_epoch_end(self, *_: Any, **__: Any) -> None:
                _wait_for_gpu()
                clock.seconds.append(time.perf_counter() - clock._start)

        return Callback()


def _wait_for_gpu() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


TRAINERS: dict[str, Trainer] = {
    "portabert": Trainer(settings="its defaults: packed, bf16 where the hardware has it", seconds=_portabert("auto")),
    "portabert, CUDA graphs": Trainer(
        settings="the same with --cuda-graphs", seconds=_portabert("auto", cuda_graphs=True), gpu=True
    ),
    "portabert fp32": Trainer(settings="packed, fp32", seconds=_portabert("fp32")),
    "Trainer padded to 128": Trainer(
        settings="transformers' Trainer, padding to max_length as run_classification.py does by default, fp32",
        seconds=_transformers(padding=True, precision="fp32"),
    ),
    "Trainer padded to 128, bf16": Trainer(
        settings="the same with bf16", seconds=_transformers(padding=True, precision="bf16")
    ),
    "Trainer grouped": Trainer(
        settings="transformers' Trainer, DataCollatorWithPadding, group_by_length, fp32",
        seconds=_transformers(padding=False, precision="fp32"),
    ),
    "Trainer grouped, bf16": Trainer(
        settings="the same with bf16", seconds=_transformers(padding=False, precision="bf16")
    ),
    "Trainer grouped, bf16, compiled": Trainer(
        settings="the same with bf16 and torch_compile",
        seconds=_transformers(padding=False, precision="bf16", compiled=True),
        gpu=True,
    ),
}


def main() -> None:
    """Train once and say how long the second epoch took."""
    name, model, rows = sys.argv[1:]
    print(json.dumps({"seconds": TRAINERS[name].seconds(model, Path(rows))}))


if __name__ == "__main__":
    main()
