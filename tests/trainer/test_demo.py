"""The embedded data set is what docs/demo.md says: balanced, clean, its splits apart."""

import json
import re
from collections import Counter
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import sparse

from runtime.problems import Problem
from runtime.records import to_records
from runtime.tasks import TASKS
from trainer import demo
from trainer.config import TrainConfig
from trainer.data import load_data

ROWS: list[dict[str, Any]] = [json.loads(line) for line in demo.FILE.read_text(encoding="utf-8").splitlines()]
MESSAGES = [row for row in ROWS if row["kind"] == "message"]
PAIRS = [row for row in ROWS if row["kind"] == "pair"]
TEXTS = [(row["split"], row[field]) for row in ROWS for field in ("text", "text_pair") if field in row]

FIELDS = {
    "message": {"kind", "split", "text", "intent", "topics", "urgency", "entities"},
    "pair": {"kind", "split", "text", "text_pair", "same"},
}
INTENTS = {
    "account_access",
    "billing_question",
    "cancel_service",
    "give_feedback",
    "how_to",
    "report_fault",
    "request_refund",
    "track_delivery",
}
TOPICS = {"account", "connectivity", "hardware", "payment", "security", "shipping", "software", "warranty"}
TYPES = {"product", "date", "place", "error_code"}
NUM_MESSAGES = {"train": 720, "eval": 152, "test": 152}  # by split
NUM_PAIRS = {"train": 112, "eval": 24, "test": 24}

# View → (task, columns), as the README trains them.
SETTINGS: dict[str, dict[str, Any]] = {
    "intent": {},
    "topics": {"task": "multi-label"},
    "urgency": {"task": "regression"},
    "entities": {"task": "token"},
    "pairs": {"text_pair_column": "text_pair"},
}


def test_every_row_has_the_fields_of_its_kind_and_nothing_else() -> None:
    assert {row["kind"] for row in ROWS} == set(FIELDS)
    assert [row for row in ROWS if set(row) != FIELDS[row["kind"]]] == []
    assert {row["split"] for row in ROWS} == set(demo.SPLITS)


def test_every_value_has_its_type() -> None:
    for row in MESSAGES:
        assert isinstance(row["text"], str)
        assert isinstance(row["urgency"], float | int)
        assert all(isinstance(topic, str) for topic in row["topics"])
        assert all(set(span) == {"start", "end", "label"} for span in row["entities"])
    for row in PAIRS:
        assert isinstance(row["text"], str)
        assert isinstance(row["text_pair"], str)


def test_there_are_1024_messages_and_160_pairs() -> None:
    assert (len(MESSAGES), len(PAIRS)) == (1024, 160)
    assert Counter(row["split"] for row in MESSAGES) == NUM_MESSAGES
    assert Counter(row["split"] for row in PAIRS) == NUM_PAIRS


