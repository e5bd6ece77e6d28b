"""Figures by the values of a column of the evaluation rows: read beside the rows, refused where it names no groups."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.errors import InputError
from runtime.records import Record
from trainer.config import TrainConfig
from trainer.data import load_data
from trainer.intervals import wilson
from trainer.objectives import OBJECTIVES
from trainer.slices import MAX_CHARACTERS, MAX_VALUES, NOT_GIVEN, as_json, measure_slices
from trainer.slices_report import write_slices


def write(file: Path, values: list[Any]) -> str:
    rows = [
        {"text": f"text {number}", "label": "ab"[number % 2], "language": value} for number, value in enumerate(values)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def slices(tmp_path: Path, values: list[Any], **settings: Any) -> list[str]:
    train = tmp_path / "train.jsonl"
    train.write_text("".join(json.dumps({"text": f"t {n}", "label": "ab"[n % 2]}) + "\n" for n in range(8)))
    files = {"train": str(train), "eval": write(tmp_path / "dev.jsonl", values)}
    return load_data(TrainConfig(**{**files, "slice_column": "language", **settings})).slices


def test_the_column_is_read_beside_the_rows(tmp_path: Path) -> None:
    assert slices(tmp_path, ["de", "en", None, "", 7, True]) == ["de", "en", NOT_GIVEN, NOT_GIVEN, "7", "True"]
    assert slices(tmp_path, ["de"] * 4, slice_column=None) == []


def test_rows_held_out_keep_their_values(tmp_path: Path) -> None:
    rows = ["de" if number % 3 else "en" for number in range(40)]
    data = load_data(
        TrainConfig(train=write(tmp_path / "rows.jsonl", rows), slice_column="language", eval_fraction=0.5)
    )
    assert data.slices == [rows[int(record.text.removeprefix("text "))] for record in data.eval]
    assert len(data.slices) == 20


def test_an_unknown_column_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dev\.jsonl has no column 'lang'\. It has: text, label, language\."):
        slices(tmp_path, ["de"], slice_column="lang")
    with pytest.raises(InputError, match=r"demo:intent has no column 'language'\. It has: text, label\."):
        load_data(TrainConfig(slice_column="language"))


@pytest.mark.parametrize("value", ["x" * (MAX_CHARACTERS + 1), ["de"], {"a": 1}])
def test_a_column_that_holds_no_names_is_refused(value: Any, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"--slice-column language must hold names of groups.* at .*dev\.jsonl:2 instead"
    ):
        slices(tmp_path, ["de", value])


def test_a_column_of_too_many_values_is_refused(tmp_path: Path) -> None:
    assert len(slices(tmp_path, list(range(MAX_VALUES)))) == MAX_VALUES
    with pytest.raises(InputError, match=r"at most 50 groups of evaluation rows\. Got 51 different values"):
        slices(tmp_path, list(range(MAX_VALUES + 1)))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"slice_column": "text"}, "--slice-column must not be a column of texts. Got 'text' instead."),
        ({"train": "a.csv", "eval_fraction": 0.0, "slice_column": "x"}, "--slice-column needs rows to evaluate on"),
        ({"show_rows": -1}, "--show-rows must be 0 or more. Got -1 instead."),
        ({"track": ("wandb", "wandb")}, "--track must be different names. Got ('wandb', 'wandb') instead."),
    ],
)
def test_flags_that_cannot_be_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=re.escape(problem)):
        TrainConfig(**settings).validate()


def measure() -> Any:
    truth, groups = "aabbaab", ["de", "de", "en", "de", "en", "de", "pt"]
    logits = [np.array(row, dtype=np.float32) for row in [(1, 0), (1, 0), (1, 0), (0, 1), (1, 0), (0, 1), (0, 1)]]
    records = [Record(text=str(row), label=label) for row, label in enumerate(truth)]
    return measure_slices(groups, logits, records, None, objective=OBJECTIVES["single-label"], labels=("a", "b"))


def test_each_slice_is_measured_by_itself_the_largest_first() -> None:
    found = measure()
    assert [(part.value, part.num_rows, part.values["accuracy"]) for part in found] == [("de", 4, 0.75), ("en", 2, 0.5), ("pt", 1, 1.0)]  # fmt: skip
    assert found[0].intervals == {"accuracy": wilson(3, 4)}
    assert (as_json(found) or {})["en"] == {"num_rows": 2, **found[1].values}
    assert as_json([]) is None


def test_the_report_has_a_line_a_slice_with_its_interval() -> None:
    (page,) = write_slices(measure(), "language & more")
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    low, high = wilson(3, 4)
    assert "by the column language &amp; more , the most frequent value first" in text
    assert "Value Rows Accuracy 95 % interval Macro F1 de 4 0.750" in text
    assert f"0.750 {low:.3f}–{high:.3f}" in text
    assert write_slices([], None) == []
