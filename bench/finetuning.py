"""How good is what a recipe makes? Seeds × public data sets, beside transformers' Trainer as its example scripts set it.

    python -m bench.finetuning --data DIR [--only trec sst2] [--ways plain "example script"] [--seeds 5] [--int8] [--work runs/finetuning] [--known FILE …] [--output FILE]

A way to train is a row of WAYS. Every run has the data set's epochs, and its weights are chosen on the evaluation split; test splits, which nothing is chosen on, are measured by one and the same code, on PyTorch's
logits in fp32. To choose between ways without them there is --halves: trained on half of the training rows, measured on the other. With --int8 runs are exported, and what onnxruntime and portabert-native reach in int8 is measured too. Resumable: a run whose result is written is not done again, one that was interrupted goes on; --known takes results over from another machine's document, and each result says where it is from.
Prints a table, with each way's differences from the first and their 95 % intervals over the seeds (Student's t, paired), then one JSON document as its last line.
"""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import tyro

from bench.choice import choose
from bench.comparison import finish
from bench.datasets import RECIPES, Recipe, Subset, write_splits
from bench.intervals import student
from bench.labelled import answer_rows, compare_variants, restored_weights, spread
from bench.machine import describe_machine
from bench.runs import run_module, train_once
from export.gate import Rows
from trainer.checkpoint import Checkpoint, open_foreign, open_run
from trainer.config import TrainConfig
from trainer.slices import measure_some

SEEDS = {"trec": 5, "mrpc": 5, "wnut17": 5, "sst2": 3, "stsb": 3, "goemotions": 1}


@dataclass(frozen=True, kw_only=True)
class FinetuningConfig:
    """Compare recipes over seeds."""

    data: Path
    """The folder of the raw data sets."""
    work: Path = Path("runs/finetuning")
    """Where rows, runs and results go."""
    known: tuple[Path, ...] = ()
    """Documents of earlier runs, whose results are not done again."""
    only: tuple[str, ...] = ()
    """Data sets to do; none for all."""
    ways: tuple[str, ...] = ()
    """Ways to train, the first of them the one that others are compared with; none for those of the question, QUESTION."""
    seeds: int | None = None
    """Runs of each, from seed 0 on. Not set: as many as the table SEEDS says."""
    int8: bool = False
    """Export the runs of ways of ours, and measure int8."""
    halves: bool = False
    """Train on half of the training rows and measure the other half in the test split's place, to choose settings by."""
    train: bool = True
    """Train and export what is missing; --no-train: show what is there."""
    output: Path | None = None
    """Where the JSON document is written as well."""


class Job(NamedTuple):
    """One run: the data set, its files, where the run goes, its seed, and which of its test rows are measured by themselves, too."""

    name: str
    files: dict[str, Path]
    run: Path
    seed: int
    subset: Subset | None = None

    @property
    def recipe(self) -> Recipe:
        """How the data set is trained."""
        return RECIPES[self.name]


class Way(NamedTuple):
    """A way to train.

    Attributes:
        settings: what it is, in words.
        train: trains a job's run.
        open: opens it.
    """

    settings: str
    train: Callable[[Job], None]
    open: Callable[[Job], Checkpoint]


def _ours(settings: str, *flags: str) -> Way:
    def train(job: Job) -> None:
        sources = [f"--train={job.files['train']}", f"--eval={job.files['eval']}"]
        train_once(job.run, *sources, f"--seed={job.seed}", *job.recipe.flags, *flags)

    return Way(settings, train, _open_ours)


def _open_ours(job: Job) -> Checkpoint:
    return open_run(job.run)


def _train_example(job: Job) -> None:
    if not job.run.is_dir():
        unfinished = job.run.with_name(f".{job.run.name}.tmp")
        run_module("bench.example_script", job.name, str(job.files["train"].parent), str(unfinished), str(job.seed))
        shutil.rmtree(unfinished / "states")
        unfinished.rename(job.run)


def _open_example(job: Job) -> Checkpoint:
    layout = TrainConfig(task=job.recipe.task, text_pair_column="text_pair" if job.recipe.pair else None)
    return open_foreign(job.run, config=layout)


INT8 = {"int8": "ort-cpu", "native-int8": "native"}  # variant → engine
PLAIN = {
    "batch_size": 32,
    "learning_rate": 1e-4,
    "warmup_fraction": 0.1,
    "layer_decay": 1.0,
    "reinit_layers": 0,
    "weight_decay": 0.01,
}


def _plain(settings: str, **changes: float) -> Way:
    """Spell the plain recipe out, so that other defaults would not change it, but for some changes."""
    return _ours(settings, *(f"--{name.replace('_', '-')}={value}" for name, value in {**PLAIN, **changes}.items()))


