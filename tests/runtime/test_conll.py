from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.conll import Sentence, bio, entities, read_sentences
from runtime.errors import InputError
from runtime.problems import Problem

Entities = list[tuple[int, int, str]]


def read(folder: Path, content: str | bytes, *, encoding: str = "utf-8") -> tuple[list[Sentence], list[str]]:
    path = folder / "a.conll"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    problems: list[Problem] = []
    sentences = list(read_sentences(path, encoding=encoding, problems=problems))
    return sentences, [f"{problem.line}: {problem.message}" for problem in problems]


@pytest.mark.parametrize("separator", ["", "\t", "  ", " \t ", "\r", "\u3000"])
def test_empty_and_white_space_lines_end_a_sentence(tmp_path: Path, separator: str) -> None:
    sentences, problems = read(tmp_path, f"{separator}\nIn\tO\nRome\tB-LOC\n{separator}\n{separator}\nYes\tO")
    assert sentences == [Sentence(2, ["In", "Rome"], ["O", "B-LOC"]), Sentence(6, ["Yes"], ["O"])]
    assert problems == []


def test_the_word_is_the_first_column_and_the_tag_the_last(tmp_path: Path) -> None:
    sentences, _ = read(tmp_path, "\ufeffEU NNP  B-NP B-ORG\r\nNew York\tNNP\tB-LOC\t\r\n")
    assert sentences == [Sentence(1, ["EU", "New York"], ["B-ORG", "B-LOC"])]


def test_document_starts_only_part_sentences(tmp_path: Path) -> None:
    sentences, problems = read(tmp_path, "-DOCSTART- -X- O O\n\nIn O\n-DOCSTART-\nYes O\n")
    assert ([sentence.words for sentence in sentences], problems) == ([["In"], ["Yes"]], [])


def test_unusual_characters_stay_inside_a_word(tmp_path: Path) -> None:
    sentences, _ = read(tmp_path, "a\xa0b O\nc\x85\tO\nd\u2028e O\nf\rg O\n")
    assert sentences[0].words == ["a\xa0b", "c\x85", "d\u2028e", "f\rg"]


def test_a_line_without_a_tag_or_a_word_is_told_and_its_sentence_left_out(tmp_path: Path) -> None:
    sentences, problems = read(tmp_path, "In O\nRome\n\n\tO\n\nYes O\n")
    assert sentences == [Sentence(6, ["Yes"], ["O"])]
    assert problems == [
        "2: 'Rome' needs a word and a tag, parted by a tab or a space",
        "4: '\\tO' needs a word and a tag, parted by a tab or a space",
    ]


def test_an_undecodable_byte_is_told_once_and_its_sentence_left_out(tmp_path: Path) -> None:
    content = "In O\nMálaga B-LOC\n\nYes O\n".encode("latin-1")
    sentences, problems = read(tmp_path, content)
    assert [sentence.words for sentence in sentences] == [["Yes"]]
    assert len(problems) == 1
    assert problems[0].startswith("2: byte 0xe1 at column 2 is not utf-8")
    assert read(tmp_path, content, encoding="latin-1")[0][0].words == ["In", "Málaga"]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("I-A I-A O I-A", [(0, 2, "A"), (3, 4, "A")]),
        ("I-A B-A I-A", [(0, 1, "A"), (1, 3, "A")]),
        ("B-A I-B", [(0, 1, "A"), (1, 2, "B")]),
        ("S-A I-A", [(0, 1, "A"), (1, 2, "A")]),
        ("B-A E-A I-A", [(0, 2, "A"), (2, 3, "A")]),
        ("E-A L-A", [(0, 1, "A"), (1, 2, "A")]),
        ("B-A M-A E-B", [(0, 2, "A"), (2, 3, "B")]),
        ("U-creative-work O", [(0, 1, "creative-work")]),
        ("", []),
    ],
)
def test_entities_are_read_as_conlleval_reads_them(tags: str, expected: Entities) -> None:
    assert entities(tags.split()) == expected


@pytest.mark.parametrize("tag", ["X-A", "B", "B-", "-A", "o", "", "BI-A", "PER", "B_PER"])
def test_a_tag_of_no_scheme_is_named(tag: str) -> None:
    with pytest.raises(InputError, match=f"tag '{tag}' is neither O nor one of B, I"):
        entities(["O", tag])


def test_overlapping_entities_are_not_written() -> None:
    with pytest.raises(AssertionError, match="overlaps"):
        bio([(0, 2, "A"), (1, 3, "B")], 3)


def surrounded(first: str, middle: str, last: str, single: str) -> Callable[[Entities, int], list[str]]:
    """Make a writer of a scheme that marks both ends of an entity."""

    def write(found: Entities, num_words: int) -> list[str]:
        tags = ["O"] * num_words
        for start, end, label in found:
            marks = single if end - start == 1 else first + middle * (end - start - 2) + last
            tags[start:end] = [f"{mark}-{label}" for mark in marks]
        return tags

    return write


def iob1(found: Entities, num_words: int) -> list[str]:
    tags = ["O"] * num_words
    for start, end, label in found:
        follows_its_kind = start > 0 and tags[start - 1] in (f"B-{label}", f"I-{label}")
        tags[start:end] = [f"B-{label}" if follows_its_kind else f"I-{label}"] + [f"I-{label}"] * (end - start - 1)
    return tags


SCHEMES = {
    "BIO": bio,
    "IOB1": iob1,
    "BIOES": surrounded("B", "I", "E", "S"),
    "BMES": surrounded("B", "M", "E", "S"),
    "BILOU": surrounded("B", "I", "L", "U"),
}


@st.composite
def sentence_entities(draw: st.DrawFn) -> tuple[Entities, int]:
    found, position = [], 0
    for gap, length, label in draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 4), st.sampled_from("AB")))):
        found.append((position + gap, position + gap + length, label))
        position += gap + length
    return found, position + draw(st.integers(0, 2))


@pytest.mark.parametrize("scheme", SCHEMES)
@given(sentence=sentence_entities())
def test_entities_survive_every_scheme(scheme: str, sentence: tuple[Entities, int]) -> None:
    found, num_words = sentence
    tags = SCHEMES[scheme](found, num_words)
    assert entities(tags) == found
    assert bio(entities(tags), num_words) == bio(found, num_words)
