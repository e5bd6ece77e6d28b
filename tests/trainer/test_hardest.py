"""The hardest rows are found by the answers as they are shipped, and shown so that nothing of a text can be taken for the page's own."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from runtime.encode import Tokens
from runtime.records import Record, Span
from trainer.calibration import Calibration
from trainer.config import TrainConfig
from trainer.hardest import HARDEST, Answers, highest_losses, surest_mistakes
from trainer.hardest_report import MAX_CHARACTERS, write_hardest

LABELS = ("cancel", "refund")


def calibration(temperature: float = 1.0, thresholds: tuple[float, ...] | None = None) -> Calibration:
    return Calibration(temperature, thresholds, None, None, 100, {}, ())


def answers(
    logits: Sequence[Sequence[float]], targets: Sequence[Any], *, texts: Sequence[str] = (), **changes: Any
) -> Answers:
    records = [Record(text=texts[row] if texts else f"text {row}", line=row + 2) for row in range(len(logits))]
    given: dict[str, Any] = {"records": records, "tokens": None, "labels": LABELS, "calibration": None}
    arrays = [np.array(row, dtype=np.float32) for row in logits]
    return Answers(arrays, targets=[np.array(target) for target in targets], **{**given, **changes})


SINGLE = answers([(0, 1), (0, 3), (0.5, 0), (0, 2), (9, 0)], [0, 0, 0, 1, 0])


def test_wrong_answers_stand_by_their_probability_and_the_rest_by_its_loss() -> None:
    judged = HARDEST["single-label"].judge(SINGLE)
    mistakes = surest_mistakes(judged, 10)
    assert [(one.row, one.truth, one.answer) for one in mistakes] == [(1, "cancel", "refund"), (0, "cancel", "refund")]
    assert mistakes[0].severity == pytest.approx(1 / (1 + np.exp(-3)))
    assert [one.row for one in highest_losses(judged, mistakes, 2)] == [2, 3]
    assert [one.row for one in highest_losses(judged, surest_mistakes(judged, 1), 2)] == [0, 2], "a mistake not shown"


def test_probabilities_are_the_calibrated_ones() -> None:
    warm = SINGLE._replace(calibration=calibration(temperature=3.0))
    assert HARDEST["single-label"].judge(warm)[1].severity == pytest.approx(1 / (1 + np.exp(-1)))


def test_labels_are_missed_and_invented_by_their_thresholds() -> None:
    """Log-odds of 1 are .73: below a threshold of .8, so missed; those of -1 are .27: above one of .2, so invented."""
    found = answers([(1, -1), (1, -1), (-4, 5)], [(1, 0), (1, 1), (1, 1)], calibration=calibration(1.0, (0.8, 0.2)))
    first, second, third = HARDEST["multi-label"].judge(found)
    assert set(first.answer.split(", ")) == {"missed cancel (0.73)", "invented refund (0.27)"}
    assert (second.answer, second.truth) == ("missed cancel (0.73)", "cancel, refund")
    assert third.severity == pytest.approx(1 / (1 + np.exp(-4)))
    assert surest_mistakes([first, second, third], 3)[0].row == 2


def test_a_row_without_mistakes_is_none() -> None:
    (right,) = HARDEST["multi-label"].judge(answers([(2, -2)], [(1, 0)]))
    assert (right.wrong, right.answer) == (False, "")
    assert surest_mistakes([right], 5) == highest_losses([right], [], 5) == []


def test_numbers_stand_by_their_difference() -> None:
    judged = HARDEST["regression"].judge(answers([(1.0,), (2.0,), (3.0,)], [1.5, 5.0, 3.0]))
    assert [(one.row, one.truth, one.answer, one.severity) for one in surest_mistakes(judged, 9)] == [
        (1, "5", "2", 3.0),
        (0, "1.5", "1", 0.5),
    ]


TAGS = ("O", "B-place", "I-place")


def tagged(spans: tuple[Span, ...], logits: Sequence[Sequence[float]], *, num_tokens: int = 3) -> Answers:
    """Give "to new Porto", a token a word."""
    text, offsets = "to new Porto", np.array([(0, 2), (3, 6), (7, 12)])[:num_tokens]
    tokens = Tokens(text, np.arange(num_tokens), offsets, np.arange(num_tokens))
    record = Record(text=text, spans=spans, line=4)
    rows = np.array(logits, dtype=np.float32)[:num_tokens]
    return Answers([rows], [record], [tokens], [np.zeros(num_tokens)], TAGS, None)


def test_spans_are_found_and_missed_as_they_are_measured() -> None:
    truth = (Span(start=7, end=12, label="place"),)
    (judged,) = HARDEST["token"].judge(tagged(truth, [(5, 0, 0), (0, 3, 0), (0, 0, 3)]))
    sure = float(np.exp(3) / (np.exp(3) + 2))
    assert judged.truth == "“Porto” place"
    assert judged.answer == f"found “new Porto” as place ({sure:.2f}), missed “Porto” as place ({sure:.2f})"
    assert judged.severity == pytest.approx(sure)
    (right,) = HARDEST["token"].judge(tagged(truth, [(5, 0, 0), (5, 0, 0), (0, 3, 0)]))
    assert not right.wrong


def test_a_span_that_truncation_cut_off_was_missed_without_being_sure() -> None:
    truth = (Span(start=7, end=12, label="place"),)
    (judged,) = HARDEST["token"].judge(tagged(truth, [(5, 0, 0)] * 2, num_tokens=2))
    assert (judged.wrong, judged.severity, judged.answer) == (True, 0.0, "missed “Porto” as place (0.00)")


# the page


def words(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_section_says_that_it_holds_rows_and_how_to_leave_them_out() -> None:
    (page,) = write_hardest(SINGLE, TrainConfig(show_rows=1))
    text = words(page)
    assert "This section holds rows of the evaluation data ; --show-rows 0 leaves them out." in text
    assert "text 1 cancel refund 0.953 3" in text
    assert "text 0 cancel refund 0.269 2" in text, "of the rest, by what the truth was given"
    assert "text 4" not in text


def test_nothing_is_shown_where_nothing_shall_be_or_can_be() -> None:
    assert write_hardest(SINGLE, TrainConfig(show_rows=0)) == []
    assert write_hardest(None, TrainConfig()) == []
    (page,) = write_hardest(answers([(1.0,)], [1.0]), TrainConfig(task="regression"))
    assert "There are no mistakes." in page


def test_texts_are_escaped_and_cut() -> None:
    long = "<script>alert(1)</script>" + "y" * MAX_CHARACTERS
    (page,) = write_hardest(answers([(0, 1)], [0], texts=[long]), TrainConfig())
    assert "<script" not in page
    assert "y…<" in page
    assert page.count("y" * 200) == 1
    assert "y" * (MAX_CHARACTERS - 24) not in page
    assert f"Of a text above {MAX_CHARACTERS} characters the rest is cut, and … stands for it." in page


def test_both_texts_of_a_pair_are_shown() -> None:
    pair = [Record(text="one side", text_pair="the other", line=2)]
    (page,) = write_hardest(answers([(0, 1)], [0], records=pair), TrainConfig())
    assert "one side the other cancel refund" in words(page)
    assert "Second text" in page
