"""Calibration from end to end: what training learned is what run.json, the bundle and every answer have."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import stats

import runtime
from export.__main__ import main as export
from export.parity import RowFigures, compare_rows
from export.reference import Reference
from runtime.encode import Encoded
from runtime.records import Record
from runtime.tasks import sigmoid, softmax
from trainer.calibration import LEAST_ROWS, Calibration
from trainer.checkpoint import Checkpoint, open_run, read_record

Make = Callable[[str, str], Path]
SHAPES = ("single-label", "multi-label", "regression", "token", "pair")
pytestmark = pytest.mark.filterwarnings("ignore:texts longer than:UserWarning")
LENIENT = ("--max-change=1", "--max-metric-drop=1", "--variants", "fp32", "int8")  # random weights decide by a hair


class Rows(NamedTuple):
    """A run, and its evaluation rows."""

    checkpoint: Checkpoint
    records: list[Record]
    encoded: Encoded

    def compare(self, expected: Any, actual: Any, **changes: Any) -> RowFigures:
        """Compare two sets of logits as an export with another calibration would."""
        learned = Calibration(1.0, None, None, None, len(self.records), {}, ())._replace(**changes)
        return compare_rows(
            list(expected),
            list(actual),
            checkpoint=replace(self.checkpoint, calibration=learned),
            records=self.records,
            encoded=self.encoded,
        )


@pytest.fixture
def rows_of(make_run: Make) -> Callable[[str], Rows]:
    """Give a function that opens a tiny run and reads its evaluation rows: (key of SHAPES) → Rows."""

    def read(shape: str) -> Rows:
        checkpoint = open_run(make_run("bert", shape))
        records = checkpoint.evaluation_records(None)
        assert records is not None
        return Rows(checkpoint, records, checkpoint.encoder().encode([record.model_input for record in records]))

    return read


def reachable_precision(rows: Rows) -> float:
    """Give a precision that a run can be sure of, be it on few answers."""
    logits = np.stack(Reference.load(rows.checkpoint).logits(rows.encoded))
    labels = np.array([rows.checkpoint.labels.index(record.label or "") for record in rows.records])
    assert rows.checkpoint.calibration is not None
    scores = softmax(logits / np.float32(rows.checkpoint.calibration.temperature)).max(axis=1)
    hits = np.cumsum((logits.argmax(axis=1) == labels)[np.argsort(-scores, kind="stable")])
    number = np.arange(1, len(hits) + 1)
    return float(0.99 * np.nanmax(stats.beta.ppf(0.1, hits, number - hits + 1)))


def manifest_of(bundle: Path) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    return fields


# From the trainer to an answer


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_a_run_and_its_bundle_hold_the_same_numbers(shape: str, make_run: Make, make_bundle: Make) -> None:
    learned, manifest = read_record(make_run("bert", shape)).calibration, manifest_of(make_bundle("bert", shape))
    assert (learned is None) == (shape == "regression")
    assert manifest["format"] == 1
    if learned is None:
        assert (manifest["temperature"], manifest["thresholds"]) == (1.0, None)
        return
    assert manifest["temperature"] == learned.temperature
    assert manifest["thresholds"] == (list(learned.thresholds) if learned.thresholds else None)
    assert set(learned.worth) == {"eval", "test"}
    assert learned.worth["eval"].after.nll <= learned.worth["eval"].before.nll
    if shape == "pair":  # 24 rows
        assert learned.num_rows < LEAST_ROWS
        assert learned.temperature == 1
        assert len(learned.remarks) == 1
    else:
        assert learned.num_rows >= LEAST_ROWS
        assert learned.temperature != 1
        assert all("the temperature met its bound" in remark for remark in learned.remarks), "random weights may"


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_answers_are_calibrated_and_raw_ones_can_be_had(
    variant: str, rows_of: Callable[[str], Rows], make_bundle: Make
) -> None:
    found = rows_of("single-label")
    classifier = runtime.load(make_bundle("bert", "single-label"), engine="ort-cpu", variant=variant)
    temperature = np.float32(classifier.manifest.temperature)
    for prediction in classifier.predict([record.text for record in found.records[:20]]):
        assert prediction.calibrated
        assert prediction.score == softmax(prediction.logits / temperature).max()
        assert max(prediction.probabilities(raw=True).values()) == softmax(prediction.logits).max()
        assert prediction.to_pipeline()["score"] == softmax(prediction.logits).max()  # type: ignore[call-overload]


@pytest.mark.slow
def test_the_labels_that_are_given_are_those_that_the_runs_figures_are_of(
    rows_of: Callable[[str], Rows], make_bundle: Make
) -> None:
    """Micro-F1 of run.json, counted again on the answers of the bundle."""
    found = rows_of("multi-label")
    classifier = runtime.load(make_bundle("bert", "multi-label"), engine="ort-cpu", variant="fp32")
    answers = classifier.predict([record.text for record in found.records])
    given = {(row, label) for row, answer in enumerate(answers) for label in answer.labels or ()}
    wanted = {(row, label) for row, record in enumerate(found.records) for label in record.labels or ()}
    record = read_record(found.checkpoint.folder)
    assert record.eval is not None
    assert 2 * len(given & wanted) / (len(given) + len(wanted)) == pytest.approx(record.eval["micro_f1"], abs=1e-3)
    report = json.loads((make_bundle("bert", "multi-label") / "report.json").read_text())
    assert report["lines"][0]["rows"]["metrics"]["micro_f1"] == pytest.approx(record.eval["micro_f1"], abs=1e-3)


# At export


@pytest.mark.slow
def test_a_level_is_learned_at_export_and_answers_abstain_by_it(
    rows_of: Callable[[str], Rows], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, bundle = rows_of("single-label").checkpoint.folder, tmp_path / "bundle"
    records = rows_of("single-label").records
    wanted = reachable_precision(rows_of("single-label"))
    flags = [str(run), f"--output={bundle}", "--calibrate", f"--abstain-precision={wanted}", *LENIENT]
    assert export(flags) == 0
    told, manifest = capsys.readouterr().err, manifest_of(bundle)
    assert manifest["format"] == 2
    assert f"abstains below {manifest['abstain_below']:.4f}" in told
    assert "fp32 answers " in told
    lines = json.loads((bundle / "report.json").read_text())["lines"]
    assert [line["rows"]["abstaining"]["changed"] for line in lines][:2] == [0, 0], "PyTorch and fp32"
    assert "have `abstained=True`" in (bundle / "README.md").read_text()
    for variant in ("fp32", "int8"):
        answers = runtime.load(bundle, engine="ort-cpu", variant=variant).predict([record.text for record in records])
        assert [a.abstained for a in answers] == [(a.score or 0) < manifest["abstain_below"] for a in answers]
    kept = [answer for answer in answers if not answer.abstained]
    share = sum(a.label == r.label for a, r in zip(answers, records, strict=True) if not a.abstained) / len(kept)
    assert share >= wanted - 0.02, "of int8; the level was learned in fp32"
    # Another level is another int8 to verify; graph and PyTorch's answers are the same.
    assert export([*flags[:2], "--overwrite", *LENIENT]) == 0
    again = capsys.readouterr().err
    assert ("graph: as an earlier export" in again, "int8: as an earlier export" in again) == (True, False)
    assert manifest_of(bundle)["format"] == 1


@pytest.mark.slow
def test_a_checkpoint_of_another_program_is_calibrated_on_the_rows_it_is_verified_on(
    rows_of: Callable[[str], Rows], tmp_path: Path
) -> None:
    checkpoint, records, _ = rows_of("single-label")
    foreign = tmp_path / "foreign"
    shutil.copytree(checkpoint.folder, foreign, ignore=shutil.ignore_patterns("run.json", "train_config.json", ".*"))
    lines = [json.dumps({"text": record.text, "label": record.label}) + "\n" for record in records]
    (tmp_path / "rows.jsonl").write_text("".join(lines))
    flags = [str(foreign), "--task=single-label", f"--eval={tmp_path / 'rows.jsonl'}", *LENIENT]
    for name, more in (("plain", []), ("calibrated", ["--calibrate"])):
        assert export([*flags, f"--output={tmp_path / name}", *more]) == 0
    assert manifest_of(tmp_path / "plain")["temperature"] == 1
    assert checkpoint.calibration is not None
    learned = manifest_of(tmp_path / "calibrated")["temperature"]
    assert learned == pytest.approx(checkpoint.calibration.temperature, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "flags", "message"),
    [
        ("regression", ["--calibrate"], "--calibrate is for probabilities; a regression model has none. Leave it out"),
        ("token", ["--calibrate", "--abstain-precision=.9"], "a token model gives others. Leave it out"),
        ("single-label", ["--abstain-precision=.9"], "--abstain-precision needs --calibrate, which learns the level"),
        ("single-label", ["--calibrate", "--abstain-precision=1"], "must be above 0 and below 1. Got 1.0 instead"),
    ],
)
def test_what_cannot_be_learned_is_refused_and_nothing_written(
    shape: str, flags: list[str], message: str, make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export([str(make_run("bert", shape)), f"--output={tmp_path / 'b'}", *flags]) == 1
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_calibrating_without_rows_is_refused(
    make_encoder_folder: Callable[[str], Path], make_run: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [str(make_run("bert", "single-label")), "--task=single-label", f"--output={tmp_path / 'b'}"]
    assert export([*flags, "--calibrate"]) == 1
    assert "error: --calibrate needs labelled rows. Name them with --eval." in capsys.readouterr().err


# What counts as a changed decision


def test_a_label_changes_where_it_crosses_its_own_threshold(rows_of: Callable[[str], Rows]) -> None:
    found, generator = rows_of("multi-label"), np.random.default_rng(0)
    shape = (len(found.records), len(found.checkpoint.labels))
    expected = generator.normal(size=shape).astype(np.float32)
    actual = expected + generator.normal(size=shape).astype(np.float32) / 3
    thresholds = np.linspace(0.2, 0.9, shape[1])
    figures = found.compare(expected, actual, thresholds=tuple(thresholds.tolist()), temperature=1.7)
    counted = (sigmoid(expected / 1.7) >= thresholds) != (sigmoid(actual / 1.7) >= thresholds)
    assert figures.differing == counted.sum() != ((expected >= 0) != (actual >= 0)).sum()
    assert figures.expected_change == pytest.approx(counted.mean(), rel=0.15)
    plain = compare_rows(
        list(expected),
        list(actual),
        checkpoint=replace(found.checkpoint, calibration=None),
        records=found.records,
        encoded=found.encoded,
    )
    assert found.compare(expected, actual, thresholds=(0.5,) * shape[1]) == plain
    assert figures.max_difference == plain.max_difference, "logits are compared as the model gives them"


def test_abstaining_is_reported_beside_the_decisions_and_is_none(rows_of: Callable[[str], Rows]) -> None:
    found, generator = rows_of("single-label"), np.random.default_rng(0)
    shape = (len(found.records), len(found.checkpoint.labels))
    expected = 3 * generator.normal(size=shape).astype(np.float32)
    actual = expected + generator.normal(size=shape).astype(np.float32) / 4
    plain = found.compare(expected, actual)
    figures = found.compare(expected, actual, abstain_below=0.6, temperature=1.5)
    assert figures._replace(abstaining=None) == plain
    before, after = (softmax(logits / np.float32(1.5)).max(axis=1) >= 0.6 for logits in (expected, actual))
    labels = np.array([found.checkpoint.labels.index(record.label or "") for record in found.records])
    right = actual.argmax(axis=1) == labels
    assert figures.abstaining == {
        "coverage": pytest.approx(after.mean()),
        "precision": pytest.approx(right[after].mean()),
        "changed": pytest.approx((before != after).mean()),
    }
    assert 0 < figures.abstaining["changed"] < 0.5
