"""Which evaluation rows a model finds hardest: its surest mistakes, and where it is right or unsure, those that cost it most. A task is a row of HARDEST."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from runtime.conll import entities
from runtime.encode import Tokens
from runtime.records import Record, bio_tags
from runtime.tasks import sigmoid, softmax

from .calibration import Calibration
from .evidence import scaled
from .losses import Floats, Target
from .objectives import tags_of_words, token_words_of, words_of


class Answers(NamedTuple):
    """What a model answers to rows whose truth is known.

    Attributes:
        logits: each row's, as the model has them.
        records: the rows.
        tokens: their tokens, for a tagger.
        targets: what the loss compares with.
        labels: the label of each logit.
        calibration: what was learned of their probabilities, where anything was.
    """

    logits: Sequence[Floats]
    records: Sequence[Record]
    tokens: Sequence[Tokens] | None
    targets: Sequence[Target]
    labels: tuple[str, ...]
    calibration: Calibration | None

    @property
    def calibrated(self) -> list[Floats]:
        """Each row's logits as they are shipped."""
        temperature = self.calibration.temperature if self.calibration else 1.0
        return [scaled(row, temperature) for row in self.logits]

    @property
    def thresholds(self) -> Floats:
        """The probability from which each label counts."""
        learned = self.calibration.thresholds if self.calibration else None
        return np.array(learned or (0.5,) * len(self.labels), dtype=np.float32)


class Judged(NamedTuple):
    """An answer beside the truth.

    Attributes:
        row: its place among the rows.
        truth: what is right, for people.
        answer: what the model says, for people.
        wrong: whether it counts as a mistake.
        severity: how sure a mistake is, or how large.
        loss: what the answer costs; None where only mistakes are told.
    """

    row: int
    truth: str
    answer: str
    wrong: bool
    severity: float
    loss: float | None = None


class Hardest(NamedTuple):
    """A task's way to judge.

    Attributes:
        judge: answers → a verdict a row.
        title: of its table of mistakes.
        says: what the table holds and how it is sorted.
        severity: the title of the column it is sorted by.
    """

    judge: Callable[[Answers], list[Judged]]
    title: str
    says: str
    severity: str


def surest_mistakes(judged: Sequence[Judged], number: int) -> list[Judged]:
    """Choose the mistakes that are the most sure, or the largest."""
    return sorted((one for one in judged if one.wrong), key=lambda one: -one.severity)[:number]


def highest_losses(judged: Sequence[Judged], shown: Sequence[Judged], number: int) -> list[Judged]:
    """Choose those that cost most among the answers that are not shown yet."""
    rows = {one.row for one in shown}
    rest = [(one.loss, one) for one in judged if one.loss is not None and one.row not in rows]
    return [one for _, one in sorted(rest, key=lambda pair: -pair[0])[:number]]


def _judge_single(answers: Answers) -> list[Judged]:
    probabilities = softmax(np.stack(answers.calibrated))  # (B, C)
    best, found = probabilities.argmax(axis=-1), []
    for row, (truth, answer) in enumerate(zip(answers.targets, best, strict=True)):
        right, given = (float(probabilities[row, index]) for index in (truth, answer))
        names = answers.labels[int(truth)], answers.labels[int(answer)]
        found.append(Judged(row, *names, bool(truth != answer), given, -float(np.log(max(right, 1e-12)))))
    return found


def _judge_multi(answers: Answers) -> list[Judged]:
    probabilities, found = sigmoid(np.stack(answers.calibrated)), []  # (B, C)
    for row, target in enumerate(answers.targets):
        given, truth = probabilities[row] >= answers.thresholds, target.astype(bool)
        sureness = np.where(given, probabilities[row], 1 - probabilities[row])
        wrong = sorted(np.flatnonzero(given != truth), key=lambda index: -sureness[index])
        told = [
            f"{'invented' if given[i] else 'missed'} {answers.labels[i]} ({probabilities[row, i]:.2f})" for i in wrong
        ]
        names = ", ".join(answers.labels[index] for index in np.flatnonzero(truth)) or "none"
        found.append(Judged(row, names, ", ".join(told), bool(told), float(sureness[wrong[0]]) if told else 0.0))
    return found


def _judge_regression(answers: Answers) -> list[Judged]:
    pairs = [(float(target), float(logits[0])) for target, logits in zip(answers.targets, answers.logits, strict=True)]
    return [
        Judged(row, f"{truth:.4g}", f"{answer:.4g}", truth != answer, abs(truth - answer))
        for row, (truth, answer) in enumerate(pairs)
    ]


def _judge_token(answers: Answers) -> list[Judged]:
    assert answers.tokens is not None
    found = []
    for row, (logits, record, tokens) in enumerate(
        zip(answers.calibrated, answers.records, answers.tokens, strict=True)
    ):
        words = words_of(record)
        truth = set(entities(bio_tags(words, record.spans or ())))
        given = set(entities(tags_of_words(logits, record, tokens, answers.labels)))
        sure = _sureness_of_words(logits, record, tokens)
        mistakes = [
            (
                float(np.mean(sure[span[0] : span[1]])),
                how,
                record.text[words[span[0]][0] : words[span[1] - 1][1]],
                span[2],
            )
            for how, spans in (("found", given - truth), ("missed", truth - given))
            for span in spans
        ]
        mistakes.sort(key=lambda mistake: (-mistake[0], *mistake[1:]))
        told = ", ".join(f"{how} “{text}” as {kind} ({sureness:.2f})" for sureness, how, text, kind in mistakes)
        names = ", ".join(f"“{record.text[span.start : span.end]}” {span.label}" for span in record.spans or ())
        found.append(Judged(row, names or "none", told, bool(mistakes), mistakes[0][0] if mistakes else 0.0))
    return found


def _sureness_of_words(logits: Floats, record: Record, tokens: Tokens) -> list[float]:
    """Give the probability of each word's tag; 0 where truncation cut the word off, of which the model says nothing."""
    best = softmax(logits).max(axis=-1)
    return [0.0 if first is None else float(best[first]) for first in token_words_of(record, tokens)]


HARDEST: dict[str, Hardest] = {
    "single-label": Hardest(_judge_single, "Surest mistakes", "Wrong answers, the most probable first.", "Probability"),
    "multi-label": Hardest(
        _judge_multi,
        "Surest mistakes",
        "Texts by their surest mistake: a label that was invented with a high probability, in brackets, or missed with a low one.",
        "How sure",
    ),
    "regression": Hardest(_judge_regression, "Largest differences", "The farthest from the truth first.", "Difference"),
    "token": Hardest(
        _judge_token,
        "Surest mistakes",
        "Texts by their surest mistake: a span that was found and is none, or missed; in brackets the mean probability of the tags that its words were given.",
        "How sure",
    ),
}