def test_each_split_has_each_intent_as_often() -> None:
    counts = Counter((row["split"], row["intent"]) for row in MESSAGES)
    assert counts == {(split, intent): num // 8 for split, num in NUM_MESSAGES.items() for intent in INTENTS}


def test_each_split_has_as_many_like_as_unlike_pairs() -> None:
    counts = Counter((row["split"], row["same"]) for row in PAIRS)
    assert counts == {(split, same): num // 2 for split, num in NUM_PAIRS.items() for same in ("same", "different")}


@pytest.mark.parametrize("split", demo.SPLITS)
def test_each_split_has_every_topic_and_type_and_nothing_unknown(split: str) -> None:
    rows = [row for row in MESSAGES if row["split"] == split]
    assert {topic for row in rows for topic in row["topics"]} == TOPICS
    assert {span["label"] for row in rows for span in row["entities"]} == TYPES
    assert all(len(set(row["topics"])) == len(row["topics"]) for row in rows)


def test_urgency_is_a_step_of_a_twentieth_from_0_to_1() -> None:
    wrong = [row["urgency"] for row in MESSAGES if row["urgency"] not in {round(step / 20, 2) for step in range(21)}]
    assert wrong == []
    assert len({row["urgency"] for row in MESSAGES}) >= 15, "the scale is used"


def test_spans_are_whole_words_in_the_texts_order() -> None:
    for row in MESSAGES:
        text, spans = row["text"], row["entities"]
        for span in spans:
            start, end = span["start"], span["end"]
            told = (text, span, text[start:end])
            assert 0 <= start < end <= len(text), told
            assert text[start:end] == text[start:end].strip(), told
            assert not re.fullmatch(r"\w\w", text[max(0, start - 1) : start + 1]), f"begins inside a word: {told}"
            assert not re.fullmatch(r"\w\w", text[end - 1 : end + 1]), f"ends inside a word: {told}"
        assert all(left["end"] <= right["start"] for left, right in pairwise(spans)), (text, spans)


def test_no_text_stands_twice() -> None:
    assert [text for text, count in Counter(" ".join(words(text)) for _, text in TEXTS).items() if count > 1] == []


@pytest.mark.parametrize(
    ("of_what", "limit"), [("word bigrams", 0.5), ("character 4-grams", 0.6)], ids=["words", "characters"]
)
def test_no_near_duplicate_stands_in_two_splits(of_what: str, limit: float) -> None:
    """Jaccard similarity of any two texts of different splits, a pair's two texts each for itself."""
    grams = [word_bigrams(text) if of_what == "word bigrams" else four_grams(text) for _, text in TEXTS]
    splits = np.array([split for split, _ in TEXTS])
    similar = jaccard(grams)
    similar[splits[:, None] == splits] = 0
    first, second = np.unravel_index(similar.argmax(), similar.shape)
    assert similar.max() < limit, (TEXTS[first], TEXTS[second])


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def word_bigrams(text: str) -> set[str]:
    return {" ".join(pair) for pair in pairwise(words(text))}


def four_grams(text: str) -> set[str]:
    return {text.lower()[start : start + 4] for start in range(max(1, len(text) - 3))}


def jaccard(sets: list[set[str]]) -> npt.NDArray[np.float64]:
    """Compare all sets with all, (N, N), by one product of sparse matrices."""
    index = {gram: column for column, gram in enumerate(sorted(set().union(*sets)))}
    cells = [(row, index[gram]) for row, grams in enumerate(sets) for gram in grams]
    rows, columns = np.array(cells).T
    table = sparse.csr_array((np.ones(len(cells)), (rows, columns)), shape=(len(sets), len(index)))
    common = (table @ table.T).toarray()
    sizes = np.array([len(grams) for grams in sets])
    return common / np.maximum(1, sizes[:, None] + sizes - common)


@pytest.mark.parametrize(
    "what",
    [r"\S@\S", r"https?:|www\.|\w\.(com|org|net|io)\b", r"(?<![\w-])(\+\d|0\d)[\d ()/.-]{6,}\d", r"\d{9,}"],
    ids=["e-mail", "url", "phone", "long number"],
)
def test_no_text_has_an_address_or_a_number_that_could_be_a_persons(what: str) -> None:
    assert [text for _, text in TEXTS if re.search(what, text, re.IGNORECASE)] == []


def test_texts_are_messages_of_ordinary_length() -> None:
    lengths = [len(text) for _, text in TEXTS]
    assert 60 <= median(lengths) <= 120
    assert min(lengths) >= 5
    assert max(lengths) <= 500
    assert [text for _, text in TEXTS if text != text.strip() or not text.isprintable()] == []


@pytest.mark.parametrize("split", demo.SPLITS)
@pytest.mark.parametrize("view", demo.VIEWS)
def test_every_view_reads_into_records(view: str, split: str) -> None:
    config, problems = TrainConfig(train=f"demo:{view}", **SETTINGS[view]), list[Problem]()
    target = TASKS[config.task].target
    found = to_records(
        demo.rows(view, split=split), path="demo", target=target, columns=config.row_columns, problems=problems
    )
    assert len(list(found)) == (NUM_PAIRS if view == "pairs" else NUM_MESSAGES)[split]
    assert problems == []


@pytest.mark.parametrize("view", demo.VIEWS)
def test_every_view_trains_without_a_warning(view: str) -> None:
    data = load_data(TrainConfig(train=f"demo:{view}", **SETTINGS[view]))
    assert "warning" not in "\n".join(data.notes)
    assert (len(data.train), len(data.eval), len(data.test)) == tuple(
        (NUM_PAIRS if view == "pairs" else NUM_MESSAGES).values()
    )


def test_lines_are_those_of_the_file() -> None:
    lines = demo.FILE.read_text(encoding="utf-8").split("\n")
    for row in demo.rows("pairs", split="eval"):
        assert json.loads(lines[row.line - 1])["text"] == row.values["text"]
