"""Temperature, thresholds and abstain level: what holds of them on any rows, and where there is too little to learn from."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn import metrics as sk

from runtime.tasks import sigmoid, softmax
from trainer.calibration import (
    BOUNDS,
    EXTREMES,
    LEAST_ROWS,
    Answered,
    Calibration,
    abstain_level,
    best_threshold,
    centre,
    describe,
    fit_temperature,
    fit_thresholds,
    learn,
    precision_by_coverage,
)
from trainer.evidence import (
    SIGMOID,
    SOFTMAX,
    Evidence,
    diagram,
    expected_calibration_error,
    gather,
    reliability,
    scaled,
)
from trainer.objectives import OBJECTIVES

SEEDS = st.integers(0, 10**6)


def one_label(seed: int, *, num_rows: int = 400, num_labels: int = 4, temperature: float = 1.0) -> Evidence:
    """Give rows whose labels are drawn from the softmax of their logits; these are then multiplied by `temperature`, which is what should be found."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(num_rows, num_labels)) * 2
    truth = (logits + generator.gumbel(size=logits.shape)).argmax(axis=1)  # Gumbel's way to draw from a softmax
    return Evidence((logits * temperature).astype(np.float32), truth, num_rows, SOFTMAX)


def many_labels(seed: int, *, num_rows: int = 400, num_labels: int = 5, temperature: float = 1.0) -> Evidence:
    """Give rows whose labels, of which the last ones are rare, are drawn from the sigmoid of their logits."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(num_rows, num_labels)) * 2 - np.arange(num_labels)
    truth = (generator.random(logits.shape) < special.expit(logits)).astype(np.float32)
    return Evidence((logits * temperature).astype(np.float32), truth, num_rows, SIGMOID)


MAKE = {"one label": one_label, "many labels": many_labels}


# Temperature


@pytest.mark.parametrize("kind", MAKE)
@given(seed=SEEDS, factor=st.floats(0.2, 8))
@settings(deadline=None, max_examples=40)
def test_a_temperature_never_makes_the_rows_it_was_learned_on_less_likely(kind: str, seed: int, factor: float) -> None:
    evidence = MAKE[kind](seed, num_rows=LEAST_ROWS, temperature=factor)
    learned = learn(evidence)
    worth = learned.worth["eval"]
    assert worth.after.nll <= worth.before.nll
    assert BOUNDS[0] <= learned.temperature <= BOUNDS[1]


@pytest.mark.parametrize("kind", MAKE)
@given(seed=SEEDS, factor=st.floats(0.25, 6))
@settings(deadline=None, max_examples=20)
def test_logits_that_were_multiplied_are_divided_again(kind: str, seed: int, factor: float) -> None:
    evidence = MAKE[kind](seed, num_rows=4000, temperature=factor)
    assert fit_temperature(evidence) == pytest.approx(factor, rel=0.12)


@pytest.mark.parametrize("kind", MAKE)
def test_calibrated_rows_stay_as_they_are(kind: str) -> None:
    learned = learn(MAKE[kind](1, num_rows=20_000))
    assert learned.temperature == pytest.approx(1, abs=0.03)
    assert learned.worth["eval"].after.ece < 0.012


def test_the_temperature_is_that_of_a_grid_search() -> None:
    """The reference: log loss of scikit-learn at 400 temperatures. The last digits are the smoothing's."""
    evidence = one_label(2, temperature=2.5)
    grid = np.geomspace(1, 6, 400)
    losses = [sk.log_loss(evidence.truth, special.softmax(evidence.logits / t, axis=1)) for t in grid]
    assert fit_temperature(evidence) == pytest.approx(grid[int(np.argmin(losses))], rel=0.02)
    assert evidence.nll(2.0) == pytest.approx(
        sk.log_loss(evidence.truth, special.softmax(evidence.logits.astype(float) / 2, axis=1)), rel=1e-6
    )


@given(seed=SEEDS, temperature=st.floats(*BOUNDS))
@settings(deadline=None, max_examples=40)
def test_a_temperature_leaves_the_best_label(seed: int, temperature: float) -> None:
    logits = one_label(seed, num_rows=50).logits
    assert (scaled(logits, temperature).argmax(axis=1) == logits.argmax(axis=1)).all()


