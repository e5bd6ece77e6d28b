"""Rules about words and their tags."""

from pathlib import Path
from typing import Any

import pytest

from trainer.doctor.config import CheckConfig

from .examining import examined, found_in, of


def conll(folder: Path, tags: list[str]) -> CheckConfig:
    file = folder / "t.conll"
    blocks = [
        "\n".join(f"w{number}{index}\t{tag}" for index, tag in enumerate(line.split()))
        for number, line in enumerate(tags)
    ]
    file.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    return CheckConfig(train=str(file), task="token")


def test_a_file_whose_entities_begin_with_i_is_iob1(tmp_path: Path) -> None:
    findings = found_in(conll(tmp_path, ["O I-LOC I-LOC", "I-PER O"]))
    assert of("iob1", findings) == [("train", 2, (1, 5))]
    assert "no tag begins with B-" in str(findings)
    assert of("tag-transition", findings) == []


def test_a_tag_that_goes_on_with_nothing_is_told_in_a_bio_file(tmp_path: Path) -> None:
    findings = found_in(conll(tmp_path, ["B-LOC I-LOC O", "O I-LOC O", "B-PER I-LOC", "B-PER"]))
    assert of("tag-transition", findings) == [("train", 2, (5, 9))]
    assert "I-LOC after O (1), I-LOC after B-PER (1)" in str(findings)
    assert of("iob1", findings) == []
    assert of("tag-transition", found_in(conll(tmp_path, ["B-LOC I-LOC O S-PER B-X E-X", "B-LOC B-LOC"]))) == []


def tagged(sentence: str, number: int) -> list[dict[str, Any]]:
    return [{"text": sentence.split(), "tags": ["O"] * len(sentence.split())}] * number


def test_words_that_train_parts_otherwise_are_told(tmp_path: Path) -> None:
    entity = [{"text": ["to", "Porto"], "tags": ["O", "B-place"]}]
    joined = entity + tagged("@anna says don't , see a-b .", 20)
    parted = entity + tagged("@ anna says don ' t , see a-b .", 20)
    for train, test in ((joined, parted), (parted, joined)):
        findings = examined(tmp_path, train, entity, test, task="token")
        assert of("word-split", findings) == [("test", 20, (2, 3, 4, 5, 6))]
    (message,) = (found.message for found in findings if found.rule == "word-split")
    assert message == (
        "20 of 21 rows (95 %) have words parted otherwise than train's: '@' stands alone in 0 of 20 words with it, "
        """in train in 20 of 20; likewise "'"."""
    )


@pytest.mark.parametrize("sentences", [("@anna", "@ anna", 19, 20), ("a . b", "a.b .", 20, 40), ("...", "a.b", 20, 20)])
def test_words_that_are_seldom_parted_otherwise_are_not(sentences: tuple[str, str, int, int], tmp_path: Path) -> None:
    left, right, num_left, num_right = sentences
    entity = [{"text": ["to", "Porto"], "tags": ["O", "B-place"]}]
    splits = (entity + tagged(left, num_left), entity, entity + tagged(right, num_right))
    assert of("word-split", examined(tmp_path, *splits, task="token")) == []


def test_an_entity_type_of_one_split_alone_is_an_error(tmp_path: Path) -> None:
    def row(label: str) -> dict[str, Any]:
        return {"text": "to Porto", "entities": [{"start": 3, "end": 8, "label": label}]}

    assert of("unknown-label", examined(tmp_path, [row("place")], [row("city")], task="token")) == [("eval", 1, (1,))]
