"""Each rule of the data doctor finds the row it is about, and leaves a row alone that only looks like it; here what any task may have wrong."""

from pathlib import Path
from typing import Any

import pytest

from trainer.doctor.config import CheckConfig
from trainer.doctor.rules import RULES
from trainer.doctor.unusable import MOST_FAULTS

from .examining import SOUND, examined, found_in, of, text


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
