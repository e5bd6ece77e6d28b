"""What do fine-tuned models reach, and what is left of it in each variant? MiniLM on six public data sets.

    python -m bench.quality --data DIR [--only sst2 trec] [--work runs/finetuning]

Takes the runs of `bench.finetuning` with the trainer's defaults, which are trained where they are missing, exports them with `python -m export`, and measures
PyTorch and four variants on the test split, which nothing was chosen on. Resumable: what is measured is not done again.
Prints a table, then one JSON document as its last line.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import tyro

from bench.choice import choose
from bench.datasets import RECIPES
from bench.finetuning import DEFAULTS, FinetuningConfig, folder_of, result_of, rows_of
from bench.labelled import answer_rows, compare_variants, restored_weights, spread
from bench.machine import describe_machine
from bench.runs import run_module
from trainer.checkpoint import open_run

FORMS = {"fp32": "ort-cpu", "int8": "ort-cpu", "native-int8": "native", "native-bf16": "native"}  # variant → engine
INT8 = ("int8", "native-int8")
SEEDS = {"sst2": 3, "trec": 3, "mrpc": 1, "stsb": 1, "wnut17": 1, "goemotions": 1}


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """Measure quality on public data sets."""

    data: Path
    """The folder of the raw data sets."""
    work: Path = Path("runs/finetuning")
    """Where rows, runs and results go."""
    only: tuple[str, ...] = ()
    """Data sets to do; none for all."""


def main() -> None:
    """Run the program."""
    config = tyro.cli(QualityConfig)
    for name in choose("--only", config.only, SEEDS):
        for seed in range(SEEDS[name]):
            _run(config, name, seed)
    results = [json.loads(file.read_text()) for file in sorted(config.work.glob(f"*/{DEFAULTS}/*-quality.json"))]
    _print_table(results)
    print(json.dumps({"machine": describe_machine(), "results": results}))


def _run(config: QualityConfig, name: str, seed: int) -> None:
    runs = FinetuningConfig(data=config.data, work=config.work)
    folder, test = folder_of(config.work, name, DEFAULTS), rows_of(config.work, name) / "test.jsonl"
    result, run, bundle = folder / f"{seed}-quality.json", folder / str(seed), folder / f"{seed}-bundle"
    if result.is_file():
        return
    result_of(runs, name, DEFAULTS, seed)
    if not run.is_dir():
        raise SystemExit(
            f"error: {run} is not here, only what it reached, for bench.finetuning took that over. Choose another --work."
        )
    # The gate is the evaluation split's; what is reported below is the test split's.
    run_module("export", str(run), f"--output={bundle}", "--overwrite", "--variants", *FORMS)
    found = {"data": name, "seed": seed, "flags": RECIPES[name].flags, **_measure(run, bundle, test)}
    result.write_text(json.dumps(found, indent=1) + "\n")


def _measure(run: Path, bundle: Path, test: Path) -> dict[str, Any]:
    rows = answer_rows(open_run(run), test)
    figures = {"pytorch": rows.compare(rows.expected), **compare_variants(bundle, rows, FORMS)}
    restored = restored_weights(bundle)
    return {
        "rows": len(rows.records),
        "metric": rows.checkpoint.objective.best_metric,
        "test": {name: value._asdict() for name, value in figures.items()},
        "restored": {variant: restored[variant] for variant in INT8},
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
            cells = "".join(f"{spread([run['test'][form]['metrics'][metric] for run in runs]):>16}" for form in forms)
            cells += "".join(f"{mean(1 - run['test'][form]['agreement'] for run in runs):>21.2%}" for form in FORMS)
            cells += "".join(f"{_restored(runs, form):>21}" for form in INT8)
            print(f"{name:12}{len(runs):>6}  {metric:14}{cells}")


def _restored(runs: list[dict[str, Any]], form: str) -> str:
    paths = [run["restored"][form] for run in runs]
    return ", ".join(f"{len(path['trials'][-1]['exact'])}/{path['num_weights']}" for path in paths)


if __name__ == "__main__":
    main()
