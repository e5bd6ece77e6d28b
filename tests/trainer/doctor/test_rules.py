"""Each rule of the data doctor finds the row it is about, and leaves a row alone that only looks like it."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.records import Record
from trainer.doctor.check import read_dataset
from trainer.doctor.config import CheckConfig
from trainer.doctor.finding import Finding
from trainer.doctor.near import runs, similarity
from trainer.doctor.rules import RULES, examine
from trainer.doctor.unusable import MOST_FAULTS

SPLITS = ("train", "eval", "test")
SOUND = [{"text": f"{word} number {number}", "label": label} for word, label in (("apple", "fruit"), ("carrot", "root")) for number in range(12)]  # fmt: skip


def examined(folder: Path, *splits: list[dict[str, Any]], rules: tuple[str, ...] = (), **flags: Any) -> list[Finding]:
    """Write splits as JSON lines and examine them."""
    files = {}
    for name, rows in zip(SPLITS, splits, strict=False):
        file = folder / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        files[name] = str(file)
    return found_in(CheckConfig(**files, **flags), asked=rules)


def found_in(config: CheckConfig, asked: tuple[str, ...] = ()) -> list[Finding]:
    config.validate()
    return examine(read_dataset(config), quick=False, asked=asked).findings


def of(rule: str, findings: list[Finding]) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(found.split, found.count, found.lines) for found in findings if found.rule == rule]


def text(content: str, label: str = "fruit") -> dict[str, Any]:
    return {"text": content, "label": label}


def test_sound_rows_bring_nothing(tmp_path: Path) -> None:
    other = [text(f"pear or plum {number}") for number in range(6)] + [
        text(f"a beet {number}", "root") for number in range(6)
    ]
    assert examined(tmp_path, SOUND, other) == []


@pytest.mark.parametrize(
    "flags",
    [
        {"train": "demo:intent"},
        {"train": "demo:topics", "task": "multi-label"},
        {"train": "demo:urgency", "task": "regression"},
        {"train": "demo:entities", "task": "token"},
        {"train": "demo:pairs", "text_pair_column": "text_pair"},
    ],
    ids=lambda flags: flags["train"],
)
def test_the_embedded_data_brings_nothing(flags: dict[str, Any]) -> None:
    assert found_in(CheckConfig(**flags)) == []


def test_every_rule_says_what_it_means_and_what_to_do() -> None:
    for name, rule in RULES.items():
        assert rule.says[0].islower() or rule.says.startswith("U+"), name
        assert rule.way_out.endswith("."), name
        assert rule.severity in ("error", "warning", "note")


# rows that cannot be used


def test_rows_with_the_same_fault_are_told_together_with_their_lines(tmp_path: Path) -> None:
    bad = [{"text": None, "label": "fruit"}, text(""), text(" \t"), {"text": None, "label": "root"}]
    findings = examined(tmp_path, [*SOUND, *bad])
    assert of("unusable-row", findings) == [("train", 2, (25, 28)), ("train", 1, (26,)), ("train", 1, (27,))]
    messages = [found.message for found in findings if found.rule == "unusable-row"]
    assert messages[0] == "2 of 28 rows (7.1 %) cannot be used, in line 25: column 'text' is NULL."
    assert "is empty" in messages[1]
    assert "white space only" in messages[2]


def test_values_do_not_part_what_is_one_fault(tmp_path: Path) -> None:
    file = tmp_path / "t.conll"
    file.write_text("in\tO\nRome\tB-place\n\n" + "".join(f"word{number}\n" for number in range(30)), encoding="utf-8")
    findings = found_in(CheckConfig(train=str(file), task="token"))
    assert of("unusable-row", findings) == [("train", 30, (4, 5, 6, 7, 8))]


def test_many_kinds_of_fault_end_in_one_finding_for_the_rest(tmp_path: Path) -> None:
    bad: list[dict[str, Any]] = [{"text": value, "label": "fruit"} for value in (None, "", " ", 7, 1.5, True, {})]
    bad += [{"text": "plum", "label": value} for value in (None, "", " ", 1.5, {})]
    findings = examined(tmp_path, [*SOUND, *bad])
    counts = [count for _, count, _ in of("unusable-row", findings)]
    assert len(counts) == MOST_FAULTS + 1
    assert sum(counts) == len(bad)


def test_a_label_that_train_lacks_is_an_error_unless_it_is_named(tmp_path: Path) -> None:
    findings = examined(tmp_path, SOUND, [text("a", "nut"), text("b")])
    assert of("unknown-label", findings) == [("eval", 1, (1,))]
    named = examined(tmp_path, SOUND, [text("a", "nut"), text("b")], labels=("fruit", "root", "nut"))
    assert of("unknown-label", named) == []


def test_one_label_is_nothing_to_tell_apart(tmp_path: Path) -> None:
    assert of("too-few-labels", examined(tmp_path, [text("a"), text("b")])) == [("train", 1, ())]
    assert of("too-few-labels", examined(tmp_path, [text("a"), text("b", "root")])) == []


# scores


def scored(scores: Iterable[float]) -> list[dict[str, Any]]:
    return [{"text": f"apple number {number}", "score": score} for number, score in enumerate(scores)]


EVEN = [number / 100 for number in range(100)]
BELL = np.random.default_rng(0).normal(size=2000).tolist()
PRICES = np.exp(BELL[:200]).tolist()


@pytest.mark.parametrize(("scores", "found"), [([3.0, 3.0], [("train", 2, ())]), ([3.0, 3.5], [])], ids=str)
def test_one_score_is_nothing_to_learn(scores: list[float], found: list[Any], tmp_path: Path) -> None:
    assert of("one-score", examined(tmp_path, scored(scores), task="regression")) == found


def test_a_score_far_from_the_rest_is_told(tmp_path: Path) -> None:
    findings = examined(tmp_path, scored([*EVEN, 1e9]), scored([*EVEN, -8.0, 1.5]), task="regression")
    assert of("far-score", findings) == [("train", 1, (101,)), ("eval", 1, (101,))]
    message = next(found.message for found in findings if found.rule == "far-score")
    assert (
        message
        == "1 of 101 rows (0.99 %) has scores far from the rest: 1e+09, where nine of ten are from 0.05 to 0.95."
    )


@pytest.mark.parametrize(
    "scores", [BELL, PRICES, [0.0] * 98 + [1.0, 5.0], [*EVEN[:30], 1e9]], ids=["bell", "prices", "mostly 0", "few"]
)
def test_scores_of_a_wide_spread_are_not_far(scores: list[float], tmp_path: Path) -> None:
    assert of("far-score", examined(tmp_path, scored(scores), task="regression")) == []


def test_scores_of_another_unit_are_told(tmp_path: Path) -> None:
    percents = [100 * score for score in EVEN[::5]]
    findings = examined(tmp_path, scored(EVEN), scored(percents), scored(EVEN[::2]), task="regression")
    assert of("other-unit", findings) == [("eval", 19, (2, 3, 4, 5, 6))]


def test_a_few_scores_beyond_trains_are_no_other_unit(tmp_path: Path) -> None:
    assert of("other-unit", examined(tmp_path, scored(BELL[:200]), scored(BELL[200:240]), task="regression")) == []


# the same text twice


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


# labels


def test_spellings_of_one_label_are_told_where_most_rows_have_another(tmp_path: Path) -> None:
    findings = examined(tmp_path, [*SOUND, text("plum", "Fruit"), text("fig", "fruit ")], [text("kiwi", "FRUIT")])
    assert of("label-spelling", findings) == [("train", 2, (25, 26)), ("eval", 1, (1,))]
    assert "'Fruit' beside 'fruit', 'fruit ' beside 'fruit'" in findings[1].message + findings[2].message
    assert of("label-spelling", examined(tmp_path, [*SOUND, text("elm", "fruits")])) == []


def test_uneven_and_rare_labels_are_told_from_a_tenth_on(tmp_path: Path) -> None:
    many = [text(f"apple {n}") for n in range(120)]
    findings = examined(tmp_path, [*many, *(text(f"beet {n}", "root") for n in range(12))])
    assert of("imbalance", findings) == [("train", 2, ())]
    assert of("rare-label", findings) == []
    findings = examined(tmp_path, [*many[:89], *(text(f"beet {n}", "root") for n in range(9))])
    assert of("imbalance", findings) == []
    assert of("rare-label", findings) == [("train", 1, (90, 91, 92, 93, 94))]


def test_a_label_that_a_split_lacks_is_told_unless_it_is_chance(tmp_path: Path) -> None:
    plums = [text(f"plum {n}") for n in range(10)]
    assert of("absent-label", examined(tmp_path, SOUND, plums)) == [("eval", 1, ())]
    assert of("absent-label", examined(tmp_path, SOUND, plums[:9])) == []


# giveaways


@pytest.mark.parametrize(
    ("token", "share", "told"),
    [
        ("__label__fruit", 1.0, True),
        ("src=7", 0.5, True),
        ("src=7", 0.1, False),
        ("(Reuters)", 1.0, True),
        ("juicy", 0.6, False),
    ],
)
def test_a_token_is_a_giveaway_by_what_it_is_and_how_much_of_the_label_has_it(
    tmp_path: Path, token: str, share: float, told: bool
) -> None:
    fruits = [text(f"{token if n < 200 * share else ''} pear{'abcdefghij'[n % 10]}{n}") for n in range(200)]
    roots = [text(f"beet{'abcdefghij'[n % 10]}{n}", "root") for n in range(200)]
    findings = examined(tmp_path, [*fruits, *roots])
    assert [found.split for found in findings if found.rule == "giveaway"] == ["train"] * told


def test_a_narrow_label_may_have_a_word_to_itself(tmp_path: Path) -> None:
    rows = [
        text(f"the {'router' if k == 0 else f'thing {n % 7}'} of {k * n}", f"subject {k}")
        for k in range(20)
        for n in range(100)
    ]
    assert of("giveaway", examined(tmp_path, rows)) == []


# characters


@pytest.mark.parametrize(
    ("rule", "odd", "fine"),
    [
        ("mojibake", "un cafÃ© noir", "un café noir"),
        ("lost-character", "sch\ufffdn", "schön"),
        ("control-character", "a\x12b", "a b"),
        ("unseen-character", "a\u00a0b \u200b", "a b 👩\u200d🚀"),
        ("markup", "good<br />bad &amp; <a href='x'>ugly</a>", "1 < 2 > 0 & <3 <name>"),
    ],
)
def test_damaged_characters_are_told_and_sound_ones_are_not(tmp_path: Path, rule: str, odd: str, fine: str) -> None:
    findings = examined(tmp_path, [*SOUND, text(odd), text(fine)])
    assert of(rule, findings) == [("train", 1, (25,))]
    assert "href" not in str(findings), "attributes are the row's"


@pytest.mark.parametrize(
    ("rule", "odd", "fine"),
    [
        ("quoted-cell", '"she said ""no"" twice"', '"no" and "yes"'),
        ("leading-quote", '"no" and "yes"', 'she said "no"'),
    ],
)
def test_quotes_are_told_in_files_that_are_read_without_quoting(tmp_path: Path, rule: str, odd: str, fine: str) -> None:
    file = tmp_path / "t.tsv"
    file.write_text(f"text\tlabel\n{odd}\tfruit\n{fine}\troot\n", encoding="utf-8")
    assert (rule, (2,)) in [(found.rule, found.lines) for found in found_in(CheckConfig(train=str(file)))]
    file = tmp_path / "t.jsonl"
    file.write_text(json.dumps(text(odd)) + "\n" + json.dumps(text(fine, "root")) + "\n", encoding="utf-8")
    assert of(rule, found_in(CheckConfig(train=str(file)))) == []


# lengths and languages


def test_texts_beyond_the_limit_are_counted_in_words_where_no_model_is_named(tmp_path: Path) -> None:
    findings = examined(tmp_path, [*SOUND, text("word " * 9), text("word " * 8 + "x")], max_length=8)
    assert of("too-long", findings) == [("train", 2, (25, 26))]
    assert "have more than 8 words" in str(findings)


def test_texts_are_counted_by_a_models_tokenizer_where_one_is_named(tmp_path: Path, make_encoder_folder: Any) -> None:
    model = str(make_encoder_folder("bert"))
    findings = examined(tmp_path, [*SOUND, text("one two three four")], max_length=6, model=model)
    assert ("train", 25) not in of("too-long", findings)
    assert "are longer than 6 tokens of" in str(findings)
    assert of("too-long", examined(tmp_path, SOUND, max_length=64, model=model)) == []


def test_a_text_far_longer_than_the_rest_is_told(tmp_path: Path) -> None:
    rows = [text(f"a small text {n}") for n in range(300)]
    assert of("outlier", examined(tmp_path, [*rows, text("word " * 40)])) == [("train", 1, (301,))]
    assert of("outlier", examined(tmp_path, [*rows, text("word " * 8)])) == []


GERMAN = "Bitte bringen Sie den blauen Regenschirm vor halb zehn zum Bahnhof, es soll den ganzen Vormittag regnen, Nummer {}."
ENGLISH = "Please bring the blue umbrella to the station before half past nine, it may rain all morning, number {}."


def test_a_second_language_is_told_from_five_texts_on(tmp_path: Path) -> None:
    english = [text(ENGLISH.format(n)) for n in range(40)]
    german = [text(GERMAN.format(n)) for n in range(5)]
    (found,) = [f for f in examined(tmp_path, [*english, *german]) if f.rule == "language-mix"]
    assert (found.count, found.lines) == (5, (41, 42, 43, 44, 45))
    assert "en 89 %, de 11 %" in found.message
    assert of("language-mix", examined(tmp_path, [*english, *german[:4]])) == []
    assert of("language-mix", examined(tmp_path, [*english, *(text(f"Regen {n}") for n in range(9))])) == [], (
        "too short"
    )


# tags


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


# wrong labels


def test_wrong_labels_are_looked_for_on_request_and_the_wrong_one_comes_first(tmp_path: Path) -> None:
    fruits = [text(f"a sweet juicy apple from tree {n}") for n in range(30)]
    roots = [text(f"an earthy carrot from field {n}", "root") for n in range(30)]
    rows = [*fruits, *roots, text("a sweet juicy apple from tree", "root")]
    findings = examined(tmp_path, rows, rules=("suspect-label",), label_errors=True)
    assert of("suspect-label", findings)[0][2][0] == 61
    assert "logistic regression on TF-IDF" in str(findings)
    assert of("suspect-label", examined(tmp_path, rows)) == []
    assert of("suspect-label", examined(tmp_path, rows[:-1], rules=("suspect-label",))) == []


def test_wrong_labels_are_looked_for_among_several_too(tmp_path: Path) -> None:
    rows = [{"text": f"a sweet apple {n}", "labels": ["fruit"]} for n in range(30)]
    rows += [{"text": f"an earthy carrot {n}", "labels": ["root"]} for n in range(30)]
    rows += [{"text": "a sweet apple", "labels": ["root"]}]
    findings = examined(tmp_path, rows, rules=("suspect-label",), task="multi-label")
    assert of("suspect-label", findings)[0][2][0] == 61


def test_doubts_of_a_judge_that_is_often_wrong_name_no_row(tmp_path: Path) -> None:
    """The same words in both labels: words alone do not tell them apart."""
    rows = [text(f"an apple or a carrot {number % 7}", ("fruit", "root")[number % 2]) for number in range(70)]
    (found,) = [f for f in examined(tmp_path, rows, rules=("suspect-label",)) if f.rule == "suspect-label"]
    assert (found.count, found.lines) == (0, ())
    assert "too few to trust its doubts" in found.message


def test_the_characters_that_were_decoded_wrongly_are_named(tmp_path: Path) -> None:
    findings = examined(tmp_path, [*SOUND, text("so funny ðŸ˜œðŸ˜œ"), text("cafÃ©Ã©"), text("well\x85 yes")])
    (message,) = [found.message for found in findings if found.rule == "mojibake"]
    assert message.endswith("encoding: 'ðŸ˜œ' for '😜', 'Ã©' for 'é', '\\x85' for '…'.")
    assert of("control-character", findings) == [], "it is told once"
