"""Rules about what texts are made of: characters, lengths, languages."""

import json
from pathlib import Path
from typing import Any

import pytest

from trainer.doctor.config import CheckConfig

from .examining import SOUND, examined, found_in, of, text

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


def test_the_characters_that_were_decoded_wrongly_are_named(tmp_path: Path) -> None:
    findings = examined(tmp_path, [*SOUND, text("so funny ðŸ˜œðŸ˜œ"), text("cafÃ©Ã©"), text("well\x85 yes")])
    (message,) = [found.message for found in findings if found.rule == "mojibake"]
    assert message.endswith("encoding: 'ðŸ˜œ' for '😜', 'Ã©' for 'é', '\\x85' for '…'.")
    assert of("control-character", findings) == [], "it is told once"


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
