"""The public data sets that fine-tuning is measured on: their files, as published, and how each is trained.

bench/README.md lists the folders. No row of them is in this repository.
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime.bundle import write_synced
from runtime.conll import read_sentences
from runtime.problems import Problem
from runtime.records import Record
from trainer.config import TaskName, TrainConfig
from trainer.data import hold_out

RawRows = Iterator[dict[str, Any]]


class Subset(NamedTuple):
    """Rows that are measured once more by themselves.

    Attributes:
        name: what they are called.
        holds: whether a text is one of them.
    """

    name: str
    holds: Callable[[str], bool]


class Recipe(NamedTuple):
    """One data set, and how it is trained.

    Attributes:
        splits: its published rows; without "eval" a tenth of "train" is held out.
        epochs: passes over them.
        task: as --task.
        pair: whether two texts are compared.
        subset: of the test rows.
    """

    splits: dict[str, Callable[[Path], RawRows]]
    epochs: int
    task: TaskName = "single-label"
    pair: bool = False
    subset: Subset | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        """The trainer's flags."""
        pair = ("--text-pair-column=text_pair",) if self.pair else ()
        return (f"--task={self.task}", f"--epochs={self.epochs}", *pair)


def write_splits(recipe: Recipe, data: Path, folder: Path, *, halves: bool = False) -> dict[str, Path]:
    """Write the rows of a data set into a folder, unless all of them lie there: files by "train", "eval" and "test".

    Args:
        recipe: the data set.
        data: the folder of the raw data sets.
        folder: where they are written.
        halves: "test" is half of the training rows, drawn at random, and "train" the other half: to choose settings without the test split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = {split: folder / f"{split}.jsonl" for split in ("train", "eval", "test")}
    if all(file.is_file() for file in files.values()):
        return files
    rows = {split: list(read(data)) for split, read in recipe.splits.items()}
    if "eval" not in rows:
        rows["train"], rows["eval"] = _hold_out(rows["train"])
    if halves:
        drawn = np.random.default_rng(0).permutation(len(rows["train"]))
        middle = len(drawn) // 2
        rows["train"], rows["test"] = (
            [rows["train"][index] for index in sorted(half)] for half in (drawn[:middle], drawn[middle:])
        )
    for split, file in files.items():
        _write(file, rows[split])
    return files


def _hold_out(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Hold out what the trainer would."""
    records = [Record(text=row["text"], label=row["label"], line=number) for number, row in enumerate(rows)]
    kept, held_out = hold_out(records, fraction=TrainConfig.eval_fraction, seed=TrainConfig.split_seed)
    return [rows[record.line] for record in kept], [rows[record.line] for record in held_out]


def write_rows(file: Path, rows: RawRows) -> Path:
    """Write rows as JSON lines, unless that was done before."""
    if not file.is_file():
        _write(file, rows)
    return file


def _write(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    write_synced(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _label_first(name: str, encoding: str = "utf-8") -> Callable[[Path], RawRows]:
    """`label<space>text`, as SST-2 and TREC are published; of TREC's `COARSE:fine` the coarse label."""

    def read(data: Path) -> RawRows:
        for line in (data / name).read_text(encoding=encoding).split("\n"):
            if line.strip():
                label, text = line.split(" ", 1)
                yield {"text": text.strip(), "label": label.partition(":")[0]}

    return read


def _mrpc(name: str) -> Callable[[Path], RawRows]:
    def read(data: Path) -> RawRows:
        for line in (data / "mrpc" / name).read_text(encoding="utf-8-sig").split("\n")[1:]:
            if line.strip():
                label, _, _, text, text_pair = line.rstrip("\r").split("\t")
                yield {"text": text, "text_pair": text_pair, "label": label}

    return read


def _stsb(name: str) -> Callable[[Path], RawRows]:
    def read(data: Path) -> RawRows:
        with (data / "stsb" / name).open(encoding="utf-8", newline="") as stream:
            for text, text_pair, score in csv.reader(stream):
                yield {"text": text, "text_pair": text_pair, "score": float(score)}

    return read


def _goemotions(name: str, sample: int | None = None) -> Callable[[Path], RawRows]:
    def read(data: Path) -> RawRows:
        folder = data / "goemotions"
        names = (folder / "labels.txt").read_text().split()
        with (folder / name).open(encoding="utf-8", newline="") as stream:
            rows = [
                {"text": text, "labels": [names[int(index)] for index in ids.split(",")]}
                for text, ids, _ in csv.reader(stream, delimiter="\t")
            ]
        chosen = (
            range(len(rows)) if sample is None else sorted(np.random.default_rng(0).permutation(len(rows))[:sample])
        )
        return (rows[index] for index in chosen)

    return read


def _wnut17(name: str) -> Callable[[Path], RawRows]:
    def read(data: Path) -> RawRows:
        problems: list[Problem] = []
        for sentence in read_sentences(data / "wnut17" / name, problems=problems):
            yield {"words": sentence.words, "tags": sentence.tags}
        if problems:
            raise ValueError(f"{name}: {problems[0]}")

    return read


RECIPES: dict[str, Recipe] = {
    "sst2": Recipe(
        {
            "train": _label_first("sst2/stsa.binary.train"),
            "eval": _label_first("sst2/stsa.binary.dev"),
            "test": _label_first("sst2/stsa.binary.test"),
        },
        epochs=3,
    ),
    "trec": Recipe(
        {
            "train": _label_first("trec/TREC.train.all", "latin-1"),
            "test": _label_first("trec/TREC.test.all", "latin-1"),
        },
        epochs=4,
    ),
    "mrpc": Recipe(
        {"train": _mrpc("msr_paraphrase_train.txt"), "test": _mrpc("msr_paraphrase_test.txt")},
        epochs=5,
        pair=True,
    ),
    "stsb": Recipe(
        {"train": _stsb("stsb-en-train.csv"), "eval": _stsb("stsb-en-dev.csv"), "test": _stsb("stsb-en-test.csv")},
        epochs=4,
        task="regression",
        pair=True,
    ),
    "wnut17": Recipe(
        {
            "train": _wnut17("wnut17train.conll"),
            "eval": _wnut17("emerging.dev.conll"),
            "test": _wnut17("emerging.test.annotated"),
        },
        epochs=6,
        task="token",
        # In the training rows "@name" is one word and no entity (8 of 1,950 are), in the test rows "@" and a name, which is one in 179 of 464.
        subset=Subset("no @", lambda text: "@" not in text),
    ),
    "goemotions": Recipe(
        {"train": _goemotions("train.tsv", 10_000), "eval": _goemotions("dev.tsv"), "test": _goemotions("test.tsv")},
        epochs=4,
        task="multi-label",
    ),
}
