"""The host profile: what is written is what is read, and a field that is wrong is refused with its value."""

import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from runtime.errors import InputError
from runtime.host import check_targets
from runtime.profile import Choice, Profile, parse, read, write, write_text
from runtime.profile_fields import CHOICE, CONDITIONS, FIELDS, HOST, LARGEST_BATCH, MAX_THREADS, MEASUREMENT

MakeProfile = Callable[..., Profile]

NOT_NAMES: list[Any] = [None, True, 1, [], {}, ""]
NOT_COUNTS: list[Any] = [None, True, 1.0, "1", [], 0, -1]
NOT_POSITIVE: list[Any] = ["1", True, [], 0, -1.5, math.nan, math.inf, 10**400]
NOT_SHARES: list[Any] = ["1", True, [], -0.01, 1.01, math.nan, math.inf]
NOT_TRUTHS: list[Any] = [0, 1, "true", []]

# By field: values that are refused. "measurements" stands for the first of them, "winners" for the one of the goal.
WRONG: dict[str, list[Any]] = {
    "format": [None, "1", True, 0, 2, 1.0],
    "date": [None, 20261125, "", "yesterday", "2026-13-01", []],
    "goal": [None, "", "speed", ["latency"]],
    "winners": [None, [], {}, {"speed": {}}, {"throughput": None}],
    "default": [[], {}, "int8", 1],
    "gain": NOT_POSITIVE,
    "measurements": [None, {}, [], [1], [{}]],
    "host": [None, [], {}, "this"],
    "host.bundle": [None, "", "0" * 63, "0" * 65, "G" * 64, "../x"],
    "host.processor": NOT_NAMES,
    "host.threads": [*NOT_COUNTS, MAX_THREADS + 1],
    "host.versions": [None, [], {}, {"numpy": 2}, {"numpy": None}],
    "conditions": [None, [], {}],
    "conditions.num_texts": NOT_COUNTS,
    "conditions.mean_tokens": NOT_POSITIVE,
    "conditions.own_texts": [None, *NOT_TRUTHS],
    "conditions.reference": NOT_NAMES,
    "conditions.floor": [None, *NOT_SHARES],
    "conditions.batch_invariant": [None, *NOT_TRUTHS],
    "conditions.quality": [True, 1, [], ""],
    "conditions.complete": [None, *NOT_TRUTHS],
    "measurements.choice": [None, [], {}],
    "measurements.texts_per_s": NOT_POSITIVE,
    "measurements.latency_ms": NOT_POSITIVE,
    "measurements.agreement": NOT_SHARES,
    "measurements.quality": ["1", True, [], -1.01, 1.01, math.nan],
    "measurements.golden_error": ["1", True, [], -0.1, math.nan, math.inf],
    "measurements.passes": [None, True, 1.0, "1", -1],
    "measurements.out": [True, 1, [], ""],
    **{
        f"{where}.{field}": values
        for where in ("default", "winners", "measurements.choice")
        for field, values in {
            "engine": [None, 1, "", "ort", "ort:cpu", "os", "/usr/lib/x.so", ["ort-cpu"]],
            "variant": [None, 1, "", "../fp32", "onnx/model.onnx", "FP32", "/etc/passwd", "a b"],
            "threads": [*NOT_COUNTS, MAX_THREADS + 1],
            "streams": [True, 1.0, "1", [], 0, -1, MAX_THREADS + 1],
            "spinning": NOT_TRUTHS,
            "max_batch_tokens": [*NOT_COUNTS, LARGEST_BATCH + 1],
        }.items()
    },
}


def as_json(profile: Profile) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(profile)))


def level(fields: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """Find the object that holds a field, and the field's name in it."""
    *where, name = path.split(".")
    for step in where:
        fields = {"measurements": lambda f: f["measurements"][0], "winners": lambda f: f["winners"]["throughput"]}.get(
            step, lambda f, step=step: f[step]
        )(fields)
    return fields, name


def every_field() -> Iterator[str]:
    yield from FIELDS
    for where, table in (("host", HOST), ("conditions", CONDITIONS), ("measurements", MEASUREMENT)):
        yield from (f"{where}.{name}" for name in table)
    for where in ("default", "winners", "measurements.choice"):
        yield from (f"{where}.{name}" for name in CHOICE)


def test_what_is_written_is_what_is_read(tmp_path: Path, make_profile: MakeProfile) -> None:
    write(tmp_path / "new" / "profile.json", make_profile())
    assert read(tmp_path / "new" / "profile.json") == make_profile()


def test_wrong_values_are_listed_for_every_field() -> None:
    assert sorted(WRONG) == sorted(every_field())


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, values in WRONG.items() for value in values])
def test_a_wrong_value_is_refused_and_named(path: str, value: Any, make_profile: MakeProfile) -> None:
    fields = as_json(make_profile())
    holder, name = level(fields, path)
    holder[name] = value
    with pytest.raises(InputError) as caught:
        parse(fields, where="profile p.json")
    assert str(caught.value).startswith("profile p.json: ")
    assert name in str(caught.value)


@pytest.mark.parametrize("path", list(every_field()))
def test_a_missing_field_is_told(path: str, make_profile: MakeProfile) -> None:
    fields = as_json(make_profile())
    holder, name = level(fields, path)
    del holder[name]
    with pytest.raises(InputError, match=rf"'[a-z.]*{name}' is missing\. Make the profile anew"):
        parse(fields, where="profile p.json")


