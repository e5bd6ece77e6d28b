"""report.html stands alone and shows what was measured; README.md is a model card; the plots are pictures."""

import io
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from trainer import metrics, report
from trainer.calibration import SIGMOID, SOFTMAX, Evidence, Likelihood, learn
from trainer.calibration_report import write_sections
from trainer.checkpoint import RunRecord
from trainer.config import TrainConfig
from trainer.data import Evaluation
from trainer.evaluate import Shipped
from trainer.metrics import Metrics
from trainer.objectives import OBJECTIVES
from trainer.plots import plot_confusion, plot_curves
from trainer.report import write_report
from trainer.wording import NAMES, WORDING

LABELS = ("cancel", "refund", "track")
RECORD = RunRecord(
    constant_loss=1.0,
    complete=True,
    step=40,
    total_steps=40,
    best_step=20,
    labels=LABELS,
    max_length=128,
    evaluation=Evaluation(source="/home/someone/dev.csv", sha256="a" * 64, split="eval", num_rows=6),
    eval=None,
    test=None,
    model_sha256="b" * 64,
    made_by={"portabert": "0.1.0", "torch": "2.9.0"},
    num_weights=22_700_000,
    num_trained=11_350_000,
)
TRUTH = np.array([0, 0, 1, 1, 2, 2])
PROBABILITIES = np.eye(3, dtype=np.float32)[[0, 1, 1, 1, 2, 0]]


def single_label(labels: tuple[str, ...] = LABELS) -> Metrics:
    return metrics.single_label(TRUTH, PROBABILITIES, labels)


MEASURED: dict[str, Callable[[], Metrics]] = {
    "single-label": single_label,
    "multi-label": lambda: metrics.multi_label(np.eye(3, dtype=bool)[TRUTH], PROBABILITIES, LABELS),
    "regression": lambda: metrics.regression(np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.4, 0.9], dtype=np.float32)),
    "token": lambda: metrics.spans([["B-place", "O"], ["B-date", "I-date"]], [["B-place", "O"], ["B-date", "O"]]),
}
TASK_LABELS = {
    "single-label": LABELS,
    "multi-label": LABELS,
    "regression": ("score",),
    "token": ("O", "B-date", "I-date", "B-place", "I-place"),
}


def make_history(values: dict[str, float] | None = None) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for step in (10, 20, 30, 40):
        line = {
            "loss": 2 / step,
            "learning_rate": 1e-4 * (1 - step / 40),
            "seconds": 5.0,
            "texts_per_s": 64.0,
            "tokens_per_s": 1280.0,
        }
        lines.append({"step": step, "epoch": step / 20, **line})
        if values and step % 20 == 0:
            lines.append({"step": step, "epoch": step / 20, "eval": values})
    return lines


def write(folder: Path, **changes: Any) -> str:
    """Write a report and give its page."""
    given: dict[str, Any] = {
        "config": TrainConfig(),
        "record": RECORD,
        "history": make_history(),
        "measured": None,
        "tested": None,
        "labels": LABELS,
    }
    write_report(folder, **{**given, **changes})
    return (folder / "report.html").read_text(encoding="utf-8")


def words(page: str) -> str:
    """Give what a reader sees of a page, without styles and pictures."""
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())


def front_matter(folder: Path) -> dict[str, Any]:
    _, head, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    found: dict[str, Any] = yaml.safe_load(head)
    return found


class Elements(HTMLParser):
    """Every element of a page with its attributes, and whether each was closed in order."""

    VOID = frozenset({"meta", "link", "img", "source"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


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
    assert "--batch-size 32" in everything
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


# Calibration


def shipped_with(logits: Any, truth: Any, likelihood: Likelihood, *, precision: float | None = None) -> Shipped:
    evidence = Evidence(np.asarray(logits, dtype=np.float32), truth, len(truth), likelihood)
    learned = learn(evidence, abstain_precision=precision)
    learned = learned._replace(worth={**learned.worth, "test": learned.assess(evidence)})
    return Shipped(None, None, learned, evidence)


def overconfident(*, precision: float | None = None) -> Shipped:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(600, 3)) * 2
    truth = (logits + generator.gumbel(size=logits.shape)).argmax(axis=1)
    return shipped_with(logits * 3, truth, SOFTMAX, precision=precision)


def tagged() -> Shipped:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(600, 3)) - [0, 1, 9]
    truth = (generator.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    return shipped_with(logits, truth, SIGMOID)


def test_the_section_on_calibration_has_the_figures_and_pictures_in_both_schemes(tmp_path: Path) -> None:
    shipped = overconfident(precision=0.8)
    learned = shipped.calibration
    assert learned is not None
    answered = learned.worth["eval"].answered
    assert answered is not None
    page = write(tmp_path, sections=write_sections(shipped, labels=LABELS))
    text = words(page)
    worth = learned.worth["eval"]
    assert f"divided by a temperature of {learned.temperature:.3f}, which makes the model less sure" in text
    figures = (worth.before.ece, worth.after.ece, worth.before.nll, worth.after.nll)
    assert "Evaluation " + " ".join(f"{value:.4f}" for value in figures) in text
    assert f"Evaluation {answered.answered} of 600 {answered.precision:.3f}" in text
    assert f"Answers with a probability below {learned.abstain_below:.4f} are marked as abstained" in text
    assert "From which probability" not in text
    elements = Elements(page)
    assert elements.open == []
    alts = [attributes["alt"] or "" for tag, attributes in elements.found if tag == "img"]
    assert [alt.partition(" against ")[0] for alt in alts[-2:]] == ["How often decisions are right", "The share of right answers"]  # fmt: skip
    dark = [attributes for tag, attributes in elements.found if tag == "source" and "dark" in str(attributes["media"])]
    assert len(dark) >= 3


def test_thresholds_stand_beside_their_labels(tmp_path: Path) -> None:
    shipped = tagged()
    assert shipped.calibration is not None
    thresholds = shipped.calibration.thresholds
    assert thresholds is not None
    text = words("".join(write_sections(shipped, labels=("a & b", "refund", "never"))))
    assert f"a &amp; b {thresholds[0]:.3f}" in text
    assert f"never {thresholds[2]:.3f} – – 0" in text, "a label no row has"


def test_what_could_not_be_learned_stands_first(tmp_path: Path) -> None:
    few = shipped_with(np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 1]), SOFTMAX, precision=0.9)
    text = words("".join(write_sections(few, labels=LABELS)))
    assert text.startswith(
        "Calibration Probabilities are left as they are: 100 evaluation rows are needed, there are 4."
    )
    assert "--abstain-precision 0.9 is not reached" in text
    assert "No level reaches it; nothing is withheld." in text
    assert write_sections(Shipped(None, None, None, None), labels=LABELS) == []


