"""The report's section on calibration: how sure and how right, what is withheld, from which probability each label counts."""

from collections.abc import Sequence

import numpy as np

from runtime.tasks import sigmoid

from .calibration import CONFIDENCE, Calibration, precision_by_coverage
from .evaluate import Shipped
from .evidence import Evidence, diagram, scaled
from .page import Picture, image, section, table
from .plots.calibration import plot_coverage, plot_reliability

RELIABILITY_INCHES = 4.6
COVERAGE_INCHES = (8.1, 4.0)  # the column of the page, and a phone
ROWS = {"eval": "Evaluation", "test": "Test"}


def write_sections(shipped: Shipped, *, labels: Sequence[str]) -> list[str]:
    """Write the section as HTML; none where nothing was calibrated."""
    calibration, evidence = shipped.calibration, shipped.evidence
    if calibration is None or evidence is None:
        return []
    parts = [
        *(f'<p class="note"><strong>{_sentence(remark)}</strong></p>' for remark in calibration.remarks),
        f'<p class="note">{_lead(calibration)}</p>',
        _figures(calibration),
        _reliability(calibration, evidence),
        _coverage(calibration, evidence),
        _thresholds(calibration, evidence, labels),
    ]
    return [section("Calibration", "\n".join(part for part in parts if part))]


def _sentence(remark: str) -> str:
    return remark[0].upper() + remark[1:] + "."


def _lead(calibration: Calibration) -> str:
    learned = f"Learned on the {calibration.num_rows:,} evaluation rows, which also chose the weights, so its own figures on them flatter; the test rows' do not."
    if calibration.temperature == 1:
        return f"Probabilities are the model's own. {learned}"
    direction = "less" if calibration.temperature > 1 else "more"
    return f"Logits are divided by a temperature of {calibration.temperature:.3f}, which makes the model {direction} sure. {learned}"


def _figures(calibration: Calibration) -> str:
    head = ("Rows", "Calibration error", "after", "Mean −log p", "after")
    rows: list[tuple[str | float | int | None, ...]] = [
        (ROWS[split], *(f"{value:.4f}" for value in (before.ece, after.ece, before.nll, after.nll)))
        for split, (before, after, _) in calibration.worth.items()
    ]
    return table(head, rows, name="Calibration before and after")


def _reliability(calibration: Calibration, evidence: Evidence) -> str:
    temperatures = [1.0] if calibration.temperature == 1 else [1.0, calibration.temperature]
    curves = [[point[:2] for point in diagram(*evidence.outcomes(t))] for t in temperatures]
    if not all(curves):
        return ""
    picture = plot_reliability(curves[0], curves[1] if len(curves) > 1 else None, width_inches=RELIABILITY_INCHES)
    alt = "How often decisions are right against how sure they are; on the dashed line both are the same."
    note = "Of the evaluation rows, by probability. Below the dashed line the model is surer than it is right."
    return f'<h3>How sure, and how right</h3><p class="note">{note}</p>{image(picture, alt)}'


def _coverage(calibration: Calibration, evidence: Evidence) -> str:
    if calibration.abstain_precision is None:
        return ""
    curve = precision_by_coverage(*evidence.outcomes(calibration.temperature))
    answered, wanted = calibration.worth["eval"].answered, calibration.abstain_precision
    chosen = (answered.coverage, answered.precision) if answered else None

    def draw(width: float) -> Picture:
        return plot_coverage(*curve, wanted=wanted, chosen=chosen, width_inches=width)

    wide, narrow = map(draw, COVERAGE_INCHES)
    alt = f"The share of right answers against the share of rows that is answered; {wanted:.1%} was wanted."
    head = ("Rows", "Answered", "Right of these")
    rows: list[tuple[str | float | int | None, ...]] = [
        (ROWS[split], f"{part.answered:,} of {part.num_rows:,}", part.precision)
        for split, (_, _, part) in calibration.worth.items()
        if part is not None
    ]
    told = table(head, rows, name="Answers given") if rows else ""
    level = "No level reaches it; nothing is withheld." if answered is None else _level(calibration)
    return f'<h3>Abstaining</h3><p class="note">{wanted:.1%} of the answers shall be right. {level}</p>{told}{image(wide, alt, narrow=narrow)}'


def _level(calibration: Calibration) -> str:
    return (
        f"Answers with a probability below {calibration.abstain_below:.4f} are marked as abstained. "
        f"It is the lowest level that can be trusted to keep to that, with {CONFIDENCE:.0%} confidence."
    )


def _thresholds(calibration: Calibration, evidence: Evidence, labels: Sequence[str]) -> str:
    if calibration.thresholds is None:
        return ""
    probabilities, truth = sigmoid(scaled(evidence.logits, calibration.temperature)), evidence.truth.astype(bool)
    before = _f1(sigmoid(evidence.logits) >= 0.5, truth)
    after = _f1(probabilities >= np.array(calibration.thresholds, dtype=np.float32), truth)
    support = truth.sum(axis=0).tolist()
    rows = [
        (label, threshold, *((half, own) if number else (None, None)), number)
        for label, threshold, half, own, number in zip(
            labels, calibration.thresholds, before, after, support, strict=True
        )
    ]
    shown = table(("Label", "Counts from", "F1 at .5", "F1", "Support"), rows, name="Thresholds")
    note = (
        "Of the evaluation rows. A label with few rows is drawn to the threshold that is best for all labels together."
    )
    return f'<h3>From which probability a label counts</h3><p class="note">{note}</p>{shown}'


def _f1(found: np.ndarray, truth: np.ndarray) -> list[float]:
    scores = 2 * (found & truth).sum(axis=0) / np.maximum(1, found.sum(axis=0) + truth.sum(axis=0))
    return [float(score) for score in scores]