@pytest.mark.parametrize("path", ["session_options", "default.file", "winners.session_options", "measurements.path"])
def test_a_profile_sets_no_session_option_and_no_path(path: str, make_profile: MakeProfile) -> None:
    """Any field that is not in the tables is refused, wherever it stands."""
    fields = as_json(make_profile())
    holder, name = level(fields, path)
    holder[name] = {"session.load_custom_library": "/tmp/x.so"}
    with pytest.raises(InputError, match=rf"unknown field '[a-z.]*{name}'\. Was the file edited"):
        parse(fields, where="profile p.json")


def test_all_problems_are_told_at_once(make_profile: MakeProfile) -> None:
    fields = {**as_json(make_profile()), "goal": "speed", "gain": -1}
    with pytest.raises(
        InputError, match=r"p: 2 problems\n.*'goal' must be one of .*Got 'speed'.*\n.*'gain' must be .*Got -1"
    ):
        parse(fields, where="p")


BETWEEN: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("goal", lambda f: f.update(winners={"latency": f["winners"]["latency"]}), "must have one for the goal"),
    ("unmeasured", lambda f: f["winners"]["latency"].update(threads=2), "latency must be a measurement that may win"),
    ("out", lambda f: f["measurements"][1].update(out="agrees on 90%"), "throughput must be a measurement that may"),
    ("default", lambda f: f["default"].update(threads=2), "'default' must be one of the measurements"),
    ("twice", lambda f: f["measurements"].append(f["measurements"][0]), "has a choice twice"),
    ("threads", lambda f: f["measurements"][0]["choice"].update(threads=3), "at most the host's, 2. Got 3 instead"),
    ("streams", lambda f: f["measurements"][0]["choice"].update(streams=2), "at most 'threads', 1. Got 2 instead"),
]


@pytest.mark.parametrize(("change", "told"), [row[1:] for row in BETWEEN], ids=[row[0] for row in BETWEEN])
def test_what_must_hold_between_fields(change: Callable[[Any], Any], told: str, make_profile: MakeProfile) -> None:
    fields = as_json(make_profile())
    change(fields)
    with pytest.raises(InputError, match=told):
        parse(fields, where="p")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "is not valid JSON"),
        (b"\xff", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"goal": 1, "goal": 2}', "the key 'goal' stands twice"),
        (b"[]", "must hold one JSON object. Got list instead"),
        (b"", "is not valid JSON"),
    ],
)
def test_a_file_that_is_no_profile_is_refused(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_bytes(content)
    with pytest.raises(InputError, match=told):
        read(tmp_path / "p.json")


def test_a_file_that_is_not_there_is_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p\.json: cannot be read: No such file or directory\. Make it with: python"):
        read(tmp_path / "p.json")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_kill_while_writing_leaves_the_old_profile(
    step: str, tmp_path: Path, make_profile: MakeProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "p.json"
    write(file, make_profile())

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), killed)
    with pytest.raises(KeyboardInterrupt):
        write(file, make_profile(gain=9.0))
    assert read(file) == make_profile()


def test_a_profile_that_no_reader_would_take_is_not_written(tmp_path: Path, make_profile: MakeProfile) -> None:
    with pytest.raises(InputError, match="'gain' must be a number above 0"):
        write(tmp_path / "p.json", make_profile(gain=0.0))
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written: .*\. Choose another --output or --plot"):
        write_text(tmp_path / "file" / "p.json", "{}")


def test_what_is_named_replaces_a_profile_and_nothing_else(tmp_path: Path, make_profile: MakeProfile) -> None:
    file, plot = tmp_path / "p.json", tmp_path / "p.svg"
    file.write_text('{"text": "my rows"}')
    with pytest.raises(InputError, match=r"p\.json exists and is no profile; it will not be replaced"):
        check_targets(file, plot, named=True)
    check_targets(file, plot, named=False)  # in the cache folder nothing else can lie under this name
    write(file, make_profile())
    check_targets(file, plot, named=True)


def test_a_picture_is_an_svg_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--plot must end in \.svg\. Got '.*p\.png' instead"):
        check_targets(tmp_path / "p.json", tmp_path / "p.png", named=True)


def test_a_folder_that_cannot_be_made_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file cannot be made: .* Choose another --output or --plot"):
        check_targets(tmp_path / "file" / "p.json", tmp_path / "p.svg", named=False)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "tuned on 2026-11-25: 1.50 times the default's texts/s here"),
        ({"goal": "both"}, "tuned on 2026-11-25: 1.50 times the default here, throughput and latency together"),
        ({"goal": "latency"}, "tuned on 2026-11-25: nothing measured was faster than the default"),
        ({"gain": None}, "tuned on 2026-11-25"),
    ],
)
def test_a_summary_says_what_was_gained(changes: dict[str, Any], told: str, make_profile: MakeProfile) -> None:
    assert make_profile(**changes).summary == told


def test_a_choice_is_named_in_full() -> None:
    plain = Choice(engine="ort-cpu", variant="int8", threads=1, streams=None, spinning=None, max_batch_tokens=512)
    assert str(plain) == "int8 on ort-cpu, 1 thread, 512 tokens a batch"
    other = replace(plain, threads=4, streams=2, spinning=False, max_batch_tokens=2048)
    assert str(other) == "int8 on ort-cpu, 4 threads in 2 streams, not spinning, 2,048 tokens a batch"
