"""Comparing recipes: every way gets the same rows, a peer is set as its example scripts say, and what is done is not done again."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from bench import calibration, finetuning, quality, runs
from bench.datasets import RECIPES, Recipe, Subset, write_rows, write_splits
from bench.example_script import SETTINGS, _encode
from bench.finetuning import SEEDS, WAYS, _difference
from bench.intervals import student
from trainer import demo
from trainer.checkpoint import open_run, read_record
from trainer.config import TrainConfig
from trainer.data import load_data
from trainer.losses import IGNORED
from trainer.objectives import OBJECTIVES

ROWS = [{"text": f"text {index}", "label": "ab"[index % 2]} for index in range(60)]


@pytest.fixture
def recipe() -> Recipe:
    return Recipe({"train": lambda data: iter(ROWS), "test": lambda data: iter(ROWS[:5])}, epochs=1)


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_rows_are_held_out_as_the_trainer_holds_them_out(recipe: Recipe, tmp_path: Path) -> None:
    files = write_splits(recipe, tmp_path, tmp_path / "rows")
    everything = tmp_path / "all.jsonl"
    everything.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    data = load_data(TrainConfig(train=str(everything)))
    assert [row["text"] for row in read(files["eval"])] == [record.text for record in data.eval]
    assert [row["text"] for row in read(files["train"])] == [record.text for record in data.train]
    assert len(read(files["test"])) == 5


def test_rows_that_lie_there_are_not_written_again(recipe: Recipe, tmp_path: Path) -> None:
    files = write_splits(recipe, tmp_path, tmp_path)
    files["test"].write_text("{}\n")
    assert read(write_splits(recipe, tmp_path, tmp_path)["test"]) == [{}]


def test_where_one_file_is_missing_all_are_written_anew(recipe: Recipe, tmp_path: Path) -> None:
    """An old folder may have all training rows in one file; what is held out of them must not stay there."""
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    files = write_splits(recipe, tmp_path, tmp_path)
    assert not {row["text"] for row in read(files["train"])} & {row["text"] for row in read(files["eval"])}


def test_halves_take_their_test_rows_from_the_training_rows_and_leave_the_others_to_train_on(
    recipe: Recipe, tmp_path: Path
) -> None:
    whole, halves = (write_splits(recipe, tmp_path, tmp_path / str(halves), halves=halves) for halves in (False, True))
    train, test = read(halves["train"]), read(halves["test"])
    assert abs(len(train) - len(test)) <= 1
    assert sorted(row["text"] for row in train + test) == sorted(row["text"] for row in read(whole["train"]))
    assert read(halves["eval"]) == read(whole["eval"])


def test_every_data_set_has_seeds_and_every_task_the_peers_settings() -> None:
    assert SEEDS.keys() == quality.SEEDS.keys() == RECIPES.keys()
    assert SETTINGS.keys() == OBJECTIVES.keys()
    for task, settings in SETTINGS.items():
        assert settings.metric == OBJECTIVES[task].best_metric


def test_the_peers_metrics_are_right() -> None:
    assert SETTINGS["single-label"].score(np.array([[1, 0], [0, 1.0]]), np.array([0, 0]), "ab") == 0.5
    assert SETTINGS["multi-label"].score(np.array([[1, -1], [1, 1.0]]), np.array([[1, 0], [0, 1]]), "ab") == 0.8
    assert SETTINGS["regression"].score(np.array([[1], [2], [3.0]]), np.array([10, 20, 30]), ()) == pytest.approx(1)
    tags = np.array([[0, 1, IGNORED, 2], [0, 0, 0, IGNORED]])
    found = np.eye(3)[[[0, 1, 0, 2], [0, 1, 0, 0]]]
    assert SETTINGS["token"].score(found, tags, ("O", "B-x", "I-x")) == pytest.approx(2 / 3), "one found, one invented"


def test_a_words_first_token_has_its_tag(make_encoder_folder: Any) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(make_encoder_folder("bert"))
    row = {"words": ["parcel", "unpronounceable", "came"], "tags": ["B-x", "O", "B-x"]}
    encoded = _encode(tokenizer, [row], ("O", "B-x", "I-x"))[0]
    words = tokenizer(row["words"], is_split_into_words=True).word_ids()
    assert len(words) > 5, "a word of several tokens is among them"
    firsts = [words.index(number) for number in range(3)]
    assert [encoded["labels"][first] for first in firsts] == [1, 0, 1]
    assert encoded["labels"].count(IGNORED) == len(words) - 3


def test_targets_of_texts_are_what_transformers_wants(make_encoder_folder: Any) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(make_encoder_folder("bert"))
    rows = [{"text": "a", "label": "b"}, {"text": "a", "labels": ["b"]}, {"text": "a", "score": 2}]
    targets = [_encode(tokenizer, [row], ("a", "b"))[0]["labels"] for row in rows]
    assert targets == [1, [0.0, 1.0], 2.0]


def test_a_subset_of_the_test_rows_is_measured_as_if_it_were_a_file(
    make_run: Callable[[str, str], Path], tmp_path: Path
) -> None:
    checkpoint = open_run(make_run("bert", "token"))
    rows: list[dict[str, Any]] = [{"text": f"the parcel {number} came late", "entities": []} for number in range(9)]
    entity = {"start": 9, "end": 13, "label": checkpoint.labels[1][2:]}
    rows += [{"text": f"write to Rome {number}", "entities": [entity]} for number in range(4)]
    files = {"eval": tmp_path / "eval.jsonl", "test": tmp_path / "test.jsonl"}
    for name, held in (("eval", rows), ("test", rows), ("alone", rows[9:])):
        file = files.setdefault(name, tmp_path / f"{name}.jsonl")
        file.write_text("".join(json.dumps(row) + "\n" for row in held))
    subset = Subset("Rome", lambda text: "Rome" in text)
    job = finetuning.Job("wnut17", files, tmp_path, 0, subset)
    found = finetuning._measure(checkpoint, job)
    alone = finetuning._measure(checkpoint, job._replace(files={**files, "test": files["alone"]}, subset=None))
    assert (found["test"]["rows"], found["test, Rome"]["rows"]) == (13, 4)
    assert found["test, Rome"] == alone["test"]
    assert alone.keys() == {"metric", "eval", "test"}


def test_ways_of_ours_are_trained_once_with_the_same_rows_and_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[str, ...]] = []
    monkeypatch.setattr(runs, "run_module", lambda *arguments: called.append(arguments))
    files = {split: tmp_path / f"{split}.jsonl" for split in ("train", "eval", "test")}
    job = finetuning.Job("mrpc", files, tmp_path / "run", 3)
    for way in ("plain", "quant-aware", "layer decay"):
        WAYS[way].train(job)
    for flags in called:
        assert {f"--train={files['train']}", f"--eval={files['eval']}", "--seed=3", "--epochs=5"} <= set(flags)
        assert not any("test" in Path(flag).name for flag in flags if "jsonl" in flag)
    assert ["--quant-aware=1" in flags for flags in called] == [False, True, False]
    assert ["--layer-decay=0.9" in flags for flags in called] == [False, False, True]
    assert all("--learning-rate=0.0001" in flags for flags in called)
    job.run.mkdir()
    (job.run / "run.json").write_text('{"complete": true}')
    WAYS["plain"].train(job)
    assert len(called) == 3


def test_the_plain_way_is_what_its_words_say() -> None:
    """Its flags are spelt out, so that other defaults would not change it."""
    assert (
        WAYS["plain"].settings
        == "AdamW at 1e-4, linear, a tenth of warm-up, the same rate for all layers, 32 rows a step"
    )
    assert finetuning.PLAIN == {
        "batch_size": 32,
        "learning_rate": 1e-4,
        "warmup_fraction": 0.1,
        "layer_decay": 1,
        "reinit_layers": 0,
        "weight_decay": 0.01,
    }
    assert set(finetuning.PLAIN) <= set(TrainConfig.__dataclass_fields__)


def test_quality_measures_finetunings_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []
    run = tmp_path / "trec" / "portabert" / "1"
    monkeypatch.setattr(quality, "result_of", lambda config, *which: done.append(which))
    monkeypatch.setattr(quality, "run_module", lambda *arguments: done.append(arguments[:2]))
    monkeypatch.setattr(quality, "_measure", lambda *places: {"places": [str(place) for place in places]})
    config = quality.QualityConfig(data=tmp_path, work=tmp_path)
    with pytest.raises(SystemExit, match=r"error: .*trec/portabert/1 is not here, only what it reached"):
        quality._run(config, "trec", 1)
    run.mkdir(parents=True)
    for _ in range(2):
        quality._run(config, "trec", 1)
    assert done == [("trec", "portabert", 1), ("trec", "portabert", 1), ("export", str(run))]
    found = json.loads((run.parent / "1-quality.json").read_text())
    assert found["places"] == [str(run), str(run.parent / "1-bundle"), str(tmp_path / "trec" / "rows" / "test.jsonl")]


@pytest.mark.parametrize(
    ("data", "shape", "view"), [("trec", "single-label", "intent"), ("goemotions", "multi-label", "topics")]
)
def test_calibration_measures_the_runs_that_are_there_on_their_test_rows(
    data: str,
    shape: str,
    view: str,
    make_run: Callable[[str, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = make_run("bert", shape)
    shutil.copytree(run, tmp_path / data / "portabert" / "3")
    (tmp_path / data / "rows").mkdir()
    for split in ("eval", "test"):
        write_rows(tmp_path / data / "rows" / f"{split}.jsonl", (row.values for row in demo.rows(view, split=split)))
    monkeypatch.setattr("sys.argv", ["bench", f"--work={tmp_path}"])
    capsys.readouterr()  # of the training
    calibration.main()
    table, last = capsys.readouterr().out.rstrip("\n").rsplit("\n", 1)
    (found,) = json.loads(last)["results"]
    record = read_record(run)
    assert record.calibration is not None
    assert (found["data"], found["seed"], found["rows"]) == (data, 3, record.calibration.num_rows)
    assert table.splitlines()[1].split()[:3] == [data, "3", str(found["rows"])]
    assert found["temperature"] == pytest.approx(record.calibration.temperature, rel=1e-3)
    for when in ("before", "after"):  # what the trainer noted itself, of the same rows
        noted = getattr(record.calibration.worth["test"], when)._asdict()
        assert found[when] == pytest.approx(noted, rel=1e-3)
    if record.calibration.thresholds is not None:
        assert list(found["thresholds"]) == ["at .5", "own", "shipped"]
        assert found["thresholds"]["shipped"] == pytest.approx(record.test, rel=1e-3)


def test_calibration_without_runs_says_how_to_make_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench", f"--work={tmp_path}"])
    with pytest.raises(SystemExit, match=r"has no runs\. Make some with: python -m bench\.finetuning --ways portabert"):
        calibration.main()


def document(tmp_path: Path, **changed: str) -> Path:
    found = {"rows": 1, "raw": {"accuracy": 0.5}, "shipped": {"accuracy": 0.5}}
    result = {
        "data": "trec",
        "way": "plain",
        "seed": 0,
        "seconds": 60,
        "metric": "accuracy",
        "eval": found,
        "test": found,
    }
    int8 = {"figures": {}, "in_fp32": {"int8": 3}}
    content = {
        "machine": {"processor": "elsewhere"},
        "ways": {"plain": WAYS["plain"].settings, **changed},
        "results": [{**result, "int8": int8}, {**result, "seed": 1, "machine": {"processor": "a third"}}],
    }
    file = tmp_path / "known.json"
    file.write_text(json.dumps(content))
    return file


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Give a function: flags → the document that the program prints; nothing is trained."""

    def run(*flags: str) -> dict[str, Any]:
        monkeypatch.setattr(
            "sys.argv", ["finetuning", f"--data={tmp_path}", f"--work={tmp_path}", "--no-train", *flags]
        )
        finetuning.main()
        return dict(json.loads(capsys.readouterr().out.splitlines()[-1]))

    return run


