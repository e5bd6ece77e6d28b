"""When a model may say nothing: how right are its answers, and how many of the texts that it has no answer to does it leave alone?

    python -m bench.abstain --data DIR [--only intents] [--work runs/abstain] [--output FILE]

CLINC150: 150 intents, and texts that belong to none. Two models of them: `intents` has seen the 150 intents alone, `intents and none` also the 100 training texts of none, as a 151st label, whose
answer counts as saying nothing. The trainer calibrates on the val split; levels for several precisions are learned from it once without and once with its 100 texts of none, for which
every answer is wrong. All else is measured on the test split, which nothing was chosen on. Resumable: a finished run is not trained again.
Prints a table, then one JSON document as its last line.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tyro

from bench.choice import choose
from bench.comparison import cell, finish
from bench.datasets import write_rows
from bench.machine import describe_machine
from bench.runs import train_once
from export.reference import Reference
from runtime.tasks import softmax
from trainer.calibration import abstain_level, precision_by_coverage
from trainer.checkpoint import Checkpoint, open_run
from trainer.intervals import wilson

NONE = "oos"  # CLINC150's name for what belongs to no intent
PRECISIONS = (0.9, 0.95, 0.98, 0.99)
CURVE_POINTS = 200
MODELS: dict[str, tuple[str, ...]] = {  # a model → the parts of each split that it is trained on and chosen by
    "intents": ("{}",),
    "intents and none": ("{}", "oos_{}"),
}


@dataclass(frozen=True, kw_only=True)
class AbstainConfig:
    """Measure abstaining on CLINC150."""

    data: Path
    """The folder with clinc150/data_full.json."""
    work: Path = Path("runs/abstain")
    """Where rows and runs go."""
    only: tuple[str, ...] = ()
    """Models to do, of "intents" and "intents and none"; none for both."""
    model: str = "minilm"
    """What is fine-tuned, as --model of the trainer."""
    epochs: int = 8
    """Passes over the rows; the val split chooses the best one."""
    learning_rate: float = 2e-4
    """The peak learning rate."""
    batch_size: int = 32
    """Rows of a step."""
    every: int = 1
    """Use each so many-th row of every split, to try the program."""
    output: Path | None = None
    """Where the document goes, too."""


class Answers(NamedTuple):
    """What a model makes of some rows.

    Attributes:
        confidence: (N,) calibrated probability of the answer; 0 where it says that the text belongs to no intent.
        right: (N,) whether it is the row's intent.
        inside: (N,) whether the row has one.
    """

    confidence: npt.NDArray[np.float32]
    right: npt.NDArray[np.bool_]
    inside: npt.NDArray[np.bool_]

    def take(self, rows: npt.NDArray[np.bool_]) -> "Answers":
        """Keep some rows."""
        return Answers(self.confidence[rows], self.right[rows], self.inside[rows])


def main() -> None:
    """Run the program."""
    config = tyro.cli(AbstainConfig, prog="python -m bench.abstain", description=__doc__)
    names = choose("--only", config.only, MODELS)
    splits = _read(config.data / "clinc150" / "data_full.json", every=config.every)
    machine = describe_machine()
    document = {
        "question": "abstain",
        "run": f"{config.model}, CLINC150, {config.epochs} epochs at {config.learning_rate:g}",
        "machine": machine,
        "threads": machine["threads"],
        "settings": {
            name: str(value) for name, value in asdict(config).items() if name not in ("data", "work", "output")
        },
        "models": {name: _measure(_train(config, name, splits), splits) for name in names},
    }
    _print_table(document)
    finish(document, config.output)


def _read(file: Path, *, every: int) -> dict[str, list[dict[str, str]]]:
    parts = json.loads(file.read_text(encoding="utf-8"))
    return {name: [{"text": text, "label": label} for text, label in rows[::every]] for name, rows in parts.items()}


def _train(config: AbstainConfig, name: str, splits: dict[str, list[dict[str, str]]]) -> Path:
    folder = config.work / name.replace(" ", "-")
    run = folder / "run"
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        flag: write_rows(
            folder / f"{flag}.jsonl", iter([row for part in MODELS[name] for row in splits[part.format(split)]])
        )
        for flag, split in (("train", "train"), ("eval", "val"))
    }
    files["test"] = write_rows(folder / "test.jsonl", iter(splits["test"]))
    recipe = {
        "model": config.model,
        "epochs": config.epochs,
        "learning-rate": config.learning_rate,
        "batch-size": config.batch_size,
    }
    train_once(run, *(f"--{flag}={value}" for flag, value in {**files, **recipe}.items()))
    return run


def _measure(run: Path, splits: dict[str, list[dict[str, str]]]) -> dict[str, Any]:
    checkpoint = open_run(run)
    learned = checkpoint.calibration
    assert learned is not None
    val, test = (_answer(checkpoint, [*splits[split], *splits[f"oos_{split}"]]) for split in ("val", "test"))
    inside = test.take(test.inside)
    given = test.take(test.confidence > 0)
    coverage, precision = precision_by_coverage(given.confidence, given.right)
    shown = np.unique(np.linspace(0, len(coverage) - 1, CURVE_POINTS).astype(int))
    return {
        "accuracy": float(inside.right.mean()),
        "accuracy_interval": wilson(int(inside.right.sum()), len(inside.right)),
        "num_inside": len(inside.right),
        "num_outside": int((~test.inside).sum()),
        "calibration": learned.as_json(),
        "levels": [_at_level("all answered", None, 0.0, test), *_levels(val, test)],
        "coverage": (coverage[shown] * len(given.right) / len(test.right)).tolist(),
        "precision": precision[shown].tolist(),
    }


def _answer(checkpoint: Checkpoint, rows: Sequence[dict[str, str]]) -> Answers:
    encoded = checkpoint.encoder().encode([row["text"] for row in rows])
    logits = np.stack(Reference.load(checkpoint).logits(encoded))
    assert checkpoint.calibration is not None
    scores = softmax(logits / np.float32(checkpoint.calibration.temperature)).max(axis=1)
    found = np.array(checkpoint.labels)[logits.argmax(axis=1)]
    gold = np.array([row["label"] for row in rows])
    return Answers(np.where(found == NONE, np.float32(0), scores), (found == gold) & (gold != NONE), gold != NONE)


def _levels(val: Answers, test: Answers) -> list[dict[str, Any]]:
    """Learn a level for every precision, without and with texts of no intent, and measure it."""
    found = []
    for learned_on, rows in (("val", val.take(val.inside)), ("val and none", val)):
        for precision in PRECISIONS:
            level = abstain_level(rows.confidence, rows.right, precision=precision)
            found.append(_at_level(learned_on, precision, level, test))
    return found


def _at_level(learned_on: str, precision: float | None, level: float | None, test: Answers) -> dict[str, Any]:
    """Count what is answered on the test rows at a level; figures are None where the precision is not to be had."""
    row: dict[str, Any] = {"learned_on": learned_on, "wanted": precision, "level": level}
    if level is None:
        return row | dict.fromkeys(("precision", "coverage", "inside_answered", "inside_right", "outside_withheld"))
    given = (test.confidence > 0) & (test.confidence >= level)
    return row | {
        "precision": _share(test.right[given]),
        "coverage": _share(given),
        "inside_answered": _share(given[test.inside]),
        "inside_right": _share(test.right[given & test.inside]),
        "outside_withheld": _share(~given[~test.inside]),
    }


def _share(holds: npt.NDArray[np.bool_]) -> float | None:
    return float(holds.mean()) if len(holds) else None


def _print_table(document: dict[str, Any]) -> None:
    for name, model in document["models"].items():
        low, high = model["accuracy_interval"]
        fit = model["calibration"]["worth"]["test"]
        print(
            f"{name}: accuracy {model['accuracy']:.4f} ({low:.4f}–{high:.4f}) on {model['num_inside']:,} texts with an intent; "
            f"temperature {model['calibration']['temperature']:.3f}, calibration error {fit['before']['ece']:.4f} → {fit['after']['ece']:.4f}"
        )
        head = (
            "level learned on",
            "wanted",
            "level",
            "answers right",
            "answered",
            "intents answered",
            "of these right",
            "none left alone",
        )
        print(f"{head[0]:>18}" + "".join(f"{title:>18}" for title in head[1:]))
        for row in model["levels"]:
            figures = ("precision", "coverage", "inside_answered", "inside_right", "outside_withheld")
            cells = [cell(row["wanted"], ".2f"), cell(row["level"], ".4f"), *(cell(row[key], ".4f") for key in figures)]
            print(f"{row['learned_on']:>18}" + "".join(f"{text:>18}" for text in cells))
    print("answers right and answered are of all test texts, those of no intent among them")


if __name__ == "__main__":
    main()
