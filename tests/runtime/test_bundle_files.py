"""A bundle that is read: its format, its JSON, its files."""

import json
import os
from contextlib import suppress
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.bundle import (
    FORMAT,
    MANIFEST,
    parse,
    read,
    write_manifest,
)
from runtime.errors import BundleError, BundleTooNew
from runtime.manifest_fields import (
    MAX_PATH_LENGTH,
    is_plain_path,
)

from .bundles import MODEL, WRONG, changed, fill, put, sound, stored, unchecked

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
