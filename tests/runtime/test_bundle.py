"""What a bundle's manifest must say, and every way in which it may not."""

import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime.bundle import (
    MANIFEST,
    parse,
    read,
    write_manifest,
)
from runtime.errors import BundleError
from runtime.manifest_fields import (
    DISABLED_OPTIMIZERS,
    REQUIRED_FILES,
    SESSION_OPTIONS,
    TASK_NAMES,
    lowest_format,
)

from .bundles import LEVELS, MODEL, WRONG, changed, dotted, put, sound, unchecked, write_whole


def problems_of(exc: BundleError) -> list[str]:
    return str(exc).split("\n  ")[1:]


def test_what_is_written_is_what_is_read(folder: Path) -> None:
    assert asdict(read(folder)) == asdict(parse(sound(), where="here"))
    assert json.loads((folder / MANIFEST).read_text(encoding="utf-8")) == sound()


def test_every_field_of_every_level_has_wrong_values_in_this_table() -> None:
    assert {level: set(fields) for level, (_, fields) in LEVELS.items()} == {
        level: set(fields) for level, fields in WRONG.items()
    }
    assert all(len(values) >= 5 for fields in WRONG.values() for values in fields.values())


@pytest.mark.parametrize(
    ("level", "field", "value"),
    [(level, field, value) for level in WRONG for field in WRONG[level] for value in WRONG[level][field]],
    ids=lambda value: ascii(value)[:24],
)
def test_reader_and_writer_refuse_a_wrong_value_and_name_field_and_value(
    folder: Path, level: str, field: str, value: Any
) -> None:
    fields = changed(level, field, value)
    with pytest.raises(BundleError) as writer:
        write_manifest(folder, unchecked(fields))
    assert read(folder).format == 1, "a refused manifest was written"
    with pytest.raises(BundleError) as reader:
        read(put(folder, fields))
    assert problems_of(reader.value) == problems_of(writer.value)
    name, shown = dotted(level, field), repr(value)[:77]
    assert any(f"'{name}" in problem and shown in problem for problem in problems_of(reader.value))


@pytest.mark.parametrize(("level", "field"), [(level, field) for level in LEVELS for field in LEVELS[level][1]])
def test_a_missing_field_is_refused_by_name(folder: Path, level: str, field: str) -> None:
    fields = changed(level, field, None)
    part = fields
    for name in LEVELS[level][0]:
        part = part[name]
    del part[field]
    with pytest.raises(BundleError, match=re.escape(f"1 problem\n  field '{dotted(level, field)}' is missing")):
        read(put(folder, fields))


@pytest.mark.parametrize("level", LEVELS)
def test_an_unknown_field_is_refused_by_name(folder: Path, level: str) -> None:
    with pytest.raises(BundleError, match=re.escape(f"1 problem\n  unknown field '{dotted(level, 'extra')}'")):
        read(put(folder, changed(level, "extra", 1)))


@pytest.mark.parametrize(("where", "name"), [(("variants",), "int8"), (("files",), "README.md")])
@pytest.mark.parametrize("value", [None, 1, [], "x"])
def test_a_variant_and_a_file_must_be_objects(folder: Path, where: tuple[str, ...], name: str, value: Any) -> None:
    fields = sound()
    fields[where[0]][name] = value
    with pytest.raises(
        BundleError, match=re.escape(f"field '{where[0]}.{name}' must be an object. Got {value!r} instead")
    ):
        read(put(folder, fields))


@pytest.mark.parametrize("value", [None, 1, "", [], {}])
def test_a_version_must_be_a_string(folder: Path, value: Any) -> None:
    with pytest.raises(BundleError, match=re.escape("'made_by.torch' must be a non-empty string. Got " + repr(value))):
        read(put(folder, sound(made_by={"torch": value})))


def test_all_problems_are_told_together(folder: Path) -> None:
    fields = sound(temperature=0, labels=[], extra=1)
    del fields["pair"]
    fields["variants"]["fp32"]["passed"] = "yes"
    fields["files"][MODEL]["size"] = -1
    del fields["golden"]["texts"]
    with pytest.raises(BundleError) as caught:
        read(put(folder, fields))
    assert str(caught.value).startswith(f"{folder / MANIFEST}: 7 problems\n")
    for name in (
        "temperature",
        "labels",
        "extra",
        "pair",
        "variants.fp32.passed",
        f"files.{MODEL}.size",
        "golden.texts",
    ):
        assert sum(f"'{name}'" in problem for problem in problems_of(caught.value)) == 1


# Later fields


def test_a_bundle_with_an_abstain_level_has_format_2_and_others_lack_the_field(tmp_path: Path) -> None:
    plain, sure = sound(), sound(format=2, abstain_below=0.75)
    assert (lowest_format(plain), lowest_format(sure), lowest_format({"abstain_below": None})) == (1, 2, 1)
    for name, fields, level in (("plain", plain, None), ("sure", sure, 0.75)):
        folder = write_whole(tmp_path / name, **fields)
        assert json.loads((folder / MANIFEST).read_text(encoding="utf-8")) == fields
        assert read(folder).abstain_below == level
    assert read(put(folder, sound(format=2))).abstain_below is None, "a format that is higher than it had to be"


