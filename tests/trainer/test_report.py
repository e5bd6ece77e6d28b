"""report.html stands alone and shows what was measured."""

import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from trainer import metrics, report
from trainer.config import TrainConfig
from trainer.objectives import OBJECTIVES
from trainer.wording import NAMES, WORDING

from .reports import (
    LABELS,
    MEASURED,
    PROBABILITIES,
    RECORD,
    TASK_LABELS,
    TRUTH,
    Elements,
    make_history,
    single_label,
    words,
    write,
)


@pytest.mark.parametrize("task", MEASURED)
def test_every_task_has_a_page_with_its_figures(task: str, tmp_path: Path) -> None:
    measured = MEASURED[task]()
    text = words(
        write(
            tmp_path,
            config=TrainConfig(task=task),  # type: ignore[arg-type]
            measured=measured,
            tested=measured,
            labels=TASK_LABELS[task],
            history=make_history(measured.values),
        )
    )
    assert WORDING[task].title in text
    for name, value in measured.values.items():
        assert text.count(NAMES[name].title) == 2  # evaluation and test
        assert f"{value:.3f}" in text
    for score in measured.by_label:
        assert score.label in text
    assert ("Support" in text) == bool(measured.by_label)
    assert (tmp_path / "confusion.png").exists() == (measured.confusion is not None) == ("Confusion matrix" in text)


def test_a_tagger_has_as_many_labels_as_entity_types(tmp_path: Path) -> None:
    assert "· 2 labels" in words(write(tmp_path, config=TrainConfig(task="token"), labels=TASK_LABELS["token"]))


def test_words_are_known_for_every_task_and_metric() -> None:
    assert set(WORDING) == set(OBJECTIVES) == set(MEASURED)
    assert {name for measure in MEASURED.values() for name in measure().values} == set(NAMES)


def test_the_page_is_well_formed_and_loads_nothing(tmp_path: Path) -> None:
    page = write(tmp_path, measured=single_label(), history=make_history({"accuracy": 0.5}))
    elements = Elements(page)
    assert elements.open == []
    assert not re.search(r"https?:|//[a-z]|url\(|@import", page[: page.index("<main>")])
    assert "http://" not in page
    assert "https://" not in page
    assert "script" not in {tag for tag, _ in elements.found}
    for _, attributes in elements.found:
        for name in ("src", "srcset", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "default-src 'none'" in page


def test_pictures_say_what_they_show_and_headers_what_they_head(tmp_path: Path) -> None:
    elements = Elements(write(tmp_path, measured=single_label())).found
    alts = [attributes["alt"] or "" for tag, attributes in elements if tag == "img"]
    assert "The loss is 0.200 at step 10 and 0.050 at step 40" in alts[0]
    assert "4 of 6 rows are on its diagonal" in alts[1]
    assert {attributes["scope"] for tag, attributes in elements if tag == "th"} == {"col", "row"}


@pytest.mark.parametrize("label", ["<script>alert(1)</script>", '"><img src=x>', "a & b"])
def test_labels_and_settings_are_escaped(label: str, tmp_path: Path) -> None:
    labels = (label, "refund", "track")
    page = write(tmp_path, config=TrainConfig(model=label, train=label), measured=single_label(labels), labels=labels)
    assert label not in page
    assert "<script" not in page
    assert not any(attributes.get("src") == "x" for _, attributes in Elements(page).found)


def test_markdown_finds_nothing_to_interpret_in_labels(tmp_path: Path) -> None:
    write(tmp_path, labels=("<b>", "a`b", "two\nlines"))
    assert "`<b>`, `` a`b ``, `two lines`" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_the_worst_label_stands_first_and_one_without_rows_last(tmp_path: Path) -> None:
    labels = (*LABELS, "unseen")
    measured = metrics.single_label(TRUTH, np.pad(PROBABILITIES, ((0, 0), (0, 1))), labels)
    text = words(write(tmp_path, measured=measured, labels=labels))
    table = text[text.index("Label F1") :]
    assert re.findall("cancel|refund|track|unseen", table)[:4] == ["cancel", "track", "refund", "unseen"]
    assert "unseen – – – 0" in table


def test_mistakes_are_named_most_frequent_first(tmp_path: Path) -> None:
    counts = np.array([[5, 1, 0], [3, 2, 0], [0, 0, 4]])
    text = words(write(tmp_path, measured=single_label()._replace(confusion=counts)))
    assert "True Predicted Rows refund cancel 3 cancel refund 1 Labels" in text


def test_a_model_without_mistakes_has_no_table_of_them(tmp_path: Path) -> None:
    text = words(write(tmp_path, measured=single_label()._replace(confusion=np.diag([2, 2, 2]))))
    assert "Most frequent mistakes" not in text


def test_details_are_of_the_test_rows_only_where_nothing_else_was_measured(tmp_path: Path) -> None:
    assert "Of the evaluation rows" in words(write(tmp_path, measured=single_label(), tested=single_label()))
    assert "Of the test rows" in words(write(tmp_path, tested=single_label()))


def test_a_run_without_history_and_evaluation_has_a_page(tmp_path: Path) -> None:
    text = words(write(tmp_path, history=[], record=replace(RECORD, evaluation=None, best_step=None)))
    assert "Nothing was measured" in text
    assert "Throughput" not in text
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("complete", "step", "state"),
    [
        (True, 40, "Complete: 40 steps"),
        (True, 30, "Complete: stopped early at step 30 of 40"),
        (False, 30, "Interrupted at step 30 of 40"),
    ],
)
def test_the_page_says_how_the_run_ended(complete: bool, step: int, state: str, tmp_path: Path) -> None:
    assert state in words(write(tmp_path, record=replace(RECORD, complete=complete, step=step)))