@pytest.mark.parametrize("kind", MAKE)
def test_rows_that_are_all_right_do_not_make_a_model_infinitely_sure(kind: str) -> None:
    """Of separable rows the likeliest temperature is the least there is; one whole mistake in hand keeps it from that."""
    evidence = MAKE[kind](3, num_rows=120)
    truth = evidence.logits.argmax(axis=1) if kind == "one label" else (evidence.logits > 0).astype(np.float32)
    separable = evidence._replace(truth=truth)
    learned = learn(separable)
    assert learned.remarks == ()
    assert separable.nll(BOUNDS[0]) < separable.nll(learned.temperature) < separable.nll(1.0)
    assert 2 * BOUNDS[0] < learned.temperature < 1


def test_a_temperature_at_its_bound_is_told() -> None:
    """Labels that have nothing to do with large logits: no temperature is high enough."""
    generator = np.random.default_rng(0)
    evidence = Evidence(
        generator.normal(size=(200, 3)).astype(np.float32) * 1000, generator.integers(0, 3, 200), 200, SOFTMAX
    )
    learned = learn(evidence)
    assert learned.temperature == pytest.approx(BOUNDS[1], rel=0.01)
    assert [remark for remark in learned.remarks if "the temperature met its bound, 20" in remark]


@pytest.mark.parametrize(("kind", "what"), [("one label", "probabilities are"), ("many labels", "probabilities and thresholds are")])  # fmt: skip
def test_too_few_rows_teach_nothing_and_are_told(kind: str, what: str) -> None:
    learned = learn(MAKE[kind](0, num_rows=LEAST_ROWS - 1, temperature=5))
    assert learned.temperature == 1
    assert learned.thresholds in (None, (0.5,) * 5)
    assert learned.remarks == (f"{what} left as they are: {LEAST_ROWS} evaluation rows are needed, there are 99",)
    assert describe(learned)[-1] == f"warning: {learned.remarks[0]}"
    assert learn(MAKE[kind](0, num_rows=LEAST_ROWS, temperature=5)).temperature > 2


# Calibration error


def test_the_calibration_error_is_the_distance_in_bins_of_equal_number() -> None:
    confidence = np.repeat([0.6, 0.9], 75)
    right = np.concatenate([np.arange(75) % 5 < 3, np.arange(75) % 5 < 3])  # 60 % right in every five
    assert expected_calibration_error(confidence, right) == pytest.approx((0 + 0.3) / 2)
    bins = reliability(confidence, right)
    assert len(bins) == 15
    assert {part.number for part in bins} == {10}
    assert expected_calibration_error(confidence[:75], right[:75]) == pytest.approx(0)


@given(seed=SEEDS, number=st.integers(1, 40))
def test_bins_hold_every_decision_once_least_sure_first(seed: int, number: int) -> None:
    generator = np.random.default_rng(seed)
    confidence, right = generator.random(number), generator.random(number) < 0.5
    bins = reliability(confidence, right)
    assert sum(part.number for part in bins) == number
    assert sum(part.number * part.right for part in bins) == pytest.approx(right.sum())
    assert [part.confidence for part in bins] == sorted(part.confidence for part in bins)


def test_the_diagram_has_bins_of_equal_width_and_none_of_a_few_decisions() -> None:
    confidence = np.concatenate([np.full(40, 0.31), np.full(10, 0.35), np.full(30, 1.0), np.full(9, 0.7)])
    right = np.arange(89) % 2 == 0
    assert [(round(part.confidence, 3), part.right, part.number) for part in diagram(confidence, right)] == [
        (0.31, 0.5, 40),
        (0.35, 0.5, 10),
        (1.0, 0.5, 30),
    ]


# Thresholds


def f1(probabilities: Any, truth: Any, threshold: float) -> float:
    return float(sk.f1_score(truth, probabilities >= threshold, zero_division=0.0))


