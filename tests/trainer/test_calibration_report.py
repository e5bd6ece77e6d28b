"""What was learned about how sure a model may be stands in its report and its card."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trainer.calibration import learn
from trainer.calibration_report import write_sections
from trainer.evaluate import Shipped
from trainer.evidence import SIGMOID, SOFTMAX, Evidence, Likelihood

from .reports import LABELS, RECORD, Elements, words, write


def shipped_with(logits: Any, truth: Any, likelihood: Likelihood, *, precision: float | None = None) -> Shipped:
    evidence = Evidence(np.asarray(logits, dtype=np.float32), truth, len(truth), likelihood)
    learned = learn(evidence, abstain_precision=precision)
    learned = learned._replace(worth={**learned.worth, "test": learned.assess(evidence)})
    return Shipped(None, None, learned, evidence)


def overconfident(*, precision: float | None = None) -> Shipped:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(600, 3)) * 2
    truth = (logits + generator.gumbel(size=logits.shape)).argmax(axis=1)
    return shipped_with(logits * 3, truth, SOFTMAX, precision=precision)


def tagged() -> Shipped:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(600, 3)) - [0, 1, 9]
    truth = (generator.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    return shipped_with(logits, truth, SIGMOID)


def test_the_section_on_calibration_has_the_figures_and_pictures_in_both_schemes(tmp_path: Path) -> None:
    shipped = overconfident(precision=0.8)
    learned = shipped.calibration
    assert learned is not None
    answered = learned.worth["eval"].answered
    assert answered is not None
    page = write(tmp_path, sections=write_sections(shipped, labels=LABELS))
    text = words(page)
    worth = learned.worth["eval"]
    assert f"divided by a temperature of {learned.temperature:.3f}, which makes the model less sure" in text
    figures = (worth.before.ece, worth.after.ece, worth.before.nll, worth.after.nll)
    assert "Evaluation " + " ".join(f"{value:.4f}" for value in figures) in text
    assert f"Evaluation {answered.answered} of 600 {answered.precision:.3f}" in text
    assert f"Answers with a probability below {learned.abstain_below:.4f} are marked as abstained" in text
    assert "From which probability" not in text
    elements = Elements(page)
    assert elements.open == []
    alts = [attributes["alt"] or "" for tag, attributes in elements.found if tag == "img"]
    assert [alt.partition(" against ")[0] for alt in alts[-2:]] == ["How often decisions are right", "The share of right answers"]  # fmt: skip
    dark = [attributes for tag, attributes in elements.found if tag == "source" and "dark" in str(attributes["media"])]
    assert len(dark) >= 3


def test_thresholds_stand_beside_their_labels(tmp_path: Path) -> None:
    shipped = tagged()
    assert shipped.calibration is not None
    thresholds = shipped.calibration.thresholds
    assert thresholds is not None
    text = words("".join(write_sections(shipped, labels=("a & b", "refund", "never"))))
    assert f"a &amp; b {thresholds[0]:.3f}" in text
    assert f"never {thresholds[2]:.3f} – – 0" in text, "a label no row has"


def test_what_could_not_be_learned_stands_first(tmp_path: Path) -> None:
    few = shipped_with(np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 1]), SOFTMAX, precision=0.9)
    text = words("".join(write_sections(few, labels=LABELS)))
    assert text.startswith(
        "Calibration Probabilities are left as they are: 100 evaluation rows are needed, there are 4."
    )
    assert "--abstain-precision 0.9 is not reached" in text
    assert "No level reaches it; nothing is withheld." in text
    assert write_sections(Shipped(None, None, None, None), labels=LABELS) == []


def test_the_card_says_what_others_must_do_to_reach_its_figures(tmp_path: Path) -> None:
    learned = overconfident(precision=0.8).calibration
    write(tmp_path, record=replace(RECORD, calibration=learned))
    assert learned is not None
    card = (tmp_path / "README.md").read_text()
    assert f"Logits are divided by {learned.temperature:.4g} before they become probabilities." in card
    assert f"Answers with a probability below {learned.abstain_below:.4g} are too unsure to be used." in card
    labels = tagged().calibration
    assert labels is not None
    assert labels.thresholds is not None
    write(tmp_path, record=replace(RECORD, calibration=labels))
    assert (
        f"From which probability a label counts: `cancel` {labels.thresholds[0]:.3f}, `refund`"
        in (tmp_path / "README.md").read_text()
    )
    write(tmp_path)
    assert "Calibration" not in (tmp_path / "README.md").read_text()
