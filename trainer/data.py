"""The rows of a run, read and checked as a whole before any model is loaded."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from runtime.errors import InputError
from runtime.problems import DataError, Problem
from runtime.records import Record
from runtime.tables import Row
from runtime.tasks import TASKS

from .config import TrainConfig
from .doctor.finding import Finding
from .doctor.rules import Examination, examine
from .doctor.splits import Dataset, Split
from .objectives import OBJECTIVES
from .slices import note_column, slices_of
from .sources import Rows, is_demo, read_source, split_sources


class Evaluation(NamedTuple):
    """Where the evaluation rows came from; the checkpoint keeps this and never the rows.

    Attributes:
        source: as `--eval` takes it, a file as an absolute path.
        sha256: digest of the file.
        split: "eval", or "holdout": the rows held out of the training rows.
        num_rows: how many there are.
    """

    source: str
    sha256: str
    split: str
    num_rows: int


class Data(NamedTuple):
    """Everything that a run learns from and is measured on.

    Attributes:
        train: rows to train on.
        eval: rows that choose the best weights.
        test: rows for the last report.
        labels: the label of each logit.
        evaluation: where the evaluation rows came from.
        digests: SHA-256 of each source, by flag.
        notes: lines for people.
        findings: what the doctor's quick rules found.
        slices: of each evaluation row, what --slice-column says; empty where it is not set.
    """

    train: list[Record]
    eval: list[Record]
    test: list[Record]
    labels: tuple[str, ...]
    evaluation: Evaluation | None
    digests: dict[str, str]
    notes: list[str]
    findings: list[Finding]
    slices: list[str]


def load_data(config: TrainConfig) -> Data:
    """Read all rows of a run.

    Raises:
        DataError: every problem of every file.
        InputError: a source that cannot be had, rows that do not fit the task, or with --strict what rows are warned of.
    """
    rows, problems, noted = {}, list[Problem](), dict[int, str]()
    sources = split_sources(config.train, config.eval, config.test)
    for split, source in sources.items():
        evaluates = split == ("eval" if "eval" in sources else "train")
        try:
            rows[split] = _read(config, source, split, noted=noted if evaluates else None)
        except DataError as exc:
            problems += exc.problems
    if problems:
        raise DataError(problems)
    train, held_out, evaluation = rows["train"].records, rows["eval"].records if "eval" in rows else [], None
    if "eval" in rows:
        evaluation = Evaluation(rows["eval"].source, rows["eval"].sha256, "eval", len(held_out))
    elif config.eval_fraction:
        train, held_out = hold_out(train, fraction=config.eval_fraction, seed=config.split_seed)
        evaluation = Evaluation(rows["train"].source, rows["train"].sha256, "holdout", len(held_out))
    test = rows["test"].records if "test" in rows else []
    objective = OBJECTIVES[config.task]
    labels = objective.find_labels(rows["train"].records, config.labels)
    known = objective.known(labels)
    problems = [
        Problem(
            rows[split].source,
            record.line,
            f"label {label!r} is not among the labels {_listed(labels)}. Correct it, or name all with --labels",
        )
        for split in rows
        for record in rows[split].records
        for label in objective.labels_of(record)
        if label not in known
    ]
    if problems:
        raise DataError(problems)
    if not train or (evaluation is not None and not held_out):
        raise InputError(
            f"{config.train} has too few rows: {len(train)} to train on, {len(held_out)} to evaluate on. Give more rows, or --eval."
        )
    digests = {split: source.sha256 for split, source in rows.items()}
    records = {"train": train, "eval": held_out, "test": test}
    examination = _examine(config, records)
    notes = [*_notes(config, records), *_warnings(examination, strict=config.strict)]
    slices = slices_of(held_out, noted, config.slice_column) if config.slice_column else []
    return Data(train, held_out, test, labels, evaluation, digests, notes, examination.findings, slices)


def read_evaluation(config: TrainConfig, evaluation: Evaluation) -> list[Record]:
    """Read the evaluation rows of a finished run again.

    Raises:
        InputError: the file is gone or was changed since.
    """
    split = "train" if evaluation.split == "holdout" else "eval"
    again = _read(config, evaluation.source, split)
    if again.sha256 != evaluation.sha256:
        raise InputError(
            f"{evaluation.source} was changed since the model was trained (SHA-256 {again.sha256[:12]}…, was {evaluation.sha256[:12]}…). "
            "Bring it back, or name other labelled rows with --eval."
        )
    if evaluation.split == "holdout":
        return hold_out(again.records, fraction=config.eval_fraction, seed=config.split_seed)[1]
    return again.records


def read_labelled(config: TrainConfig, source: str, labels: tuple[str, ...]) -> list[Record]:
    """Read other labelled rows laid out as a run's were.

    Raises:
        DataError: a label the model does not know.
    """
    objective = OBJECTIVES[config.task]
    known = objective.known(labels)
    rows = _read(config, source, "eval")
    problems = [
        Problem(rows.source, record.line, f"label {label!r} is not among the model's labels {_listed(labels)}")
        for record in rows.records
        for label in objective.labels_of(record)
        if label not in known
    ]
    if problems:
        raise DataError(problems)
    return rows.records


def hold_out(records: list[Record], *, fraction: float, seed: int) -> tuple[list[Record], list[Record]]:
    """Split rows into (train, held out). Each label keeps its share; rows with the same text stay together."""
    by_label: dict[str | None, list[str]] = defaultdict(list)
    for text, record in {record.text: record for record in records}.items():
        by_label[record.label].append(text)
    generator, chosen = np.random.default_rng(seed), set[str]()
    for texts in by_label.values():
        count = round(fraction * len(texts))
        chosen.update(texts[index] for index in generator.permutation(len(texts))[:count])
    return [r for r in records if r.text not in chosen], [r for r in records if r.text in chosen]


def _read(config: TrainConfig, source: str, split: str, *, noted: dict[int, str] | None = None) -> Rows:
    """Read a source; `noted` gets what --slice-column says, by line."""
    through: Callable[[Iterator[Row]], Iterator[Row]] = iter
    if config.slice_column is not None and noted is not None:
        through = note_column(config.slice_column, noted, source=source)
    return read_source(
        source,
        split=split,
        target=TASKS[config.task].target,
        columns=config.row_columns,
        layout=config.layout,
        through=through,
    )


def _notes(config: TrainConfig, records: Mapping[str, list[Record]]) -> list[str]:
    train, held_out, test = (len(records[split]) for split in ("train", "eval", "test"))
    notes = [f"{train:,} rows to train on, {held_out:,} to evaluate on, {test:,} to test on"]
    if config.eval is None and not is_demo(config.train):
        share = f"{config.eval_fraction:.0%} of {config.train} held out"
        notes.append(
            f"no --eval given: {share}"
            if config.eval_fraction
            else "no --eval and --eval-fraction 0: the last weights are kept, unmeasured"
        )
    return notes


def _examine(config: TrainConfig, records: Mapping[str, list[Record]]) -> Examination:
    """Let the doctor's quick rules look at the rows."""
    sources = {"train": config.train, "eval": config.eval or config.train, "test": config.test or config.train}
    splits = tuple(
        Split(name=name, source=sources[name], records=rows)
        for name, rows in records.items()
        if rows or name == "train"
    )
    return examine(Dataset(splits=splits, target=TASKS[config.task].target, labels=config.labels), quick=True)


def _warnings(examination: Examination, *, strict: bool) -> list[str]:
    """Give a line a warning, and one that says where to read more.

    Raises:
        InputError: there are warnings, and they are to be heeded.
    """
    lines = [str(finding) for finding in examination.findings if finding.severity == "warning"]
    if lines and strict:
        told = "\n  ".join(lines)
        raise InputError(
            f"--strict, and the rows give warnings:\n  {told}\nSee: python -m trainer check, with the same flags"
        )
    more = ["what to do about it: python -m trainer check, with the same flags about rows"] if lines else []
    return [*lines, *more, *examination.skipped]


def _listed(labels: tuple[str, ...]) -> str:
    shown = ", ".join(map(repr, labels[:12]))
    return shown if len(labels) <= 12 else f"{shown} … ({len(labels)})"
