"""What do fine-tuned models reach, and what is left of it in each variant? MiniLM on six public data sets.

    python bench/quality.py --data DIR [--only sst2 trec] [--work runs/quality]

Reads the raw files of the data sets (bench/README.md lists the folders), trains with `python -m trainer`, exports with `python -m export`, and measures
PyTorch and four variants on the test split, which nothing was chosen on. Resumable: a finished run is not done again.
Prints a table, then one JSON document as its last line.
"""

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np
import tyro

from bench.machine import describe_machine
from export.gate import Rows
from export.reference import Reference
from runtime import load
from runtime.conll import read_sentences
from runtime.problems import Problem
from trainer.checkpoint import open_run

RawRows = Iterator[dict[str, Any]]


class Recipe(NamedTuple):
    """One data set: its rows by split, the trainer's flags, and how many seeds."""

    splits: dict[str, Callable[[Path], RawRows]]
    flags: tuple[str, ...]
    seeds: int


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """Measure quality on public data sets."""

    data: Path
    """The folder of the raw data sets."""
    work: Path = Path("runs/quality")
    """Where rows, runs and results go."""
    only: tuple[str, ...] = ()
    """Data sets to do; none for all."""


def main() -> None:
    """Run the program."""
    config = tyro.cli(QualityConfig)
    for name in config.only or RECIPES:
        for seed in range(RECIPES[name].seeds):
            _run(config, name, seed)
    results = [json.loads(file.read_text()) for file in sorted(config.work.glob("*/result-*.json"))]
    _print_table(results)
    print(json.dumps({"machine": describe_machine(), "results": results}))


def _run(config: QualityConfig, name: str, seed: int) -> None:
    folder, recipe = config.work / name, RECIPES[name]
    result, run, bundle = folder / f"result-{seed}.json", folder / f"run-{seed}", folder / f"bundle-{seed}"
    if result.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    files = {split: write_rows(folder / f"{split}.jsonl", read(config.data)) for split, read in recipe.splits.items()}
    sources = [f"--{split}={file}" for split, file in files.items() if split != "test"]
    if not is_complete(run):
        resume = ["--resume"] if (run / "train_config.json").is_file() else []
        run_module("trainer", *sources, f"--output={run}", f"--seed={seed}", *recipe.flags, *resume)
    # The gate is the evaluation split's; what is reported below is the test split's.
    run_module("export", str(run), f"--output={bundle}", "--overwrite", "--variants", *FORMS)
    result.write_text(
        json.dumps(
            {"data": name, "seed": seed, "flags": recipe.flags, **_measure(run, bundle, files["test"])}, indent=1
        )
        + "\n"
    )


def is_complete(run: Path) -> bool:
    """Whether a run was trained to its end."""
    file = run / "run.json"
    return file.is_file() and bool(json.loads(file.read_text())["complete"])


def _measure(run: Path, bundle: Path, test: Path) -> dict[str, Any]:
    checkpoint = open_run(run)
    records = checkpoint.evaluation_records(str(test)) or []
    encoded = checkpoint.encoder().encode([r.model_input for r in records])
    rows = Rows(checkpoint, records, encoded, Reference.load(checkpoint).logits(encoded))
    figures = {"pytorch": rows.compare(rows.expected)}
    for variant, engine in FORMS.items():
        figures[variant] = rows.compare(load(bundle, variant=variant, engine=engine).logits(encoded))
    restored = {line["name"]: line["restored"] for line in json.loads((bundle / "report.json").read_text())["lines"]}
    return {
        "rows": len(records),
        "metric": checkpoint.objective.best_metric,
        "test": {name: value._asdict() for name, value in figures.items()},
        "restored": {variant: restored[variant] for variant in INT8},
    }


def run_module(module: str, *arguments: str) -> None:
    """Run one of our programs, and say so."""
    command = [sys.executable, "-m", module, *arguments]
    print("$", " ".join(command[1:]), file=sys.stderr, flush=True)
    subprocess.run(command, check=True)


def write_rows(file: Path, rows: RawRows) -> Path:
    """Write rows as JSON lines, unless that was done before."""
    if not file.is_file():
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


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


FORMS = {"fp32": "ort-cpu", "int8": "ort-cpu", "native-int8": "native", "native-bf16": "native"}  # variant → engine
INT8 = ("int8", "native-int8")
PAIR = "--text-pair-column=text_pair"
RECIPES: dict[str, Recipe] = {
    "sst2": Recipe(
        {
            "train": _label_first("sst2/stsa.binary.train"),
            "eval": _label_first("sst2/stsa.binary.dev"),
            "test": _label_first("sst2/stsa.binary.test"),
        },
        ("--epochs=3",),
        seeds=3,
    ),
    "trec": Recipe(
        {
            "train": _label_first("trec/TREC.train.all", "latin-1"),
            "test": _label_first("trec/TREC.test.all", "latin-1"),
        },
        ("--epochs=4",),
        seeds=3,
    ),
    "mrpc": Recipe(
        {"train": _mrpc("msr_paraphrase_train.txt"), "test": _mrpc("msr_paraphrase_test.txt")},
        ("--epochs=5", PAIR),
        seeds=1,
    ),
    "stsb": Recipe(
        {"train": _stsb("stsb-en-train.csv"), "eval": _stsb("stsb-en-dev.csv"), "test": _stsb("stsb-en-test.csv")},
        ("--task=regression", "--epochs=4", PAIR),
        seeds=1,
    ),
    "wnut17": Recipe(
        {
            "train": _wnut17("wnut17train.conll"),
            "eval": _wnut17("emerging.dev.conll"),
            "test": _wnut17("emerging.test.annotated"),
        },
        ("--task=token", "--epochs=6"),
        seeds=1,
    ),
    "goemotions": Recipe(
        {"train": _goemotions("train.tsv", 10_000), "eval": _goemotions("dev.tsv"), "test": _goemotions("test.tsv")},
        ("--task=multi-label", "--epochs=4"),
        seeds=1,
    ),
}


def _print_table(results: list[dict[str, Any]]) -> None:
    forms = ("pytorch", *FORMS)
    changes = "".join(f"{form + ' changed':>21}" for form in FORMS) + "".join(
        f"{form + ' in fp32':>21}" for form in INT8
    )
    print(f"{'data':12}{'seeds':>6}  {'metric':14}" + "".join(f"{form:>16}" for form in forms) + changes)
    for name in RECIPES:
        runs = [result for result in results if result["data"] == name]
        if not runs:
            continue
        for metric in runs[0]["test"]["pytorch"]["metrics"]:
            cells = "".join(f"{_spread([run['test'][form]['metrics'][metric] for run in runs]):>16}" for form in forms)
            cells += "".join(f"{mean(1 - run['test'][form]['agreement'] for run in runs):>21.2%}" for form in FORMS)
            cells += "".join(f"{_restored(runs, form):>21}" for form in INT8)
            print(f"{name:12}{len(runs):>6}  {metric:14}{cells}")


def _restored(runs: list[dict[str, Any]], form: str) -> str:
    paths = [run["restored"][form] for run in runs]
    return ", ".join(f"{len(path['trials'][-1]['exact'])}/{path['num_weights']}" for path in paths)


def _spread(values: list[float]) -> str:
    return f"{mean(values):.4f}" if len(values) == 1 else f"{mean(values):.4f} ± {stdev(values):.4f}"


if __name__ == "__main__":
    main()