@given(seed=SEEDS)
@settings(deadline=None, max_examples=40)
def test_a_threshold_of_its_own_has_the_highest_f1_on_its_rows(seed: int) -> None:
    """The reference: scikit-learn's F1 at every threshold there could be."""
    evidence = many_labels(seed, num_rows=60, num_labels=1)
    probabilities, truth = sigmoid(evidence.logits)[:, 0].round(2), evidence.truth[:, 0].astype(bool)
    found = best_threshold(probabilities, truth)
    assert EXTREMES[0] <= found <= EXTREMES[1]
    best = max(f1(probabilities, truth, at) for at in [0.5, *probabilities.clip(*EXTREMES)])
    assert f1(probabilities, truth, found) == pytest.approx(best)


@given(seed=SEEDS)
@settings(deadline=None, max_examples=20)
def test_without_shrinkage_no_label_is_worse_than_at_a_half(seed: int) -> None:
    evidence = many_labels(seed)
    probabilities, truth = sigmoid(evidence.logits), evidence.truth.astype(bool)
    own = fit_thresholds(probabilities, truth, shrinkage=0)
    for column, threshold in enumerate(own):
        if truth[:, column].any():
            assert f1(probabilities[:, column], truth[:, column], threshold) >= f1(
                probabilities[:, column], truth[:, column], 0.5
            )


def test_the_rarer_a_label_the_nearer_it_is_to_the_threshold_of_all() -> None:
    evidence = many_labels(4, num_rows=2000)
    probabilities, truth = sigmoid(evidence.logits), evidence.truth.astype(bool)
    common = special.logit(best_threshold(probabilities.ravel(), truth.ravel()))
    own, mixed = (special.logit(fit_thresholds(probabilities, truth, shrinkage=k)) for k in (0, 20))
    support = truth.sum(axis=0)
    np.testing.assert_allclose(mixed, common + (own - common) * support / (support + 20), atol=1e-6)
    truth[:, 4] = False
    assert special.logit(fit_thresholds(probabilities, truth)[4]) == pytest.approx(
        special.logit(best_threshold(probabilities.ravel(), truth.ravel()))
    )


def test_where_no_label_is_ever_true_a_half_stays() -> None:
    assert fit_thresholds(np.full((9, 2), 0.1), np.zeros((9, 2), dtype=bool)).tolist() == [0.5, 0.5]


@given(seed=SEEDS)
@settings(deadline=None, max_examples=20)
def test_centred_logits_are_above_0_where_the_probability_reaches_its_threshold(seed: int) -> None:
    evidence = many_labels(seed, num_rows=200, temperature=3)
    learned = learn(evidence)
    centred = np.stack(centre(list(evidence.logits), learned))
    chosen = sigmoid(scaled(evidence.logits, learned.temperature)) >= np.array(learned.thresholds, dtype=np.float32)
    assert ((centred >= 0) == chosen).all()


def test_labels_that_exclude_each_other_are_not_moved() -> None:
    evidence = one_label(0, temperature=3)
    rows = list(evidence.logits)
    assert centre(rows, learn(evidence)) is rows
    assert centre(rows, None) is rows


# Abstaining


@given(seed=SEEDS, precision=st.floats(0.5, 0.97))
@settings(deadline=None, max_examples=60)
def test_answers_above_the_level_are_right_as_often_as_was_wanted_and_no_lower_level_would_do(
    seed: int, precision: float
) -> None:
    """Counted again, with SciPy's own interval as the reference; several rows share a probability."""
    confidence, right = one_label(seed, num_rows=300).outcomes(1.0)
    confidence = confidence.round(2)
    level = abstain_level(confidence, right, precision=precision)

    def least(at: float) -> float:
        given = confidence >= at
        test = stats.binomtest(int(right[given].sum()), int(given.sum()), alternative="greater")
        return float(test.proportion_ci(0.9).low)

    enough = [at for at in set(confidence.tolist()) if least(at) >= precision]
    if level is None:
        assert enough == []
    else:
        assert right[confidence >= level].mean() >= precision
        assert (confidence >= level).sum() == (confidence >= min(enough)).sum()


