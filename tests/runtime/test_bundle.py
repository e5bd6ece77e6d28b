"""What a bundle must be, and every way in which it may not be one. The bundles are dummy files: their format can be held to account without a model."""

import copy
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import runtime
from runtime.bundle import (
    FORMAT,
    MANIFEST,
    Golden,
    Manifest,
    StoredFile,
    Variant,
    parse,
    read,
    recover,
    write_manifest,
    writing,
)
from runtime.errors import BundleError, BundleTooNew, InputError
from runtime.manifest_fields import (
    DISABLED_OPTIMIZERS,
    FIELDS,
    FILE,
    GOLDEN,
    MAX_PATH_LENGTH,
    REQUIRED_FILES,
    SESSION_OPTIONS,
    TASK_NAMES,
    VARIANT,
    is_plain_path,
    lowest_format,
)

MODEL = "onnx/model.onnx"
CONTENT = {"config.json": "{}", "tokenizer.json": "{}", "tokenizer_config.json": "{}", MODEL: "no model"}
NOT_STRINGS: list[Any] = [None, True, 1, 1.5, [], {}, ""]
NOT_COUNTS: list[Any] = [None, True, 1.0, "1", [], -1]
NOT_NUMBERS: list[Any] = [None, True, "1", [], {}, -0.5, math.nan, math.inf, -math.inf, 10**400]
UNSAFE_NAMES = [
    "../x",
    "/abs",
    "a/../b",
    "..",
    ".",
    "./a",
    "C:\\x",
    "C:/x",
    "a\\b",
    "",
    ".hidden",
    "a/.hidden",
    "a//b",
    "a/",
    "a\n",
    "a b",
    "a\0",
    "~/a",
    "http://a",
    "ä",
    "a" * (MAX_PATH_LENGTH + 1),
]

# The levels of bundle.json: where each stands, its table of fields, and for every field values it must refuse.
LEVELS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "top": ((), FIELDS),
    "variant": (("variants", "fp32"), VARIANT),
    "file": (("files", MODEL), FILE),
    "golden": (("golden",), GOLDEN),
}
WRONG: dict[str, dict[str, list[Any]]] = {
    "top": {
        "format": [None, True, 1.0, "1", [], 0, -1],
        "task": [*NOT_STRINGS, "ner", "single_label", "Token"],
        "labels": [None, "no", {}, [], [1], [None], [""], ["no", "no"], ["no", ["yes"]], ["no", "\ud800"]],
        "pair": [None, 0, 1, "true", [], {}],
        "max_length": [*NOT_COUNTS, 0, 2**31, 10**30],
        "pad_token_id": [*NOT_COUNTS, 2**31],
        "thresholds": [True, 0.5, "0.5", {}, [None], ["0.5"], [1.5], [-0.1], [math.nan], [[0.5]]],
        "temperature": [*NOT_NUMBERS, 0],
        "variants": [None, True, [], {}, "fp32", {"": {}}, {"fp 32": {}}, {"FP32": {}}, {"../x": {}}, {"int8/a": {}}],
        "files": [None, True, [], {}, "config.json", *({name: {}} for name in UNSAFE_NAMES)],
        "made_by": [None, True, [], {}, "portabert", {"": "1"}],
        "golden": [None, True, [], "", 1],
    },
    "variant": {
        "file": [*NOT_STRINGS, *UNSAFE_NAMES],
        "precision": [*NOT_STRINGS, "\udfff"],
        "inputs": [None, "input_ids", {}, [], ["attention_mask"], ["input_ids", "pixels"], ["input_ids", 1]],
        "session_options": [
            None,
            [],
            "",
            {"session.optimized_model_filepath": "/tmp/x"},
            {"session.load_model_format": "ORT"},
            {"ep.dynamic.library": "evil.so"},
            {"register_custom_ops_library": "evil.so"},
            {"": "1"},
            {"session.x64quantprecision": 1},
            {"session.x64quantprecision": "2"},
            {"session.x64quantprecision": None},
            {"session.x64quantprecision": ["1"]},
            {"session.x64quantprecision": {}},
        ],
        "disabled_optimizers": [None, "", "GeluFusionL2", {}, [1], [[]], ["ConstantFolding"], ["gelufusionl2"]],
        "batch_invariant": [None, 0, 1, "true", [], {}],
        "max_error": NOT_NUMBERS,
        "passed": [None, 0, 1, "true", [], {}],
    },
    "file": {
        "size": NOT_COUNTS,
        "sha256": [*NOT_STRINGS, "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n"],
    },
    "golden": {
        "texts": [None, True, "ok", {}, [], [1], [None], [["a"]], [["a", "b", "c"]], [["a", 1]], ["\ud800"]],
        "input_ids": [None, True, {}, [1], [[]], [["1"]], [[-1]], [[1.0]], [[True]], [[2**31]]],
        "logits": [None, True, {}, [None], [["0.1", 0.2]], [[math.nan, 0.0]], [[math.inf, 0.0]], [[10**400, 0.0]]],
    },
}