@pytest.mark.parametrize("value", [None, True, "0.5", [], {}, 0, -0.1, 1.1, math.nan])
def test_an_abstain_level_must_be_a_probability(folder: Path, value: Any) -> None:
    with pytest.raises(
        BundleError, match=re.escape("'abstain_below' must be a probability above 0. Got " + repr(value))
    ):
        read(put(folder, sound(format=2, abstain_below=value)))


def test_an_abstain_level_is_unknown_to_format_1(folder: Path) -> None:
    fields = sound(abstain_below=0.75)
    for refuse in (lambda: read(put(folder, fields)), lambda: write_manifest(folder, unchecked(fields))):
        with pytest.raises(BundleError, match="1 problem\n  unknown field 'abstain_below'"):
            refuse()


@pytest.mark.parametrize(
    ("task", "more"), [("multi-label", {"thresholds": [0.5, 0.5]}), ("regression", {"labels": ["x"]}), ("token", {})]
)
def test_only_a_model_with_one_label_abstains(folder: Path, task: str, more: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=f"'abstain_below' belongs to task 'single-label' .* the task is '{task}'"):
        read(put(folder, sound(format=2, abstain_below=0.75, task=task, **more)))


def test_missing_and_cut_files_are_told_together(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / MODEL).write_text("no")
    with pytest.raises(BundleError, match=r"2 problems\n  config.json is missing.*\n  onnx/model.onnx has 2 bytes, "):
        read(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"thresholds": [0.5, 0.5]}, "'thresholds' belong to task 'multi-label' .* the task is 'single-label'"),
        ({"task": "multi-label"}, "'thresholds' belong to task 'multi-label' .* the task is 'multi-label'"),
        ({"task": "multi-label", "thresholds": [0.5]}, r"one number a label, 2\. Got 1 instead"),
        ({"task": "regression"}, r"a regression has one label\. Got 2 instead"),
        ({"pair": True}, r"'golden.texts' 0 must be a pair\. Got 'ok' instead"),
        (
            {"golden": {"texts": [["a", "b"]], "input_ids": [[1]], "logits": [[0.0, 0.0]]}},
            r"'golden.texts' 0 must be a string\. Got \('a', 'b'\) instead",
        ),
        (
            {"golden": {"texts": ["a", "b"], "input_ids": [[1]], "logits": [[0.0, 0.0]]}},
            r"as many texts as input_ids and logits\. Got 2, 1 and 1 instead",
        ),
        ({"golden": {"texts": ["a"], "input_ids": [[1]], "logits": [[0.0]]}}, "'golden.logits' 0 must have 2 finite"),
        ({"golden": {"texts": ["a"], "input_ids": [[1]], "logits": [0.5]}}, "'golden.logits' 0 must have 2 finite"),
        (
            {"golden": {"texts": ["a"], "input_ids": [[1]], "logits": [[[0.0, 0.0]]]}},
            "'golden.logits' 0 must have 2 finite",
        ),
        (
            {"task": "token", "golden": {"texts": ["a"], "input_ids": [[1]], "logits": [0.5]}},
            "'golden.logits' 0 must have 2 finite numbers a row",
        ),
        (
            {"task": "token", "golden": {"texts": ["a"], "input_ids": [[1]], "logits": [[0.0, 0.0]]}},
            "'golden.logits' 0 must have 2 finite numbers a row",
        ),
        (
            {"task": "token", "golden": {"texts": ["a"], "input_ids": [[1, 2]], "logits": [[[0.0, 0.0]]]}},
            r"'golden.logits' 0 must have one row a token, 2\. Got 1 instead",
        ),
    ],
)
def test_fields_that_contradict_each_other_are_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        read(put(folder, sound(**changes)))
    with pytest.raises(BundleError, match=message):
        write_manifest(folder, unchecked(sound(**changes)))


@pytest.mark.parametrize("name", [*REQUIRED_FILES, MODEL])
def test_a_file_that_is_needed_and_not_listed_is_refused(folder: Path, name: str) -> None:
    fields = sound()
    del fields["files"][name]
    with pytest.raises(BundleError, match=f"{name}' is not listed in 'files'"):
        read(put(folder, fields))


def test_every_session_option_and_optimizer_of_the_lists_is_taken(folder: Path) -> None:
    for value in ("0", "1"):
        fields = changed("variant", "session_options", dict.fromkeys(SESSION_OPTIONS, value))
        fields["variants"]["fp32"]["disabled_optimizers"] = sorted(DISABLED_OPTIMIZERS)
        assert read(put(folder, fields)).variants["fp32"].session_options == dict.fromkeys(SESSION_OPTIONS, value)


def test_no_session_option_of_the_list_writes_files_or_loads_code() -> None:
    assert not [name for name in SESSION_OPTIONS if re.search("file|path|library|custom|load|dump|profil", name)]


def test_the_manifest_knows_the_tasks_there_are() -> None:
    assert tuple(runtime.TASKS) == TASK_NAMES
