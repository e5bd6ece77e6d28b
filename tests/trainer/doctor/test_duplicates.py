"""Rules about texts that stand in the rows twice, or nearly."""

from pathlib import Path
from typing import Any

import pytest

from runtime.records import Record
from trainer.doctor.near import runs, similarity

from .examining import SOUND, examined, of, text


def test_a_repeated_row_is_a_duplicate_and_one_of_another_label_a_conflict(tmp_path: Path) -> None:
    findings = examined(tmp_path, [*SOUND, text("plum"), text(" plum "), text("beet"), text("beet", "root")])
    assert of("duplicate", findings) == [("train", 1, (26,))]
    assert of("conflict", findings) == [("train", 1, (27, 28))]


@pytest.mark.parametrize(
    ("task", "column", "one", "same", "other"),
    [
        ("multi-label", "labels", ["a", "b"], ["b", "a"], ["a"]),
        ("regression", "score", 0.5, 0.5, 0.25),
        ("token", "entities", [{"start": 0, "end": 4, "label": "kind"}], [{"start": 0, "end": 4, "label": "kind"}], []),
    ],
)
def test_duplicates_and_conflicts_compare_truths_of_every_task(
    tmp_path: Path, task: str, column: str, one: Any, same: Any, other: Any
) -> None:
    rows = [{"text": "same text", column: one}, {"text": "same text", column: same}]
    assert of("duplicate", examined(tmp_path, rows, task=task)) == [("train", 1, (2,))]
    rows = [{"text": "same text", column: one}, {"text": "same text", column: other}]
    assert of("conflict", examined(tmp_path, rows, task=task)) == [("train", 1, (1, 2))]
    assert of("duplicate", examined(tmp_path, rows, task=task)) == []


def test_rows_of_eval_and_test_that_stand_in_train_leak(tmp_path: Path) -> None:
    findings = examined(tmp_path, SOUND, [text("new plum"), SOUND[3]], [SOUND[0], text("new plum")])
    assert of("leak", findings) == [("eval", 1, (2,)), ("test", 1, (1,))]
    assert of("eval-in-test", findings) == [("test", 1, (2,))]
    assert "line 2 is line 4 there" in next(found.message for found in findings if found.rule == "leak")


def test_a_pair_is_the_same_by_both_texts_and_told_when_swapped(tmp_path: Path) -> None:
    def pair(left: str, right: str, label: str = "same") -> dict[str, Any]:
        return {"text": left, "text_pair": right, "label": label}

    train = [pair("a b", "c d"), pair("a b", "e f", "different"), pair("g", "g")]
    findings = examined(tmp_path, train, [pair("c d", "a b"), pair("a b", "x")], text_pair_column="text_pair")
    assert of("swapped-pair", findings) == [("eval", 1, (1,))]
    assert of("leak", findings) == []
    assert of("conflict", findings) == []


LONG = "Please bring the blue umbrella to the station before half past nine, it may rain all morning."


@pytest.mark.parametrize(
    ("other", "near"),
    [
        (LONG.upper().replace(",", " –"), True),
        (LONG.replace("morning", "mornings"), True),
        (LONG.replace("blue umbrella to the station", "red suitcase to my aunt"), False),
    ],
)
def test_a_text_that_is_nearly_a_training_text_leaks(tmp_path: Path, other: str, near: bool) -> None:
    findings = examined(tmp_path, [*SOUND, text(LONG)], [text(other)])
    assert of("near-leak", findings) == ([("eval", 1, (1,))] if near else [])
    assert of("leak", findings) == []


def test_short_texts_must_be_equal_but_for_case_and_punctuation(tmp_path: Path) -> None:
    findings = examined(tmp_path, [*SOUND, text("Good plums")], [text("good plums!"), text("good plum")])
    assert of("near-leak", findings) == [("eval", 1, (1,))]


def test_what_is_counted_as_near_is_the_true_jaccard_similarity(tmp_path: Path) -> None:
    words = LONG.split()
    texts = [" ".join([*words[:cut], "entirely", *words[cut + 1 :]]) for cut in range(len(words))]
    expected = [
        n for n, other in enumerate(texts, 1) if similarity(runs(Record(text=LONG)), runs(Record(text=other))) >= 0.8
    ]
    (found,) = [f for f in examined(tmp_path, [*SOUND, text(LONG)], [text(t) for t in texts]) if f.rule == "near-leak"]
    assert 0 < len(expected) < len(texts)
    assert (found.count, found.lines) == (len(expected), tuple(expected[:5]))