def sound(**changes: Any) -> dict[str, Any]:
    """Give the fields of a sound manifest of CONTENT."""
    variant = {
        "file": MODEL,
        "precision": "fp32",
        "inputs": ["input_ids", "attention_mask"],
        "session_options": {"session.x64quantprecision": "1"},
        "disabled_optimizers": ["SkipLayerNormFusion"],
        "batch_invariant": True,
        "max_error": 0.0,
        "passed": True,
    }
    return {
        "format": 1,
        "task": "single-label",
        "labels": ["no", "yes"],
        "pair": False,
        "max_length": 64,
        "pad_token_id": 0,
        "thresholds": None,
        "temperature": 1.0,
        "variants": {"fp32": variant},
        "files": {name: asdict(stored(text.encode())) for name, text in CONTENT.items()},
        "made_by": {"portabert": "0.1.0"},
        "golden": {"texts": ["ok"], "input_ids": [[1, 5, 2]], "logits": [[0.25, -0.5]]},
        **changes,
    }


def stored(content: bytes) -> StoredFile:
    return StoredFile(size=len(content), sha256=hashlib.sha256(content).hexdigest())


def changed(level: str, field: str, value: Any) -> dict[str, Any]:
    """Give the fields of a manifest with one value changed, at any level."""
    fields = sound()
    part = fields
    for name in LEVELS[level][0]:
        part = part[name]
    part[field] = copy.deepcopy(value)
    return fields


def dotted(level: str, field: str) -> str:
    """Name a field as messages do."""
    return ".".join([*LEVELS[level][0], field])


def unchecked(fields: dict[str, Any]) -> Manifest:
    """Make the Manifest that a careless writer would hold."""
    variants, golden = fields["variants"], fields["golden"]
    if isinstance(variants, dict):
        variants = {name: Variant(**values) if values else values for name, values in variants.items()}
    if isinstance(golden, dict):
        golden = Golden(**golden)
    return Manifest(**{**fields, "variants": variants, "golden": golden})


def put(folder: Path, fields: object) -> Path:
    """Write bundle.json without any check."""
    text = fields if isinstance(fields, str) else json.dumps(fields)
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return folder


def fill(folder: Path) -> Path:
    """Write the files of a bundle, without its manifest."""
    for name, text in CONTENT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def write_whole(folder: Path, **changes: Any) -> Path:
    """Write a whole bundle."""
    write_manifest(fill(folder), unchecked(sound(**changes)))
    return folder