DEFAULTS = "portabert"  # the way that is the trainer as it comes
WAYS: dict[str, Way] = {
    DEFAULTS: _ours("its defaults"),
    "plain": _plain("AdamW at 1e-4, linear, a tenth of warm-up, the same rate for all layers, 32 rows a step"),
    "quant-aware": _plain("the same, the last epoch in int8", quant_aware=1),
    "example script": Way(
        "transformers' Trainer at the settings of run_classification.py and run_ner.py", _train_example, _open_example
    ),
    # What might make a better default; the one to choose by is measured with --halves.
    "twice the rate": _plain("plain, at 2e-4", learning_rate=2e-4),
    "16 rows": _plain("plain, 16 rows a step", batch_size=16),
    "8 rows": _plain("plain, 8 rows a step", batch_size=8),
    "small batches": _plain("plain, 8 rows a step at 5e-5", batch_size=8, learning_rate=5e-5),
    "half the rate": _plain("16 rows, at 5e-5", batch_size=16, learning_rate=5e-5),
    "layer decay": _plain("16 rows, each layer at .9 of the rate of the one above it", batch_size=16, layer_decay=0.9),
    "top layer anew": _plain("16 rows, the last layer drawn anew", batch_size=16, reinit_layers=1),
    "mean of three": _plain("16 rows, the mean of the last three epochs' weights", batch_size=16, average=3),
}
QUESTION = (DEFAULTS, "plain", "example script")


def main() -> None:
    """Run the program."""
    config = tyro.cli(FinetuningConfig, prog="python -m bench.finetuning", description=__doc__)
    names, ways = choose("--only", config.only, SEEDS), choose("--ways", config.ways or QUESTION, WAYS)
    for file in config.known:
        _take_over(file, config)
    results = [
        result
        for name in names
        for seed in range(config.seeds or SEEDS[name])
        for way in ways
        if (result := result_of(config, name, way, seed)) is not None
    ]
    _print_table(results, ways)
    if config.int8:
        _print_int8(results, ways)
    settings = {way: WAYS[way].settings for way in ways}
    finish(
        {
            "question": "finetuning",
            "halves": config.halves,
            "machine": describe_machine(),
            "ways": settings,
            "results": results,
        },
        config.output,
    )


def _take_over(file: Path, config: FinetuningConfig) -> None:
    """Write an earlier document's results where this program looks for them, but for those that lie there."""
    document = json.loads(file.read_text())
    if document.get("halves", False) != config.halves:
        made = "without" if config.halves else "with"
        raise SystemExit(f"error: --known {file}: its results were made {made} --halves")
    for way, settings in document["ways"].items():
        if way not in WAYS or WAYS[way].settings != settings:
            raise SystemExit(f"error: --known {file}: its {way!r} is of other settings than ours: {settings}")
    for result in document["results"]:
        folder = folder_of(config.work, result["data"], result["way"], halves=config.halves)
        seed = result["seed"]
        folder.mkdir(parents=True, exist_ok=True)
        int8 = result.pop("int8", None)
        for name, found in ((f"{seed}.json", {"machine": document["machine"], **result}), (f"{seed}-int8.json", int8)):
            if found is not None and not (folder / name).is_file():
                (folder / name).write_text(json.dumps(found) + "\n")


def folder_of(work: Path, name: str, way: str, *, halves: bool = False) -> Path:
    """Give the folder of a way's runs, SEED, and what they reached, SEED.json."""
    return rows_of(work, name, halves=halves).with_name(way.replace(" ", "-"))


def rows_of(work: Path, name: str, *, halves: bool = False) -> Path:
    """Give the folder of a data set's files."""
    return work / (f"{name}-halves" if halves else name) / "rows"


def result_of(config: FinetuningConfig, name: str, way: str, seed: int) -> dict[str, Any] | None:
    """Give what a run reached, from its file or by training it; None where it is not to be trained."""
    folder = folder_of(config.work, name, way, halves=config.halves)
    rows = rows_of(config.work, name, halves=config.halves)
    file = folder / f"{seed}.json"
    if not file.is_file():
        if not config.train:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        files = write_splits(RECIPES[name], config.data, rows, halves=config.halves)
        # A subset is of the published test rows.
        job = Job(name, files, folder / str(seed), seed, None if config.halves else RECIPES[name].subset)
        start = time.perf_counter()
        WAYS[way].train(job)
        seconds = time.perf_counter() - start
        found = _measure(WAYS[way].open(job), job)
        told = {"data": name, "way": way, "seed": seed, "machine": describe_machine(), "seconds": seconds, **found}
        file.write_text(json.dumps(told) + "\n")
    result = dict(json.loads(file.read_text()))
    if config.int8 and WAYS[way].open is _open_ours:
        measured = folder / f"{seed}-int8.json"
        if config.train and not measured.is_file():
            found = _measure_int8(folder / str(seed), folder / f"{seed}-bundle", rows / "test.jsonl")
            measured.write_text(json.dumps(found) + "\n")
        if measured.is_file():
            result["int8"] = json.loads(measured.read_text())
    return result


