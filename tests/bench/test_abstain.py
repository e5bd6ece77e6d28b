"""What is counted where a model may say nothing, and which rows its models are trained and calibrated on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench import abstain, plot, runs
from bench.abstain import AbstainConfig, Answers, _at_level, _levels, _read, _train
from trainer import demo


def answers(*rows: tuple[float, bool, bool]) -> Answers:
    confidence, right, inside = zip(*rows, strict=True)
    return Answers(np.array(confidence, dtype=np.float32), np.array(right), np.array(inside))


def test_shares_are_of_what_is_answered_at_the_level() -> None:
    test = answers((0.9, True, True), (0.8, False, True), (0.4, True, True), (0.0, False, True), (0.7, False, False), (0.0, False, False))  # fmt: skip
    found = _at_level("val", 0.9, 0.5, test)
    assert found["precision"] == pytest.approx(1 / 3)
    assert found["coverage"] == 0.5
    assert (found["inside_answered"], found["inside_right"]) == (0.5, 0.5)
    assert found["outside_withheld"] == 0.5
    everything = _at_level("all answered", None, 0.0, test)
    assert everything["coverage"] == pytest.approx(4 / 6), "who says that it is none of the intents says nothing"
    assert everything["inside_answered"] == 0.75
    nothing = _at_level("val", 0.9, 1.0, test)
    assert (nothing["coverage"], nothing["precision"], nothing["outside_withheld"]) == (0.0, None, 1.0)
    assert _at_level("val", 0.99, None, test)["coverage"] is None


def test_levels_learned_with_texts_of_no_intent_are_the_higher_ones() -> None:
    inside = [(0.5 + index / 1000, True, True) for index in range(400)]
    outside = [(0.5 + index / 500, False, False) for index in range(100)]
    found = _levels(answers(*inside, *outside), answers(*inside, *outside))
    assert [row["wanted"] for row in found] == [*abstain.PRECISIONS, *abstain.PRECISIONS]
    val, both = ({row["wanted"]: row["level"] for row in found if row["learned_on"] == on} for on in ("val", "val and none"))  # fmt: skip
    assert val[0.95] == pytest.approx(0.5)
    assert both[0.95] > 0.65


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a folder laid out as CLINC150's, with the demo's intents, and its pairs as texts of none."""
    parts: dict[str, list[list[str]]] = {}
    for ours, theirs in (("train", "train"), ("eval", "val"), ("test", "test")):
        rows = [row.values for row in demo.rows("intent", split=ours)]
        parts[theirs] = [[row["text"], row["label"]] for row in rows]
        parts[f"oos_{theirs}"] = [[row.values["text_pair"], "oos"] for row in demo.rows("pairs", split=ours)]
    (tmp_path / "clinc150").mkdir()
    (tmp_path / "clinc150" / "data_full.json").write_text(json.dumps(parts))
    return tmp_path


@pytest.mark.slow
def test_the_program_measures_a_run_on_the_test_split(
    data: Path,
    make_run: Callable[[str, str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = make_run("bert", "single-label")
    monkeypatch.setattr(abstain, "_train", lambda config, name, splits: run)
    monkeypatch.setattr("sys.argv", ["abstain", f"--data={data}", "--only", "intents"])
    abstain.main()
    table, last = capsys.readouterr().out.rstrip("\n").rsplit("\n", 1)
    model = json.loads(last)["models"]["intents"]
    record = json.loads((run / "run.json").read_text())
    assert model["accuracy"] == pytest.approx(record["test"]["accuracy"], abs=1.5 / 152)  # one may be a tie
    assert (model["num_inside"], model["num_outside"]) == (152, 24)
    assert model["coverage"][-1] == 1
    assert model["levels"][0]["precision"] == pytest.approx(model["precision"][-1])
    assert len(model["levels"]) == 1 + 2 * len(abstain.PRECISIONS)
    (curve, *levels) = plot.PICTURES["abstain"](json.loads(last)).axes[0].get_lines()
    assert curve.get_xdata()[-1] == 1
    assert len(levels) == sum(row["level"] is not None for row in model["levels"][1:])
    assert f"temperature {record['calibration']['temperature']:.3f}" in table


@pytest.mark.parametrize("name", abstain.MODELS)
def test_each_model_is_trained_and_chosen_on_its_own_rows_and_tested_on_intents(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[Any, ...]] = []
    monkeypatch.setattr(runs, "run_module", lambda *arguments: called.append(arguments))
    splits = _read(data / "clinc150" / "data_full.json", every=1)
    run = _train(AbstainConfig(data=data, work=tmp_path / "work", epochs=2), name, splits)
    (module, *flags), *more = called
    assert (module, more) == ("trainer", [])
    assert {"--epochs=2", f"--output={run}", "--learning-rate=0.0002"} <= set(flags)
    with_none = name == "intents and none"
    for flag, split in (("train", "train"), ("eval", "val"), ("test", "test")):
        file = next(given.removeprefix(f"--{flag}=") for given in flags if given.startswith(f"--{flag}="))
        labels = [json.loads(line)["label"] for line in Path(file).read_text().splitlines()]
        outside = len(splits[f"oos_{split}"]) if with_none and split != "test" else 0
        assert (len(labels), labels.count("oos")) == (len(splits[split]) + outside, outside)


def test_a_model_there_is_not_is_refused(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["abstain", f"--data={data}", "--only", "all"])
    with pytest.raises(SystemExit, match=r"error: --only takes 'intents', 'intents and none'\. Got 'all' instead"):
        abstain.main()