def problems_of(exc: BundleError) -> list[str]:
    return str(exc).split("\n  ")[1:]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a whole bundle of dummy files."""
    return write_whole(tmp_path / "bundle")


# Fields


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


# Format


def test_a_newer_format_is_refused_naming_both_numbers(folder: Path) -> None:
    """Before anything else of the file is looked at: its other fields may mean what this version cannot know."""
    for newer in (FORMAT + 1, FORMAT + 41, 10**30):
        fields = {"format": newer, "variations": 3}
        with pytest.raises(BundleTooNew, match=rf"has format {newer}; this portabert reads formats 1 to {FORMAT}\."):
            read(put(folder, fields))


def test_format_1_is_read(folder: Path) -> None:
    assert read(put(folder, sound(format=1))).format == 1


# JSON


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not valid JSON"),
        (b"{", "is not valid JSON"),
        (b"\xff\xfe{\x00}\x00", "is not valid JSON"),
        (b"\xef\xbb\xbf{}", "is not valid JSON"),
        (b'{"task": "\xe9"}', "is not valid JSON.*0xe9"),
        (b'{"format": 1, "format": 1}', "is not valid JSON: the key 'format' stands twice"),
        (b'{"format": 1}{}', "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"format":' + b"9" * 10_000 + b"}", "is not valid JSON|has format 9"),
        (b"[]", "must hold one JSON object. Got list instead"),
        (b"null", "must hold one JSON object. Got NoneType instead"),
        (b'"bundle"', "must hold one JSON object. Got str instead"),
        (b"NaN", "must hold one JSON object. Got float instead"),
        (b"{}", "12 problems"),
    ],
)
def test_what_is_no_json_object_is_refused(folder: Path, content: bytes, message: str) -> None:
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=message):
        read(folder)


def test_lists_in_lists_end_in_no_recursion_error(folder: Path) -> None:
    """Around the depth at which Python's JSON reader gives up, what walks or shows the value must not give up otherwise."""
    for depth in range(1, 1100, 13):
        deep = '"logits": ' + "[" * depth + "]" * depth
        with pytest.raises(BundleError):
            read(put(folder, json.dumps(sound()).replace('"logits": [[0.25, -0.5]]', deep)))


def test_a_manifest_cut_anywhere_never_opens(folder: Path) -> None:
    content = (folder / MANIFEST).read_bytes()
    for end in range(0, len(content.rstrip()), 7):
        (folder / MANIFEST).write_bytes(content[:end])
        with pytest.raises(BundleError, match="is not valid JSON"):
            read(folder)


def test_a_manifest_with_one_byte_changed_opens_or_is_refused_and_nothing_else(folder: Path) -> None:
    content = (folder / MANIFEST).read_bytes()
    for position, byte in zip(range(len(content)), cycle([b"9", b"]", b'"', b"\xff", b"-", b"e", b"\\"])):
        (folder / MANIFEST).write_bytes(content[:position] + byte + content[position + 1 :])
        with suppress(BundleError):
            read(folder)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3))


@settings(max_examples=200, deadline=None)
@given(place=st.sampled_from([(level, field) for level in WRONG for field in WRONG[level]]), value=VALUES)
def test_any_value_in_any_field_is_read_or_refused(place: tuple[str, str], value: Any) -> None:
    with suppress(BundleError):
        parse(changed(*place, value), where="here")


# Files


def test_no_folder_and_no_manifest_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle at .*nowhere: no such folder\. Make one with: python -m export"):
        read(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"is not a bundle: it has no bundle\.json"):
        read(fill(tmp_path / "unfinished"))


@pytest.mark.parametrize(
    "name", ["config.json", "onnx/model.onnx", "a/b/c-1_x+y.bin", "0", "a.", "a" * MAX_PATH_LENGTH]
)
def test_plain_names_are_taken(name: str) -> None:
    assert is_plain_path(name)


@pytest.mark.parametrize("level", ["file", "folder", "folder above"])
def test_links_are_refused(folder: Path, level: str) -> None:
    """A link could lead anywhere, and a digest says nothing of what it will lead to tomorrow."""
    deep = "a/b/c.bin"
    linked = {"file": deep, "folder": "a/b", "folder above": "a"}[level]
    (folder / deep).parent.mkdir(parents=True)
    (folder / deep).write_bytes(b"deep")
    fields = sound()
    fields["files"][deep] = asdict(stored(b"deep"))
    assert deep in read(put(folder, fields)).files
    (folder / linked).rename(folder.parent / "elsewhere")
    (folder / linked).symlink_to(folder.parent / "elsewhere")
    with pytest.raises(BundleError, match=r"1 problem\n  a/b/c\.bin is a link, and a bundle holds none"):
        read(folder)
    with pytest.raises(BundleError, match=r"a/b/c\.bin is a link"):
        write_manifest(folder, unchecked(fields))


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_what_is_no_regular_file_is_refused(folder: Path, kind: str) -> None:
    (folder / MODEL).unlink()
    if kind == "folder":
        (folder / MODEL).mkdir()
    else:
        os.mkfifo(folder / MODEL)  # opening it would wait for ever
    with pytest.raises(BundleError, match=r"onnx/model\.onnx is missing"):
        read(folder)


