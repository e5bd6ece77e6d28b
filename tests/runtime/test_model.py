"""A loaded model: what it answers, what it cuts, and how it streams."""

import itertools
import warnings
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtime
from runtime.errors import InputError
from runtime.tasks import softmax
from runtime.testing import LABELS, MAX_LENGTH, FakeEngine, tiny_bundle

from .classifiers import engine_for, fake

LONG = "word " * MAX_LENGTH

# Answers


def test_one_text_gets_one_answer_and_a_list_a_list(tmp_path: Path) -> None:
    classifier = fake(tmp_path / "bundle")
    one, many = classifier.predict("my parcel"), classifier.predict(["my parcel", {"text": "late"}, "my parcel"])
    assert isinstance(one, runtime.Prediction)
    assert [one, one] == [many[0], many[2]]
    assert many[1] == classifier.predict({"text": "late"}) != one
    assert classifier.predict([]) == []
    assert classifier.predict(["late"]) == [classifier.predict("late")]


def test_anything_iterable_holds_many_texts(tmp_path: Path) -> None:
    classifier = fake(tmp_path / "bundle")
    expected = classifier.predict(["my", "parcel"])
    assert classifier.predict(np.array(["my", "parcel"])) == expected
    assert classifier.predict(text for text in ("my", "parcel")) == expected  # type: ignore[call-overload]


def test_pairs_come_as_tuples_or_mappings_alone_or_in_lists(tmp_path: Path) -> None:
    classifier = fake(tmp_path / "bundle", pair=True)
    one = classifier.predict(("my parcel", "late"))
    assert one == classifier.predict({"text": "my parcel", "text_pair": "late"})
    assert [one, one] == classifier.predict([("my parcel", "late"), {"text": "my parcel", "text_pair": "late"}])
    assert one != classifier.predict(("late", "my parcel"))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (None, "texts must be a text or a list of texts. Got None instead"),
        (0, "texts must be a text or a list of texts. Got 0 instead"),
        (3.5, "texts must be a text or a list of texts. Got 3.5 instead"),
        (["fine", None], "text 1 must be a string: .* Got None instead"),
        (["fine", "fine", ["late"]], r"text 2 must be a string: .* Got \['late'\] instead"),
        (("a", "b"), r"text 0 must be a string: .* Got \('a', 'b'\) instead"),
        ((), r"text 0 must be a string: .* Got \(\) instead"),
        (b"late", "text 0 must be a string: .* Got 108 instead"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place_and_value(tmp_path: Path, texts: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fake(tmp_path / "bundle").predict(texts)


@pytest.mark.parametrize("task", LABELS)
def test_each_task_sets_its_own_fields_and_no_other(tmp_path: Path, task: str) -> None:
    prediction = fake(tmp_path / "bundle", task=task).predict("my parcel never came")
    fields = set(runtime.TASKS[task].columns.values())
    for name in ("label", "score", "labels", "scores", "value", "entities"):
        assert (getattr(prediction, name) is not None) == (name in fields)
    with pytest.raises(FrozenInstanceError):
        prediction.truncated = True  # type: ignore[misc]


def test_a_label_has_its_probability(tmp_path: Path) -> None:
    prediction = fake(tmp_path / "bundle").predict("my parcel never came")
    expected = dict(zip(LABELS["single-label"], softmax(prediction.logits).tolist(), strict=True))
    assert prediction.probabilities() == expected
    assert prediction.label == max(expected, key=lambda label: expected[label])
    assert prediction.score == expected[prediction.label]


@pytest.mark.parametrize("task", ["regression", "token"])
def test_a_task_without_probabilities_says_so(tmp_path: Path, task: str) -> None:
    with pytest.raises(InputError, match=f"a {task} answer has no probabilities by label"):
        fake(tmp_path / "bundle", task=task).predict("late").probabilities()


def test_the_fake_engine_answers_by_its_rule(tmp_path: Path) -> None:
    folder = tiny_bundle(tmp_path / "bundle", task="token")
    classifier = runtime.load(folder, engine=engine_for("token"))
    ids = classifier.encode(["late"]).batch.input_ids
    expected = [[(v * (c + 1)) % 31 / 5 - 3 for c in range(3)] for v in ids.tolist()]
    np.testing.assert_allclose(classifier.predict("late").logits, expected, atol=1e-6)
    ((text,),) = FakeEngine(num_labels=3).run([classifier.encode(["late"]).batch])
    np.testing.assert_allclose(text, np.mean(expected, axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"task": "tokens"}, "task must be one of .* Got 'tokens' instead"), ({"labels": ("a", "a")}, "labels")],
)
def test_a_tiny_bundle_that_could_not_be_is_refused(tmp_path: Path, arguments: Any, message: str) -> None:
    with pytest.raises(runtime.Error, match=message):
        tiny_bundle(tmp_path / "bundle", **arguments)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(InputError, match="full is not empty"):
        tiny_bundle(tmp_path / "full")


# Truncation


def test_a_text_that_is_cut_is_flagged_and_warned_about_where_it_was_asked(tmp_path: Path) -> None:
    classifier = fake(tmp_path / "bundle")
    for ask in (classifier.predict, lambda texts: list(classifier.stream(texts))):
        with pytest.warns(
            UserWarning, match=f"texts longer than {MAX_LENGTH} tokens were cut; .* truncated=True"
        ) as seen:
            predictions = ask(["short", LONG, "short", LONG])
        assert [prediction.truncated for prediction in predictions] == [False, True, False, True]
        assert [warning.filename for warning in seen] == [__file__]


def test_the_warning_is_shown_once_a_line_however_many_texts_were_cut(tmp_path: Path) -> None:
    classifier = fake(tmp_path / "bundle")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for count in (1, 2, 3):
            classifier.predict(["short", *[LONG] * count])
    assert len(seen) == 1


def test_texts_that_fit_are_not_warned_about(tmp_path: Path) -> None:
    classifier = fake(tmp_path / "bundle")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not classifier.predict("late " * (MAX_LENGTH - 2)).truncated


# Streams


def test_a_stream_answers_as_predict_does_whatever_its_chunks(tmp_path: Path) -> None:
    classifier = fake(tmp_path / "bundle")
    texts = [f"parcel {number}" for number in range(25)]
    expected = classifier.predict(texts)
    for chunk in (1, 7, 25, 100):
        assert list(classifier.stream(texts, chunk=chunk)) == expected
    assert list(classifier.stream([])) == []


def test_a_stream_reads_one_chunk_ahead_and_no_more(tmp_path: Path) -> None:
    classifier, num_read = fake(tmp_path / "bundle"), 0

    def source() -> Iterator[str]:
        nonlocal num_read
        for num_read in itertools.count(1):
            yield f"text {num_read}"

    stream = classifier.stream(source(), chunk=10)
    assert num_read == 0
    for taken in range(1, 35):
        next(stream)
        assert num_read == -(-taken // 10) * 10


def test_an_error_in_a_stream_names_the_place_in_the_whole(tmp_path: Path) -> None:
    stream = fake(tmp_path / "bundle").stream(["a", "b", "c", "d", "e", None], chunk=2)  # type: ignore[list-item]
    assert len(list(itertools.islice(stream, 4))) == 4
    with pytest.raises(InputError, match="text 5 must be a string"):
        next(stream)