def test_results_of_other_machines_are_taken_over_and_say_whose_they_are(answer: Any, tmp_path: Path) -> None:
    first, second = answer("--known", str(document(tmp_path)))["results"]
    assert (first["seed"], first["machine"]) == (0, {"processor": "elsewhere"})
    assert (second["seed"], second["machine"]) == (1, {"processor": "a third"})
    assert "int8" not in first
    own = tmp_path / "trec" / "plain" / "0.json"
    own.write_text(json.dumps({**first, "machine": {"processor": "here"}}))
    again = answer("--known", str(document(tmp_path)), "--ways", "plain")["results"]
    assert [result["machine"]["processor"] for result in again] == ["here", "a third"]
    exported = json.loads((tmp_path / "trec" / "plain" / "0-int8.json").read_text())
    assert exported == {"figures": {}, "in_fp32": {"int8": 3}}


def test_results_of_halves_stay_among_themselves(answer: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"known\.json: its results were made without --halves"):
        answer("--halves", "--known", str(document(tmp_path)))
    assert len(answer("--known", str(document(tmp_path)))["results"]) == 2
    assert answer("--halves")["results"] == []


def test_results_of_other_settings_are_refused(answer: Any, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"known\.json: its 'plain' is of other settings than ours: twice the rate"):
        answer("--known", str(document(tmp_path, plain="twice the rate")))


