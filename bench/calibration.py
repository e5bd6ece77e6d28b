"""What does calibration do to rows that it was not learned on?

    python -m bench.calibration [--only sst2 trec] [--work runs/finetuning] [--abstain-precision 0.95] [--output FILE]

Takes the runs of `bench.finetuning` with the trainer's defaults that are there. Temperature, thresholds and abstain level are learned on the evaluation rows, as the trainer does, and measured on the test split, which nothing was
chosen on. Prints a table, then one JSON document as its last line.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from bench.choice import choose
from bench.comparison import finish
from bench.datasets import RECIPES
from bench.finetuning import DEFAULTS, WAYS, folder_of, rows_of
from bench.labelled import answer_rows
from bench.machine import describe_machine
from runtime.tasks import TASKS, sigmoid
from trainer.calibration import centre, fit_thresholds, learn
from trainer.checkpoint import Checkpoint, open_run
from trainer.evidence import scaled
from trainer.objectives import OBJECTIVES

NAMES = tuple(name for name, recipe in RECIPES.items() if OBJECTIVES[recipe.task].likelihood is not None)


@dataclass(frozen=True, kw_only=True)
class CalibrationConfig:
    """Measure calibration on public data sets."""

    work: Path = Path("runs/finetuning")
    """Where bench.finetuning left its runs."""
    only: tuple[str, ...] = ()
    """Data sets to do; none for all whose answers are probabilities."""
    abstain_precision: float = 0.95
    """The share of right answers to ask for, where answers may be withheld."""
    output: Path | None = None
    """Where the JSON document is written as well."""


def main() -> None:
    """Run the program."""
    config = tyro.cli(CalibrationConfig, prog="python -m bench.calibration", description=__doc__)
    results = []
    print(
        f"{'data':12}{'seed':>5}{'rows':>7}{'T':>7}{'error':>18}{'-log p':>18}{'answered':>10}{'right':>8}{'of all':>8}  F1 at .5, own thresholds, shipped"
    )
    for name in choose("--only", config.only, NAMES):
        for run in sorted(folder_of(config.work, name, DEFAULTS).glob("[0-9]")):
            rows = {split: rows_of(config.work, name) / f"{split}.jsonl" for split in ("eval", "test")}
            results.append(
                {"data": name, "seed": int(run.name), **_measure(open_run(run), rows, config.abstain_precision)}
            )
            _print_line(results[-1])
    if not results:
        raise SystemExit(
            f"error: {config.work} has no runs. Make some with: python -m bench.finetuning --ways {DEFAULTS}"
        )
    finish(
        {
            "question": "calibration",
            "machine": describe_machine(),
            "runs": WAYS[DEFAULTS].settings,
            "abstain_precision": config.abstain_precision,
            "results": results,
        },
        config.output,
    )


def _measure(checkpoint: Checkpoint, files: dict[str, Path], precision: float) -> dict[str, Any]:
    """Learn on the evaluation rows, and measure the test rows."""
    evidence = {}
    for split in ("eval", "test"):
        rows = answer_rows(checkpoint, files[split])
        evidence[split] = checkpoint.evidence(rows.records, rows.encoded, rows.expected)
    abstains = TASKS[checkpoint.config.task].abstains
    calibration = learn(evidence["eval"], abstain_precision=precision if abstains else None)
    worth = calibration.assess(evidence["test"])
    found = {
        "rows": calibration.num_rows,
        "temperature": calibration.temperature,
        "before": worth.before._asdict(),
        "after": worth.after._asdict(),
        "answered": worth.answered
        and {**worth.answered._asdict(), "coverage": worth.answered.coverage, "precision": worth.answered.precision},
        "remarks": calibration.remarks,
        "metrics": rows.compare(rows.expected).metrics,
    }
    if calibration.thresholds is not None:
        logits, truth = evidence["eval"].logits, evidence["eval"].truth.astype(bool)
        own = fit_thresholds(sigmoid(scaled(logits, calibration.temperature)), truth, shrinkage=0).tolist()
        ways = {"at .5": (0.5,) * len(own), "own": tuple(own), "shipped": calibration.thresholds}
        found["thresholds"] = {
            way: checkpoint.objective.measure(
                centre(rows.expected, calibration._replace(thresholds=thresholds)),
                rows.records,
                rows.encoded.tokens,
                checkpoint.labels,
            ).values
            for way, thresholds in ways.items()
        }
    return found


def _print_line(result: dict[str, Any]) -> None:
    before, after, answered = result["before"], result["after"], result["answered"]
    line = f"{result['data']:12}{result['seed']:>5}{result['rows']:>7}{result['temperature']:>7.2f}"
    line += "".join(f"{f'{before[name]:.4f} → {after[name]:.4f}':>18}" for name in ("ece", "nll"))
    if answered:
        line += f"{answered['coverage']:>10.3f}{answered['precision']:>8.3f}{result['metrics']['accuracy']:>8.3f}"
    line += "  " + ", ".join(
        f"{values['micro_f1']:.4f} / {values['macro_f1']:.4f}" for values in result.get("thresholds", {}).values()
    )
    print(line.rstrip(), flush=True)


if __name__ == "__main__":
    main()
