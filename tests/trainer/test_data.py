"""Rows are read and checked as a whole, before any model is loaded."""

import gc
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import InputError
from runtime.problems import DataError
from runtime.records import Record, Span
from trainer.__main__ import main
from trainer.config import TrainConfig
from trainer.data import hold_out, load_data, read_evaluation, read_labelled
from trainer.objectives import natural_sort

Pairs = list[tuple[str, str]]
SOUND: Pairs = [(f"message {number}", ("cat", "dog")[number % 2]) for number in range(20)]


def write(file: Path, rows: Pairs) -> str:
    file.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows), encoding="utf-8")
    return str(file)


def write_json(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def notes_of(**settings: Any) -> str:
    return "\n".join(load_data(TrainConfig(**settings)).notes)


# labels that do not fit


def test_an_unknown_label_in_eval_is_told_with_file_line_label_and_the_known_ones(tmp_path: Path) -> None:
    train, dev = write(tmp_path / "train.csv", SOUND), write(tmp_path / "dev.csv", [("a", "cat"), ("b", "dgo")])
    with pytest.raises(DataError) as caught:
        load_data(TrainConfig(train=train, eval=dev))
    assert f"{dev}:3: label 'dgo' is not among the labels 'cat', 'dog'." in str(caught.value)
    assert "--labels" in str(caught.value)


def test_problems_of_train_eval_and_test_are_told_together(tmp_path: Path) -> None:
    files = {name: write(tmp_path / f"{name}.csv", [*SOUND, ("", "cat")]) for name in ("train", "eval", "test")}
    with pytest.raises(DataError, match="3 problems") as caught:
        load_data(TrainConfig(**files))
    for file in files.values():
        assert f"{file}:22: column 'text' is empty" in str(caught.value)


def test_unknown_labels_of_eval_and_test_are_told_together(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", SOUND)
    dev, test = write(tmp_path / "dev.csv", [("a", "owl")]), write(tmp_path / "test.csv", [("b", "elk"), ("c", "fox")])
    with pytest.raises(DataError, match="3 problems") as caught:
        load_data(TrainConfig(train=train, eval=dev, test=test))
    assert [problem.line for problem in caught.value.problems] == [2, 2, 3]


def test_an_entity_type_unknown_to_training_is_told(tmp_path: Path) -> None:
    def row(label: str) -> dict[str, Any]:
        return {"text": "to Porto", "entities": [{"start": 3, "end": 8, "label": label}]}

    train = write_json(tmp_path / "train.jsonl", [row("place")])
    dev = write_json(tmp_path / "dev.jsonl", [row("place"), row("palce")])
    with pytest.raises(DataError, match=r"dev\.jsonl:2: label 'palce' is not among the labels"):
        load_data(TrainConfig(train=train, eval=dev, task="token"))


def test_other_rows_for_a_trained_model_must_keep_to_its_labels(tmp_path: Path) -> None:
    file = write(tmp_path / "new.csv", [("a", "cat"), ("b", "owl")])
    config = TrainConfig(train="train.csv")
    with pytest.raises(DataError, match=r"new\.csv:3: label 'owl' is not among the model's labels 'cat', 'dog'"):
        read_labelled(config, file, ("cat", "dog"))
    assert [record.label for record in read_labelled(config, file, ("cat", "dog", "owl"))] == ["cat", "owl"]


def test_long_lists_of_labels_are_cut_in_messages(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", [(f"text {number}", f"intent {number}") for number in range(40)])
    dev = write(tmp_path / "dev.csv", [("a", "none")])
    with pytest.raises(DataError, match=r"'intent 11' … \(40\)\. Correct it"):
        load_data(TrainConfig(train=train, eval=dev))


def test_one_label_alone_is_nothing_to_learn(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", [("a", "cat"), ("b", "cat")])
    with pytest.raises(InputError, match=r"at least 2 different labels to learn\. Got \['cat'\] instead"):
        load_data(TrainConfig(train=train))


def test_a_missing_label_column_is_told_with_those_that_are_there(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", SOUND)
    with pytest.raises(InputError, match=r"no column 'intent'; .*train\.csv has: text, label\. .*--label-column"):
        load_data(TrainConfig(train=train, label_column="intent"))


# held-out rows


def records(num_texts: int, *, copies: int = 1) -> list[Record]:
    return [
        Record(text=f"text {number}", label=("rare" if number % 5 == 0 else "common"), line=number)
        for number in range(num_texts)
        for _ in range(copies)
    ]


def test_held_out_rows_keep_the_share_of_each_label_and_every_row_has_one_place() -> None:
    rows = records(100)
    train, held_out = hold_out(rows, fraction=0.2, seed=0)
    assert Counter(record.label for record in held_out) == {"common": 16, "rare": 4}
    assert sorted([r.line for r in train] + [r.line for r in held_out]) == list(range(100))
    assert [r.line for r in held_out] == sorted(r.line for r in held_out), "the file's order is kept"


def test_holding_out_depends_on_the_seed_alone() -> None:
    rows = records(100)
    first, again, other = (hold_out(rows, fraction=0.2, seed=seed)[1] for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_equal_texts_stay_together() -> None:
    train, held_out = hold_out(records(50, copies=3), fraction=0.3, seed=0)
    assert len(held_out) == 45
    assert not {r.text for r in train} & {r.text for r in held_out}


def test_too_few_rows_to_hold_any_out_are_told(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", [("a", "cat"), ("b", "dog")])
    with pytest.raises(InputError, match=r"too few rows: 2 to train on, 0 to evaluate on\. Give more rows, or --eval"):
        load_data(TrainConfig(train=train))


@pytest.mark.parametrize("eval_file", [True, False])
def test_the_evaluation_rows_are_read_again_exactly(tmp_path: Path, eval_file: bool) -> None:
    train = write(tmp_path / "train.csv", SOUND)
    config = TrainConfig(train=train, eval=write(tmp_path / "dev.csv", SOUND[:6]) if eval_file else None, seed=3)
    data = load_data(config)
    assert data.evaluation is not None
    assert data.evaluation.split == ("eval" if eval_file else "holdout")
    assert data.evaluation.num_rows == len(data.eval) == (6 if eval_file else 2)
    assert Path(data.evaluation.source).is_absolute()
    assert read_evaluation(config, data.evaluation) == data.eval


def test_the_demos_evaluation_rows_are_read_again_exactly() -> None:
    config = TrainConfig()
    data = load_data(config)
    assert data.evaluation is not None
    assert data.evaluation.source == "demo:intent"
    assert read_evaluation(config, data.evaluation) == data.eval


def test_changed_or_missing_evaluation_rows_are_refused(tmp_path: Path) -> None:
    config = TrainConfig(train=write(tmp_path / "train.csv", SOUND))
    evaluation = load_data(config).evaluation
    assert evaluation is not None
    write(tmp_path / "train.csv", [*SOUND, ("one more", "cat")])
    with pytest.raises(InputError, match=rf"changed since the model was trained .*was {evaluation.sha256[:12]}"):
        read_evaluation(config, evaluation)
    (tmp_path / "train.csv").unlink()
    with pytest.raises(InputError, match=r"train\.csv: cannot be read"):
        read_evaluation(config, evaluation)


def test_without_evaluation_all_rows_train_and_that_is_said(tmp_path: Path) -> None:
    data = load_data(TrainConfig(train=write(tmp_path / "train.csv", SOUND), eval_fraction=0.0))
    assert (len(data.train), data.eval, data.evaluation) == (20, [], None)
    assert "the last weights are kept, unmeasured" in "\n".join(data.notes)


# warnings


def test_sound_rows_bring_no_warning(tmp_path: Path) -> None:
    assert "warning" not in notes_of(train=write(tmp_path / "train.csv", SOUND))


def test_leaking_rows_are_counted(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", SOUND)
    dev, test = write(tmp_path / "dev.csv", [*SOUND[:3], ("new", "cat")]), write(tmp_path / "test.csv", SOUND[:2])
    notes = notes_of(train=train, eval=dev, test=test)
    assert "warning: leak: eval: 3 of 4 rows (75 %) stand in train too" in notes
    assert "warning: leak: test: 2 of 2 rows (100 %) stand in train too" in notes


def test_a_shared_first_text_of_a_pair_is_no_leak(tmp_path: Path) -> None:
    def rows(second: str) -> list[dict[str, Any]]:
        return [{"text": "same", "text_pair": f"{second} {n}", "label": "ab"[n]} for n in range(2)]

    train, dev = write_json(tmp_path / "train.jsonl", rows("x")), write_json(tmp_path / "dev.jsonl", rows("y"))
    assert "warning" not in notes_of(train=train, eval=dev, text_pair_column="text_pair")


@pytest.mark.parametrize(
    ("task", "column", "values"),
    [
        ("single-label", "label", ["cat", "dog"]),
        ("multi-label", "labels", [["cat"], ["cat", "dog"]]),
        ("regression", "score", [0.5, 0.25]),
        ("token", "entities", [[{"start": 0, "end": 4, "label": "kind"}], []]),
    ],
)
def test_texts_with_conflicting_truths_are_counted(tmp_path: Path, task: str, column: str, values: list[Any]) -> None:
    rows = [{"text": "same text", column: value} for value in (*values, values[0])]
    train = write_json(tmp_path / "train.jsonl", [*rows, {"text": "other", column: values[0]}])
    notes = notes_of(train=train, eval_fraction=0.0, task=task)
    assert "warning: conflict: train: 1 text occurs with different truths, in 3 rows" in notes


# the labels' order


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["10", "2", "1"], ("1", "2", "10")),
        (["b", "A", "c", "B"], ("A", "B", "b", "c")),
        (["label 10", "label 9", "Label 1"], ("Label 1", "label 9", "label 10")),
        (["x", "3", "-1", "x2", "x10", ""], ("", "3", "-1", "x", "x2", "x10")),
        (["v1.10", "v1.9", "v1"], ("v1", "v1.9", "v1.10")),
        (["entailment", "entailment"], ("entailment",)),
        (["²", "٣", "2"], ("2", "٣", "²")),
    ],
)
def test_labels_sort_as_people_sort_them(names: list[str], expected: tuple[str, ...]) -> None:
    assert natural_sort(names) == natural_sort(reversed(names)) == expected


def test_labels_named_keep_their_order_and_may_be_unused(tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", SOUND)
    assert load_data(TrainConfig(train=train)).labels == ("cat", "dog")
    assert load_data(TrainConfig(train=train, labels=("owl", "dog", "cat"))).labels == ("owl", "dog", "cat")
    with pytest.raises(DataError, match="label 'cat' is not among the labels 'dog', 'owl'"):
        load_data(TrainConfig(train=train, labels=("dog", "owl")))


def test_entity_types_become_bio_tags_in_the_order_named() -> None:
    types = ("product", "error_code", "date", "place", "person")
    data = load_data(TrainConfig(train="demo:entities", task="token", labels=types))
    assert data.labels == ("O", *(f"{prefix}-{name}" for name in types for prefix in "BI"))


# Hugging Face data sets


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Keep `datasets` off the network, its cache in the test's folder, and its progress bars away."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.mark.usefixtures("offline")
def test_a_local_folder_of_parquet_is_read_with_the_names_of_its_class_labels(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    (tmp_path / "set").mkdir()
    for split, texts in (("train", ["a", "b", "c"]), ("test", ["d"])):
        table = datasets.Dataset.from_dict({"text": texts, "label": [1, 0, 1][: len(texts)]}, features=features)
        table.to_parquet(str(tmp_path / "set" / f"{split}-00000.parquet"))
    data = load_data(TrainConfig(train=f"hf:{tmp_path / 'set'}:train", eval=f"hf:{tmp_path / 'set'}:test"))
    assert [(record.text, record.label) for record in data.train] == [("a", "yes"), ("b", "no"), ("c", "yes")]
    assert [(record.text, record.label) for record in data.eval] == [("d", "yes")]
    assert data.evaluation is not None
    assert read_evaluation(TrainConfig(train="x"), data.evaluation) == data.eval


@pytest.mark.usefixtures("offline")
def test_tagged_words_of_a_data_set_are_read_with_the_names_of_their_tags(tmp_path: Path) -> None:
    import datasets

    tags = datasets.ClassLabel(names=["O", "B-place", "I-place"])
    kinds = {"tokens": datasets.Value("string"), "ner_tags": tags}
    features = datasets.Features({name: datasets.Sequence(kind) for name, kind in kinds.items()})
    table = datasets.Dataset.from_dict({"tokens": [["in", "New", "York"]], "ner_tags": [[0, 1, 2]]}, features=features)
    (tmp_path / "set").mkdir()
    table.to_parquet(str(tmp_path / "set" / "train.parquet"))
    settings = {"task": "token", "text_column": "tokens", "label_column": "ner_tags", "eval_fraction": 0.0}
    data = load_data(TrainConfig(train=f"hf:{tmp_path / 'set'}:train", **settings))
    assert data.train[0].spans == (Span(start=3, end=11, label="place"),)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # datasets leaves the file open
@pytest.mark.usefixtures("offline")
def test_a_local_folder_of_csv_is_read(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "train.csv", SOUND)
    data = load_data(TrainConfig(train=f"hf:{tmp_path / 'set'}:train"))
    gc.collect()  # here, so that no other test hears of that file
    assert len(data.train) + len(data.eval) == 20


@pytest.mark.usefixtures("offline")
def test_a_data_set_that_cannot_be_had_is_told() -> None:
    with pytest.raises(InputError, match=r"hf:no-such-set:train cannot be had: .*HF_HUB_OFFLINE"):
        load_data(TrainConfig(train="hf:no-such-set:train"))


@pytest.mark.parametrize("name", ["hf:imdb", "hf::train", "hf:imdb:"])
def test_a_data_set_without_name_or_split_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"hf:NAME:SPLIT .*Got '{name}' instead"):
        load_data(TrainConfig(train=name))


def test_a_demo_view_that_is_not_there_lists_those_that_are() -> None:
    views = "demo:intent, demo:topics, demo:urgency, demo:entities, demo:pairs"
    with pytest.raises(InputError, match=f"must be one of {views}. Got 'demo:NOPE' instead"):
        load_data(TrainConfig(train="demo:NOPE"))


# before any model


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("latin.csv", "text,label\nfein,ja\nschön,nein\n".encode("latin-1"), r"latin\.csv:3: byte 0xf6 .*--encoding"),
        ("null.jsonl", b'{"text": "a", "label": "x"}\n{"text": null, "label": "y"}\n', r"null\.jsonl:2: .*is NULL"),
        ("gap.jsonl", b'{"text": "a", "label": "x"}\n{"text": "b", "label": null}\n', r"gap\.jsonl:2: .*is NULL"),
        ("none.csv", b"text,label\n", r"none\.csv: has no rows"),
    ],
)
def test_bad_rows_are_told_before_a_model_is_loaded_or_a_folder_made(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes,
    told: str,
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr("trainer.prepare.load_pretrained", lambda name, **_: loaded.append(name))
    (tmp_path / name).write_bytes(content)
    assert main([f"--train={tmp_path / name}", f"--output={tmp_path / 'run'}"]) == 1
    assert re.search(told, capsys.readouterr().err)
    assert loaded == []
    assert not (tmp_path / "run").exists()