@pytest.mark.parametrize(("flag", "known"), [("--only", "'trec', 'mrpc'"), ("--ways", "'portabert', 'plain'")])
def test_a_data_set_or_a_way_there_is_not_is_refused(answer: Any, flag: str, known: str) -> None:
    with pytest.raises(SystemExit, match=rf"error: {flag} takes {known}, .*\. Got 'other' instead"):
        answer(flag, "other")


def test_a_difference_is_paired_by_seed() -> None:
    def result(value: float) -> dict[str, Any]:
        return {"test": {"shipped": {"accuracy": value}}, "eval": {"shipped": {"accuracy": value / 2}}}

    first = {0: result(0.5), 1: result(0.7), 2: result(0.9)}
    second = {1: result(0.8), 2: result(0.9)}
    assert _difference(first, first, "accuracy", "test") == "–"
    assert _difference(first, {2: result(0.8)}, "accuracy", "test") == "-0.1000"
    assert _difference(first, {2: result(0.8)}, "accuracy", "eval") == "-0.0500"
    interval = student([0.1, 0.0])
    assert _difference(first, second, "accuracy", "test") == f"+0.0500 [{interval.low:+.4f}, {interval.high:+.4f}]"


def test_students_interval_is_the_known_one() -> None:
    """Of two differences the quantile is that of one degree of freedom, 12.706."""
    interval = student([1.0, 3.0])
    half = 12.7062 * math.sqrt(2) / math.sqrt(2)
    assert (interval.low, interval.high) == pytest.approx((2 - half, 2 + half), rel=1e-4)