def test_where_all_may_be_answered_the_level_is_the_least_confidence_seen() -> None:
    confidence = np.linspace(0.7, 0.99, 200)
    assert abstain_level(confidence, np.ones(200, dtype=bool), precision=0.9) == pytest.approx(0.7)


def test_a_precision_by_count_alone_is_not_enough() -> None:
    """19 of 20 right are .95 by count, and .82 with 90 % confidence."""
    confidence, right = np.linspace(0.6, 0.99, 20), np.arange(20) > 0
    assert abstain_level(confidence, right, precision=0.95) is None
    assert abstain_level(confidence, right, precision=0.88) == pytest.approx(confidence[:2].mean())


def test_a_precision_out_of_reach_is_told_and_nothing_is_withheld() -> None:
    learned = learn(one_label(0), abstain_precision=0.999)
    assert learned.abstain_below is None
    assert learned.worth["eval"].answered is None
    remark = learned.remarks[0]
    assert "--abstain-precision 0.999 is not reached, so no answer will be withheld: at best" in remark
    assert "Ask for less, or give more evaluation rows (2,302 sure and right ones are the least)" in remark
    assert stats.beta.ppf(0.1, 2302, 1) > 0.999 > stats.beta.ppf(0.1, 2301, 1)


def test_what_is_told_of_a_level_is_what_is_counted() -> None:
    evidence = one_label(0, num_rows=2000, temperature=2)
    learned = learn(evidence, abstain_precision=0.9)
    answered = learned.worth["eval"].answered
    assert learned.abstain_below is not None
    assert answered is not None
    scores = softmax(evidence.logits / np.float32(learned.temperature)).max(axis=1)
    given = scores >= learned.abstain_below
    right = evidence.logits.argmax(axis=1) == evidence.truth
    assert answered == Answered(2000, given.sum(), right[given].sum())
    assert answered.precision > 0.9
    assert 0 < answered.coverage < 1
    assert ((learned.sureness(evidence.logits) >= 0) == given).all()
    coverage, precision = precision_by_coverage(scores, right)
    assert (answered.coverage, answered.precision) in set(zip(coverage.tolist(), precision.tolist(), strict=True))
    told = describe(learned)
    assert f"abstains below {learned.abstain_below:.4f}" in told[0]
    assert told[1].endswith(f"{answered.coverage:.1%} are answered, {answered.precision:.1%} of these right")


def test_an_answer_of_probability_1_in_fp32_is_sure_enough_for_a_level_of_1() -> None:
    learned = Calibration(1.0, None, 1.0, 0.9, 200, {}, ())
    logits = np.array([[40, 0], [3, 0]], dtype=np.float32)
    assert (learned.sureness(logits) >= 0).tolist() == (softmax(logits).max(axis=1) >= 1.0).tolist() == [True, False]


# What is learned from


@pytest.mark.parametrize("task", OBJECTIVES)
def test_only_regression_has_no_probabilities_to_calibrate(task: str) -> None:
    assert (OBJECTIVES[task].likelihood is None) == (task == "regression")


def test_a_tagger_is_calibrated_on_the_first_tokens_of_words() -> None:
    logits = [np.full((3, 2), 1.0), np.full((2, 2), 2.0)]
    targets = [np.array([-100, 1, -100]), np.array([0, -100])]
    found = gather(logits, targets, SOFTMAX)
    assert (found.logits.tolist(), found.truth.tolist(), found.num_texts) == ([[1.0, 1.0], [2.0, 2.0]], [1, 0], 2)


@pytest.mark.parametrize("precision", [None, 0.9, 0.9999])
@pytest.mark.parametrize("kind", MAKE)
def test_what_is_written_is_what_is_read(kind: str, precision: float | None) -> None:
    import json

    evidence = MAKE[kind](0)
    learned = learn(evidence, abstain_precision=precision if kind == "one label" else None)
    learned = learned._replace(worth={**learned.worth, "test": learned.assess(MAKE[kind](1))})
    assert Calibration.from_json(json.loads(json.dumps(learned.as_json()))) == learned