def test_settings_that_differ_stand_beside_their_defaults(tmp_path: Path) -> None:
    text = words(write(tmp_path, config=TrainConfig(epochs=3, class_weights="inverse", labels=("a", "b"))))
    head, everything = text[text.index("differ from") :].split(f"All {len(fields(TrainConfig))} settings", 1)
    assert "--labels a, b not set --epochs 3 10 --class-weights inverse not set" in head
    assert "--batch-size" not in head
    assert "--batch-size 16" in everything
    assert "All are the defaults." in words(write(tmp_path))


@pytest.mark.parametrize(
    ("settings", "averaged", "told", "card"),
    [
        ({}, None, "Weights kept step 20 Weights trained 11.35 of 22.70 million (50.0%) Evaluation", []),
        (
            {"lora_rank": 8, "lora_alpha": 4},
            None,
            "Weights trained 11.35 of 22.70 million (50.0%): adapters of rank 8, alpha 4, and the head; merged Evaluation",
            [
                "It was trained with LoRA: 11.35 of 22.70 million (50.0%): adapters of rank 8, alpha 4, and the head; merged"
            ],
        ),
        (
            {"average": 3},
            (20, 30, 40),
            "Weights kept the mean of steps 20, 30, 40 Weights trained",
            ["Its weights are the mean of steps 20, 30, 40."],
        ),
    ],
    ids=["all", "adapters", "a mean"],
)
def test_page_and_card_say_which_weights_were_trained_and_kept(
    settings: dict[str, int], averaged: tuple[int, ...] | None, told: str, card: list[str], tmp_path: Path
) -> None:
    config, record = TrainConfig(**settings), replace(RECORD, averaged=averaged)
    assert told in words(write(tmp_path, config=config, record=record))
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    found = [start for start in ("It was trained with LoRA", "Its weights are") if start in readme]
    assert len(found) == len(card)
    assert all(sentence in readme for sentence in card)


def test_a_run_that_learnt_nothing_says_so_at_the_top(tmp_path: Path) -> None:
    told = "steps. Nothing was learnt: the loss ended at that of one answer for all texts"
    assert told in words(write(tmp_path, record=replace(RECORD, collapsed=True)))
    assert told not in words(write(tmp_path, record=RECORD))


def test_the_learning_rate_stands_among_the_facts(tmp_path: Path) -> None:
    assert "Highest learning rate 5e-05" in words(write(tmp_path, record=replace(RECORD, learning_rate=5e-5)))


def test_a_mean_is_marked_at_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marked: list[int | None] = []
    monkeypatch.setattr(report, "plot_curves", lambda history, *, best_step, **_: marked.append(best_step))
    write(tmp_path)
    write(tmp_path, record=replace(RECORD, averaged=(20, 40)))
    assert marked == [20, 20, None, None]


def test_time_is_reckoned_from_throughput(tmp_path: Path) -> None:
    """Four times ten steps in 5 seconds."""
    expected = "64.0 texts/s, 1,280 tokens/s, evaluations left out Time 20 s of training Versions"
    assert expected in words(write(tmp_path))


def test_the_share_of_the_peak_stands_beside_the_time(tmp_path: Path) -> None:
    lines = [{**line, "flops_per_s": 3e10, "peak_flops_per_s": 1.2e11} for line in make_history()]
    assert "Share of the peak 25% of the 120 GFLOP/s that matrix products reach here" in words(
        write(tmp_path, history=lines)
    )


def test_page_and_card_say_that_figures_are_of_int8_where_training_was(tmp_path: Path) -> None:
    said = {
        "report.html": "of int8, as an export writes it; trained in it from epoch 9 on",
        "README.md": "They are of the int8 that an export computes in",
    }
    for quant_aware in (2, 0):
        write(tmp_path, config=TrainConfig(quant_aware=quant_aware), measured=single_label())
        for file, sentence in said.items():
            assert (sentence in (tmp_path / file).read_text()) == bool(quant_aware)
