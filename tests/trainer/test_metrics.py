"""Metrics against scikit-learn, SciPy and sums done by hand."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score, average_precision_score, confusion_matrix, f1_score

from trainer import metrics
from trainer.metrics import LabelScore

LABELS = ("cat", "dog", "owl")


def one_hot(predicted: list[int], num_labels: int = 3) -> metrics.Array:
    return np.eye(num_labels, dtype=np.float32)[predicted]


def test_single_label_by_hand() -> None:
    truth, predicted = np.array([0, 0, 1, 1]), [0, 1, 1, 1]
    found = metrics.single_label(truth, one_hot(predicted, 2), ("cat", "dog"))
    # cat: precision 1/1, recall 1/2, F1 2/3; dog: 2/3, 2/2, 4/5
    assert found.values == pytest.approx({"accuracy": 0.75, "macro_f1": (2 / 3 + 4 / 5) / 2})
    assert found.by_label == [
        LabelScore("cat", 1.0, 0.5, pytest.approx(2 / 3), 2),
        LabelScore("dog", pytest.approx(2 / 3), 1.0, pytest.approx(0.8), 2),
    ]
    assert found.confusion is not None
    assert found.confusion.tolist() == [[1, 1], [0, 2]]


def test_single_label_is_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    truth, probabilities = generator.integers(0, 3, size=50), generator.random((50, 3)).astype(np.float32)
    predicted = probabilities.argmax(axis=-1)
    found = metrics.single_label(truth, probabilities, LABELS)
    assert found.values["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert found.values["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    np.testing.assert_array_equal(found.confusion, confusion_matrix(truth, predicted))


def test_a_label_that_never_occurs_does_not_drag_macro_f1_down_and_has_its_row() -> None:
    found = metrics.single_label(np.array([0, 1, 0]), one_hot([0, 1, 0]), LABELS)
    assert found.values == {"accuracy": 1.0, "macro_f1": 1.0}
    assert found.by_label[2] == LabelScore("owl", 0.0, 0.0, 0.0, 0)
    assert found.confusion is not None
    assert found.confusion.shape == (3, 3)


def test_multi_label_by_hand() -> None:
    truth = np.array([[1, 1, 0], [0, 1, 0], [1, 0, 0]], dtype=bool)
    probabilities = np.array([[0.9, 0.2, 0.1], [0.1, 0.8, 0.7], [0.6, 0.1, 0.1]], dtype=np.float32)
    found = metrics.multi_label(truth, probabilities, LABELS)
    # right 3, found 4, wanted 4; cat 1, dog 2·1/(1+2), owl 0; cat and dog are ranked without a fault
    assert found.values == pytest.approx({"micro_f1": 0.75, "macro_f1": (1 + 2 / 3 + 0) / 3, "map": 1.0})
    assert [score.support for score in found.by_label] == [2, 2, 0]
    assert found.confusion is None


def test_multi_label_is_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    truth, probabilities = generator.random((60, 4)) > 0.6, generator.random((60, 4)).astype(np.float32)
    found = metrics.multi_label(truth, probabilities, ("a", "b", "c", "d"))
    predicted = probabilities >= 0.5
    expected = {
        "micro_f1": f1_score(truth, predicted, average="micro"),
        "macro_f1": f1_score(truth, predicted, average="macro"),
        "map": average_precision_score(truth, probabilities),
    }
    assert found.values == pytest.approx(expected)


def test_multi_label_with_one_label_is_about_its_presence() -> None:
    """scikit-learn would take one column for two classes, and count the rows where the label is rightly absent."""
    truth = np.array([[1], [0], [0], [1], [0]], dtype=bool)
    probabilities = np.array([[0.9], [0.1], [0.2], [0.3], [0.1]], dtype=np.float32)
    found = metrics.multi_label(truth, probabilities, ("cat",))
    assert found.values == pytest.approx({"micro_f1": 2 / 3, "macro_f1": 2 / 3, "map": 1.0})
    assert found.by_label == [LabelScore("cat", 1.0, 0.5, pytest.approx(2 / 3), 2)]


def test_multi_label_without_any_label_is_0_and_no_crash() -> None:
    nothing = np.zeros((3, 2), dtype=bool)
    found = metrics.multi_label(nothing, np.zeros((3, 2), dtype=np.float32), ("a", "b"))
    assert found.values == {"micro_f1": 0.0, "macro_f1": 0.0, "map": 0.0}


def test_regression_by_hand_and_as_in_scipy() -> None:
    truth, predicted = np.array([0.0, 0.5, 1.0, 0.25]), np.array([0.1, 0.4, 0.6, 0.35], dtype=np.float32)
    found = metrics.regression(truth, predicted).values
    assert found["spearman"] == pytest.approx(1.0)
    assert found["pearson"] == pytest.approx(stats.pearsonr(truth, predicted).statistic)
    assert found["rmse"] == pytest.approx(((0.01 + 0.01 + 0.16 + 0.01) / 4) ** 0.5)


@pytest.mark.parametrize(
    ("truth", "predicted"),
    [([0.5, 0.5, 0.5], [0.1, 0.2, 0.3]), ([0.1, 0.2, 0.3], [0.5, 0.5, 0.5]), ([0.5], [0.25])],
    ids=["truth", "prediction", "one row"],
)
def test_a_constant_correlates_with_nothing(truth: list[float], predicted: list[float]) -> None:
    found = metrics.regression(np.array(truth), np.array(predicted, dtype=np.float32)).values
    assert (found["spearman"], found["pearson"]) == (0.0, 0.0)
    assert found["rmse"] > 0


def test_spans_by_hand() -> None:
    truth = [["B-place", "I-place", "O", "B-date"], ["O", "B-date"]]
    predicted = [["B-place", "O", "O", "B-date"], ["B-date", "B-place"]]  # too short, right, twice wrong
    found = metrics.spans(truth, predicted)
    assert found.values == pytest.approx({"span_f1": 2 / 7, "span_precision": 1 / 4, "span_recall": 1 / 3})
    assert found.by_label == [LabelScore("date", 0.5, 0.5, 0.5, 2), LabelScore("place", 0.0, 0.0, 0.0, 1)]


def test_texts_without_entities_score_0_and_do_not_crash() -> None:
    found = metrics.spans([["O", "O"]], [["O", "O"]])
    assert found.values == {"span_f1": 0.0, "span_precision": 0.0, "span_recall": 0.0}
    assert found.by_label == []


@pytest.mark.parametrize(
    ("name", "value", "best", "expected"),
    [
        ("accuracy", 0.5, None, True),
        ("accuracy", 0.6, 0.5, True),
        ("accuracy", 0.5, 0.5, False),
        ("spearman", -0.1, 0.0, False),
        ("rmse", 0.5, None, True),
        ("rmse", 0.4, 0.5, True),
        ("rmse", 0.6, 0.5, False),
    ],
)
def test_better_is_higher_and_for_errors_lower(name: str, value: float, best: float | None, expected: bool) -> None:
    assert metrics.is_better(name, value, best) is expected