def test_a_manifest_that_does_not_fit_its_files_is_not_written(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    (folder / MODEL).write_text("longer than it was")
    with pytest.raises(BundleError, match=r"onnx/model\.onnx has 18 bytes, bundle\.json says 8"):
        write_manifest(folder, unchecked(sound()))
    assert not (folder / MANIFEST).exists()


# Writing


def litter(target: Path) -> list[str]:
    """Name what lies beside a bundle."""
    return sorted(file.name for file in target.parent.iterdir() if file != target)


def rewrite(target: Path, *, temperature: float) -> None:
    with writing(target, overwrite=True) as fresh:
        write_whole(fresh, temperature=temperature)


def test_a_new_bundle_takes_its_place_readable_by_all_and_leaves_nothing_beside(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "bundle"
    with writing(target, overwrite=False) as fresh:
        assert fresh.parent == target.parent
        assert not target.exists()
        write_whole(fresh)
    assert read(target).temperature == 1.0
    assert target.stat().st_mode & 0o777 == 0o755
    assert litter(target) == []


def test_a_bundle_is_replaced_only_when_asked(folder: Path) -> None:
    with (
        pytest.raises(InputError, match=f"{folder} exists already.*--overwrite"),
        writing(folder, overwrite=False),
    ):
        pytest.fail("the block was entered")
    rewrite(folder, temperature=2.0)
    assert read(folder).temperature == 2.0
    assert litter(folder) == []


@pytest.mark.parametrize("kind", ["folder", "empty folder", "file"])
def test_what_is_no_bundle_is_never_replaced(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "thesis"
    if kind == "file":
        target.write_text("chapter 1")
    else:
        target.mkdir()
    if kind == "folder":
        (target / "chapter-1.txt").write_text("chapter 1")
    with pytest.raises(InputError, match="thesis exists and is not a bundle"), writing(target, overwrite=True):
        pytest.fail("the block was entered")
    assert target.is_file() or [file.name for file in target.iterdir()] == ["chapter-1.txt"] * (kind == "folder")
    assert litter(target) == []


def test_a_target_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"file/bundle cannot be made: .*Choose another --output"),
        writing(tmp_path / "file" / "bundle", overwrite=False),
    ):
        pytest.fail("the block was entered")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, InputError])
def test_an_exception_inside_leaves_the_old_bundle(folder: Path, error: type[BaseException]) -> None:
    def fail(fresh: Path) -> None:
        write_whole(fresh, temperature=2.0)
        raise error

    with pytest.raises(error), writing(folder, overwrite=True) as fresh:
        fail(fresh)
    assert read(folder).temperature == 1.0
    assert litter(folder) == []


def test_a_folder_without_manifest_is_not_published(folder: Path) -> None:
    with pytest.raises(AssertionError, match="only after its manifest"), writing(folder, overwrite=True) as fresh:
        fill(fresh)
    assert read(folder).temperature == 1.0
    assert litter(folder) == []


def test_a_failed_rename_brings_the_old_bundle_back(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def refuse(path: Path, to: Path) -> Path:
        if ".new-" in path.name:
            raise PermissionError(13, "Permission denied")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError):
        rewrite(folder, temperature=2.0)
    assert read(folder).temperature == 1.0
    assert litter(folder) == []