def test_page_and_card_say_that_figures_are_of_int8_where_training_was(tmp_path: Path) -> None:
    said = {
        "report.html": "of int8, as an export writes it; trained in it from epoch 9 on",
        "README.md": "They are of the int8 that an export computes in",
    }
    for quant_aware in (2, 0):
        write(tmp_path, config=TrainConfig(quant_aware=quant_aware), measured=single_label())
        for file, sentence in said.items():
            assert (sentence in (tmp_path / file).read_text()) == bool(quant_aware)


def test_the_card_says_what_others_must_do_to_reach_its_figures(tmp_path: Path) -> None:
    learned = overconfident(precision=0.8).calibration
    write(tmp_path, record=replace(RECORD, calibration=learned))
    assert learned is not None
    card = (tmp_path / "README.md").read_text()
    assert f"Logits are divided by {learned.temperature:.4g} before they become probabilities." in card
    assert f"Answers with a probability below {learned.abstain_below:.4g} are too unsure to be used." in card
    labels = tagged().calibration
    assert labels is not None
    assert labels.thresholds is not None
    write(tmp_path, record=replace(RECORD, calibration=labels))
    assert (
        f"From which probability a label counts: `cancel` {labels.thresholds[0]:.3f}, `refund`"
        in (tmp_path / "README.md").read_text()
    )
    write(tmp_path)
    assert "Calibration" not in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("num_labels", [2, 28, 150])
def test_matrices_of_any_size_are_pictures_in_both_schemes(num_labels: int) -> None:
    counts = np.eye(num_labels, dtype=np.int64) * 12 + np.eye(num_labels, k=1, dtype=np.int64)
    picture = plot_confusion(counts, [f"label {number}" for number in range(num_labels)])
    for png, corner in ((picture.light, 255), (picture.dark, 17)):
        image = Image.open(io.BytesIO(png)).convert("RGB")
        assert image.getpixel((0, 0))[0] == corner  # type: ignore[index]  # three channels
        assert len(image.getcolors(2**24) or []) > 10
    assert 0.5 * num_labels < picture.width < 3000


@pytest.mark.parametrize("label", ["$x", "$\\frac$", "标签", "a\tb\x00", "🙂", "long " * 40])
def test_any_label_can_stand_on_an_axis(label: str) -> None:
    assert plot_confusion(np.eye(2, dtype=np.int64), [label, "other"]).width > 100


@pytest.mark.parametrize("steps", [[], [10], [10, 20]])
def test_curves_are_drawn_from_as_little_as_one_line(steps: list[int]) -> None:
    history: list[dict[str, Any]] = [
        {"step": step, "epoch": 1.0, "eval": {"spearman": -0.1, "rmse": 9.0}} for step in steps
    ]
    picture = plot_curves(history, best_step=None, width_inches=4)
    assert (picture is None) == (not steps)


def test_loss_png_is_a_picture(tmp_path: Path) -> None:
    write(tmp_path, history=make_history({"accuracy": 0.5}))
    with Image.open(tmp_path / "loss.png") as image:
        assert image.width > 1000
        assert len(image.convert("RGB").getcolors(2**24) or []) > 10


def test_importing_the_report_imports_no_matplotlib() -> None:
    code = "import sys, trainer.report; sys.exit(any(name.startswith('matplotlib') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_card_opens_with_metadata_of_the_hub(tmp_path: Path) -> None:
    write(tmp_path, measured=single_label())
    found = front_matter(tmp_path)
    assert found.pop("model-index")[0]["name"] == "all-MiniLM-L6-v2-single-label"
    assert found == {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "base_model": "sentence-transformers/all-MiniLM-L6-v2",
        "tags": ["portabert", "single-label"],
        "metrics": ["accuracy", "f1"],
    }


def test_the_card_names_no_file_and_no_folder(tmp_path: Path) -> None:
    config = TrainConfig(model="/home/someone/model", train="/home/someone/train.csv", task="token")
    write(tmp_path, config=config, labels=TASK_LABELS["token"], measured=MEASURED["token"]())
    assert front_matter(tmp_path)["pipeline_tag"] == "token-classification"
    assert "base_model" not in front_matter(tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "someone" not in card
    assert "`date`, `place`" in card


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["single-label", "multi-label", "regression", "token", "pair"])
def test_a_real_run_has_a_report_and_its_card_s_code_runs(
    shape: str, make_run: Callable[[str, str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("bert", shape)
    assert "Training report" in (run / "report.html").read_text(encoding="utf-8")
    card = (run / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    capsys.readouterr()
    exec(code.replace("RUN", str(run)), {})
    assert capsys.readouterr().out.startswith(("[", "{"))
