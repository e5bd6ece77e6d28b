"""How sure a loaded model is: scores by temperature and thresholds, and answers that abstain."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime.errors import InputError
from runtime.tasks import sigmoid, softmax
from runtime.testing import LABELS, FakeEngine, tiny_bundle

from .classifiers import change, engine_for, fake

# Calibration


def test_the_manifests_temperature_scales_scores_and_leaves_labels_and_the_pipeline(tmp_path: Path) -> None:
    warm, plain = fake(tmp_path / "warm", temperature=4.0), fake(tmp_path / "plain")
    for text in ("my parcel never came", "thanks", "cancel it"):
        ours, raw = warm.predict(text), plain.predict(text)
        assert ours.label == raw.label
        assert ours.score == pytest.approx(softmax(raw.logits / 4).max())
        assert ours.probabilities() != raw.probabilities()
        for options in ({}, {"top_k": None}, {"function_to_apply": "sigmoid"}):
            assert ours.to_pipeline(**options) == raw.to_pipeline(**options)


def test_each_label_counts_from_its_own_threshold(tmp_path: Path) -> None:
    plain = fake(tmp_path / "plain", task="multi-label").predict("my parcel")
    scores = sigmoid(plain.logits)
    best_first = [LABELS["multi-label"][index] for index in np.argsort(-scores)]
    for number, chosen in itertools.product((0, 1), repeat=2):
        thresholds = [float(score) if take else 1.0 for score, take in zip(scores, (number, chosen, 1), strict=True)]
        ours = fake(tmp_path / f"{number}{chosen}", task="multi-label", thresholds=thresholds).predict("my parcel")
        taken = dict(zip(LABELS["multi-label"], (number, chosen, 1), strict=True))
        assert ours.labels == tuple(label for label in best_first if taken[label])
        assert ours.scores == tuple(
            sorted((float(s) for s, t in zip(scores, taken.values(), strict=True) if t), reverse=True)
        )
        assert ours.to_pipeline(top_k=None) == plain.to_pipeline(top_k=None)
    nothing = fake(tmp_path / "none", task="multi-label", thresholds=[1.0] * 3).predict("my parcel")
    assert (nothing.labels, nothing.scores) == ((), ())


@pytest.mark.parametrize("num_labels", [2, 3, 9, 150])
@pytest.mark.parametrize("task", ["single-label", "multi-label"])
def test_scores_are_the_same_to_the_bit_alone_and_beside_others(tmp_path: Path, task: str, num_labels: int) -> None:
    labels = tuple(f"label {index}" for index in range(num_labels))
    classifier = runtime.load(
        tiny_bundle(tmp_path / "b", task=task, labels=labels), engine=FakeEngine(num_labels=num_labels)
    )
    texts = [" ".join(words) for words in itertools.permutations(["my", "parcel", "never", "came", "late"], 4)]
    assert [classifier.predict(text) for text in texts] == classifier.predict(texts)


def test_a_temperature_reaches_entities_too(tmp_path: Path) -> None:
    warm = fake(tmp_path / "warm", task="token", temperature=9.0).predict("my parcels never came")
    plain = fake(tmp_path / "plain", task="token").predict("my parcels never came")
    assert plain.entities
    assert [e[:4] for e in warm.entities or ()] == [e[:4] for e in plain.entities]
    assert all(a.score < b.score for a, b in zip(warm.entities or (), plain.entities, strict=True))
    assert warm.to_pipeline() == plain.to_pipeline()


def test_raw_probabilities_are_those_without_calibration(tmp_path: Path) -> None:
    for task in ("single-label", "multi-label"):
        warm, plain = fake(tmp_path / f"warm {task}", task=task, temperature=3.0), fake(tmp_path / task, task=task)
        ours, raw = warm.predict("my parcel"), plain.predict("my parcel")
        assert (ours.calibrated, raw.calibrated) == (True, False)
        assert ours.probabilities(raw=True) == raw.probabilities() == raw.probabilities(raw=True)
        assert ours.probabilities() != raw.probabilities()


# Abstaining

TEXTS = [" ".join(words) for words in itertools.permutations(["my", "parcel", "never", "came"], 3)]


def test_answers_below_the_level_abstain_and_keep_label_and_score(tmp_path: Path) -> None:
    plain = fake(tmp_path / "plain", temperature=2.0).predict(TEXTS)
    level = sorted(prediction.score or 0 for prediction in plain)[len(plain) // 2]  # one is exactly as sure
    sure = fake(tmp_path / "sure", temperature=2.0, format=2, abstain_below=level)
    found = sure.predict(TEXTS)
    assert [p.abstained for p in found] == [(p.score or 0) < level for p in plain]
    assert {p.abstained for p in found} == {True, False}
    assert [(p.label, p.score) for p in found] == [(p.label, p.score) for p in plain]
    assert [sure.predict(text) for text in TEXTS] == found
    assert found[0].to_pipeline() == plain[0].to_pipeline()


@pytest.mark.parametrize("task", LABELS)
def test_without_a_level_nobody_is_asked_whether_to_abstain(tmp_path: Path, task: str) -> None:
    assert fake(tmp_path / "bundle", task=task).predict("my parcel").abstained is None


def test_the_level_given_when_loading_comes_before_the_bundles(tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path / "bundle")
    change(folder, format=2, abstain_below=1.0)

    def abstained(level: float | None) -> bool | None:
        return runtime.load(folder, engine=engine_for("single-label"), abstain_below=level).predict("late").abstained

    assert [abstained(level) for level in (None, 1, 0.5, 0)] == [True, True, False, None]
    change(folder, format=1)
    fields = json.loads((folder / "bundle.json").read_text())
    del fields["abstain_below"]
    (folder / "bundle.json").write_text(json.dumps(fields))
    assert [abstained(level) for level in (None, 1, 0.5, 0)] == [None, True, False, None]


@pytest.mark.parametrize("level", [-0.1, 1.1, float("nan")])
def test_a_level_that_is_no_probability_is_refused(tmp_path: Path, level: float) -> None:
    folder = tiny_bundle(tmp_path / "bundle")
    with pytest.raises(InputError, match=rf"abstain_below must be a probability from 0 to 1\. Got {level} instead"):
        runtime.load(folder, engine=engine_for("single-label"), abstain_below=level)


@pytest.mark.parametrize("task", ["multi-label", "regression", "token"])
def test_a_level_for_a_task_that_cannot_abstain_is_refused(tmp_path: Path, task: str) -> None:
    with pytest.raises(InputError, match=rf"answers with one label; this bundle's task is {task}\. Leave it out"):
        runtime.load(tiny_bundle(tmp_path / "bundle", task=task), engine=engine_for(task), abstain_below=0.5)