def test_a_link_to_a_bundle_stays_and_what_it_leads_to_is_replaced(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "links" / "current"
    link.parent.mkdir()
    link.symlink_to(folder)
    rewrite(link, temperature=2.0)
    assert link.is_symlink()
    assert read(folder).temperature == read(link).temperature == 2.0
    assert litter(link) == []
    assert litter(folder) == ["links"]


def test_a_target_that_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    code = (
        "import sys; from pathlib import Path; from runtime.bundle import writing\n"
        "with writing(Path(sys.argv[1]), overwrite=True) as fresh:\n"
        "    (fresh / 'half').touch(); print(fresh.name, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        fresh = tmp_path / other.stdout.readline().strip()
        with pytest.raises(InputError, match=f"{target} is being written by another process. Wait for it"):
            rewrite(target, temperature=2.0)
        recover(target)
        assert (fresh / "half").is_file()
        other.kill()
        other.communicate()
    rewrite(target, temperature=2.0)
    assert temperature_of(target) == 2.0
    assert litter(target) == []


@pytest.mark.parametrize("name", ["a[b]", "*", "?"])
def test_names_that_look_like_patterns_touch_their_own_leftovers_alone(tmp_path: Path, name: str) -> None:
    target, other = tmp_path / name, tmp_path / ".x.new-1"
    (tmp_path / f".{name}.new-1").mkdir()
    other.mkdir()
    rewrite(target, temperature=2.0)
    assert read(target).temperature == 2.0
    assert litter(target) == [other.name]


def aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def fresh_of(target: Path) -> Path:
    return target.with_name(f".{target.name}.new-abc")


def killed_before_the_manifest(target: Path) -> None:
    fill(fresh_of(target))


def killed_before_the_renames(target: Path) -> None:
    write_whole(fresh_of(target), temperature=2.0)


def killed_between_the_renames(target: Path) -> None:
    killed_before_the_renames(target)
    target.rename(aside(target))


def killed_before_the_removal(target: Path) -> None:
    killed_between_the_renames(target)
    fresh_of(target).rename(target)


def killed_in_the_removal(target: Path) -> None:
    killed_before_the_removal(target)
    (aside(target) / MANIFEST).unlink()
    (aside(target) / MODEL).unlink()


def killed_in_the_removal_and_then_deleted_by_hand(target: Path) -> None:
    killed_in_the_removal(target)
    shutil.rmtree(target)


@pytest.mark.parametrize(
    ("kill", "before", "after"),
    [
        (killed_before_the_manifest, 1.0, 1.0),
        (killed_before_the_renames, 1.0, 1.0),
        (killed_between_the_renames, None, 1.0),
        (killed_before_the_removal, 2.0, 2.0),
        (killed_in_the_removal, 2.0, 2.0),
        (killed_in_the_removal_and_then_deleted_by_hand, None, None),
    ],
)
def test_the_next_writer_puts_right_what_a_killed_one_left(
    folder: Path, kill: Callable[[Path], None], before: float | None, after: float | None
) -> None:
    """`before` and `after` tell the old bundle (1.0), the new one (2.0) or none: before the next writer begins, and when it does."""
    kill(folder)
    assert temperature_of(folder) == before
    recover(folder)
    assert temperature_of(folder) == after
    assert litter(folder) == []
    kill(folder if after else write_whole(folder))
    rewrite(folder, temperature=3.0)
    assert temperature_of(folder) == 3.0
    assert litter(folder) == []


def temperature_of(target: Path) -> float | None:
    """Tell bundles apart by a field; None where there is none, an error where there is half of one."""
    return read(target).temperature if target.exists() else None


KILLED_WRITER = """
import os, shutil, signal, sys
from dataclasses import replace
from pathlib import Path
from runtime.bundle import read, write_manifest, writing

OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.truncate")

def write(target, kill_at):
    seen = 0
    def count(event, arguments):
        nonlocal seen
        if event in OPERATIONS:
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1
    manifest = read(target)
    sys.addaudithook(count)  # told of every operation before it happens
    with writing(target, overwrite=True) as fresh:
        for name in manifest.files:
            (fresh / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(target / name, fresh / name)
        write_manifest(fresh, replace(manifest, temperature=2.0))

source, places = Path(sys.argv[1]), Path(sys.argv[2])
for kill_at in range(1000):
    target = places / str(kill_at) / "bundle"
    shutil.copytree(source, target)
    child = os.fork()
    if not child:
        write(target, kill_at)
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


def test_a_writer_killed_before_any_of_its_file_operations_leaves_the_old_bundle_or_the_new(
    folder: Path, tmp_path: Path
) -> None:
    """kill -9 for real, in a process of its own, once before each file, folder or rename that Python reports."""
    places = tmp_path / "places"
    subprocess.run([sys.executable, "-c", KILLED_WRITER, folder, places], check=True, timeout=120)
    targets = [places / name / "bundle" for name in sorted(os.listdir(places), key=int)]
    found = [temperature_of(target) for target in targets]
    assert len(found) > 20
    assert re.fullmatch("(1.0 )+None (2.0 )+", " ".join(map(str, found)) + " "), found
    for target in targets:
        rewrite(target, temperature=3.0)
        assert temperature_of(target) == 3.0
        assert litter(target) == []