def _measure_int8(run: Path, bundle: Path, test: Path) -> dict[str, Any]:
    """Export a run, and compare what int8 answers to the test rows with PyTorch's answers in fp32."""
    run_module("export", str(run), f"--output={bundle}", "--overwrite", "--variants", "fp32", *INT8)
    compared = compare_variants(bundle, answer_rows(open_run(run), test), INT8)
    return {
        "figures": {variant: found._asdict() for variant, found in compared.items()},
        "in_fp32": {variant: len(path["trials"][-1]["exact"]) for variant, path in restored_weights(bundle).items()},
    }


def _measure(checkpoint: Checkpoint, job: Job) -> dict[str, Any]:
    """Measure the evaluation and the test rows, and a subset of these, as the logits are and as calibrated."""
    found: dict[str, Any] = {"metric": checkpoint.objective.best_metric}
    for split in ("eval", "test"):
        rows = answer_rows(checkpoint, job.files[split])
        found[split] = _measure_rows(checkpoint, rows, range(len(rows.records)))
        if split == "test" and job.subset:
            held = [index for index, record in enumerate(rows.records) if job.subset.holds(record.text)]
            found[f"test, {job.subset.name}"] = _measure_rows(checkpoint, rows, held)
    return found


def _measure_rows(checkpoint: Checkpoint, rows: Rows, chosen: Sequence[int]) -> dict[str, Any]:
    """Measure some rows."""
    objective, labels = checkpoint.objective, checkpoint.labels
    forms = {"raw": rows.expected, "shipped": checkpoint.centred(rows.expected)}
    return {"rows": len(chosen)} | {
        form: measure_some(chosen, logits, rows.records, rows.encoded.tokens, objective=objective, labels=labels).values
        for form, logits in forms.items()
    }


def _print_table(results: list[dict[str, Any]], ways: tuple[str, ...]) -> None:
    print(
        f"{'data':16}{'metric':12}{'way':24}{'seeds':>6}{'eval':>18}{'less the first':>28}{'test':>18}{'less the first':>28}{'minutes':>9}"
    )
    for name in dict.fromkeys(result["data"] for result in results):
        _print_split(name, "test", results, ways)
        if subset := RECIPES[name].subset:
            _print_split(name, f"test, {subset.name}", results, ways)


def _print_split(name: str, split: str, results: list[dict[str, Any]], ways: tuple[str, ...]) -> None:
    """Print what ways reach on the test rows, or some of them, beside what they reach on the evaluation rows."""
    title, reference = split.replace("test", name), dict[int, dict[str, Any]]()
    for way in ways:
        runs = {r["seed"]: r for r in results if r["data"] == name and r["way"] == way and split in r}
        if not runs:
            continue
        reference = reference or runs
        metric = next(iter(runs.values()))["metric"]
        evals, tests = ([run[part]["shipped"][metric] for run in runs.values()] for part in ("eval", split))
        minutes = mean(run["seconds"] for run in runs.values()) / 60
        print(
            f"{title:16}{metric:12}{way:24}{len(runs):>6}"
            f"{spread(evals):>18}{_difference(reference, runs, metric, 'eval'):>28}"
            f"{spread(tests):>18}{_difference(reference, runs, metric, split):>28}{minutes:>9.1f}"
        )


def _print_int8(results: list[dict[str, Any]], ways: tuple[str, ...]) -> None:
    """Print what int8 reaches on the test rows, and how far it is from the same run in fp32 and from the first way in fp32."""
    print(f"\n{'data':12}{'way':24}{'variant':14}{'fp32':>18}{'int8':>18}{'less fp32':>28}{'changed':>9}{'in fp32':>9}")
    for name in dict.fromkeys(result["data"] for result in results):
        for way in ways:
            runs = [run for run in results if run["data"] == name and run["way"] == way and "int8" in run]
            for variant in INT8 if runs else ():
                figures = [run["int8"]["figures"][variant] for run in runs]
                fp32 = [run["test"]["shipped"][run["metric"]] for run in runs]
                int8 = [found["metrics"][run["metric"]] for run, found in zip(runs, figures, strict=True)]
                changes = [after - before for after, before in zip(int8, fp32, strict=True)]
                changed = mean(1 - found["agreement"] for found in figures)
                exact = mean(run["int8"]["in_fp32"].get(variant, 0) for run in runs)
                print(
                    f"{name:12}{way:24}{variant:14}{spread(fp32):>18}{spread(int8):>18}{_mean_interval(changes):>28}{changed:>9.2%}{exact:>9.1f}"
                )


def _difference(reference: dict[int, dict[str, Any]], runs: dict[int, dict[str, Any]], metric: str, split: str) -> str:
    """Compare two ways on the rows of a split, seed by seed."""
    shared = sorted(reference.keys() & runs.keys())
    if runs is reference or not shared:
        return "–"
    differences = [runs[s][split]["shipped"][metric] - reference[s][split]["shipped"][metric] for s in shared]
    return _mean_interval(differences)


def _mean_interval(differences: list[float]) -> str:
    if len(differences) == 1:
        return f"{differences[0]:+.4f}"
    interval = student(differences)
    return f"{mean(differences):+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"


if __name__ == "__main__":
    main()
