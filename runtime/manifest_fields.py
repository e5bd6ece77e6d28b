"""What each field of bundle.json must be: one table a level, and the reader that walks them and gathers every problem.

A field is a function from a JSON value to a Python value that raises `Wrong` with what it must be.
"""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any, TypeAlias

Field: TypeAlias = Callable[["Reader", Any, str], Any]

# onnxruntime session entries a bundle may set, with their values. Any other key is refused: some write files or load libraries.
SESSION_OPTIONS: dict[str, frozenset[str]] = {
    "session.x64quantprecision": frozenset({"0", "1"}),  # 1: exact 8-bit products on CPUs without VNNI
    "session.intra_op.allow_spinning": frozenset({"0", "1"}),
    "session.set_denormal_as_zero": frozenset({"0", "1"}),
}
DISABLED_OPTIMIZERS = frozenset(
    {"SkipLayerNormFusion", "EmbedLayerNormFusion", "AttentionFusion", "BiasGeluFusion", "GeluFusionL2"}
)
TASK_NAMES = ("single-label", "multi-label", "regression", "token")  # tests hold them equal to TASKS
REQUIRED_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json")
MAX_INTEGER = 2**31 - 1  # token ids and lengths; what engines and tokenizers take ends not far above
MAX_PATH_LENGTH = 200  # every file system takes that
INPUT_NAMES = ("input_ids", "attention_mask", "token_type_ids")


class Wrong(Exception):
    """A value is not what its field must be."""


class Reader:
    """Walk a manifest and gather problems instead of stopping at the first."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def object(self, value: object, fields: Mapping[str, Field], *, at: str) -> dict[str, Any]:
        """Read an object with exactly these fields; wrong ones are left out of the result."""
        if not isinstance(value, dict):
            raise Wrong("an object")
        for name in value.keys() - fields.keys():
            self.problems.append(
                f"unknown field {at + name!r}. Was the file edited, or written by another program? Export the model again"
            )
        result = {}
        for name, field in fields.items():
            if name not in value:
                self.problems.append(f"field {at + name!r} is missing. Export the model again")
                continue
            try:
                result[name] = field(self, value[name], at + name + ".")
            except Wrong as exc:
                self.problems.append(f"field {at + name!r} must be {exc}. Got {_shown(value[name])} instead")
        return result

    def cross_check(self, values: Mapping[str, Any]) -> None:
        """Check what concerns several fields of an otherwise sound manifest."""
        self.problems += [
            f"{what} {name!r} is not listed in 'files'"
            for what, name in _named_files(values)
            if name not in values["files"]
        ]
        thresholds, labels = values["thresholds"], values["labels"]
        if (values["task"] == "multi-label") != (thresholds is not None):
            self.problems.append(
                f"'thresholds' belong to task 'multi-label' and to no other; the task is {values['task']!r}"
            )
        elif thresholds is not None and len(thresholds) != len(labels):
            self.problems.append(
                f"'thresholds' must have one number a label, {len(labels)}. Got {len(thresholds)} instead"
            )
        if values["task"] == "regression" and len(labels) != 1:
            self.problems.append(f"a regression has one label. Got {len(labels)} instead")
        self.problems += _golden_problems(values)


def _golden_problems(values: Mapping[str, Any]) -> list[str]:
    golden, width = values["golden"], len(values["labels"])
    texts, input_ids, logits = golden["texts"], golden["input_ids"], golden["logits"]
    if not len(texts) == len(input_ids) == len(logits):
        return [
            f"'golden' must have as many texts as input_ids and logits. Got {len(texts)}, {len(input_ids)} and {len(logits)} instead"
        ]
    problems = []
    for index, (text, ids, row) in enumerate(zip(texts, input_ids, logits, strict=True)):
        if isinstance(text, tuple) != values["pair"]:
            problems.append(
                f"'golden.texts' {index} must be {'a pair' if values['pair'] else 'a string'}. Got {_shown(text)} instead"
            )
        rows = row if values["task"] == "token" else (row,)
        if values["task"] == "token" and isinstance(row, tuple) and len(row) != len(ids):
            problems.append(f"'golden.logits' {index} must have one row a token, {len(ids)}. Got {len(rows)} instead")
        if not isinstance(rows, tuple) or any(
            not isinstance(numbers, tuple) or len(numbers) != width or not all(map(_is_number, numbers))
            for numbers in rows
        ):
            problems.append(f"'golden.logits' {index} must have {width} finite numbers a row, one a label")
    return problems


def _named_files(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    variants = [
        (f"the file of variant {name!r},", variant["file"])
        for name, variant in values["variants"].items()
        if "file" in variant
    ]
    return [("the file", name) for name in REQUIRED_FILES] + variants


def _exactly(kind: type, what: str, holds: Callable[[Any], bool] = lambda value: True) -> Field:
    def read(reader: Reader, value: Any, at: str) -> Any:
        if type(value) is not kind or not holds(value):  # `type is`: True is no integer here
            raise Wrong(what)
        return value

    return read


def _number(what: str, holds: Callable[[float], bool]) -> Field:
    def read(reader: Reader, value: Any, at: str) -> float:
        if not _is_number(value) or not holds(float(value)):
            raise Wrong(what)
        return float(value)

    return read


def _one_of(names: tuple[str, ...]) -> Field:
    return _exactly(str, "one of " + ", ".join(map(repr, names)), lambda value: value in names)


def _list(item: Field, what: str, holds: Callable[[tuple[Any, ...]], bool] = lambda items: True) -> Field:
    def read(reader: Reader, value: Any, at: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Wrong(what)
        items = []
        for element in value:
            try:
                items.append(item(reader, element, at))
            except Wrong:
                raise Wrong(f"{what}; {_shown(element)} is not") from None
        if not holds(tuple(items)):
            raise Wrong(what)
        return tuple(items)

    return read


def _nullable(field: Field) -> Field:
    return lambda reader, value, at: None if value is None else field(reader, value, at)


def _object(fields: Mapping[str, Field]) -> Field:
    return lambda reader, value, at: reader.object(value, fields, at=at)


def _mapping(field: Field, what: str, key: Callable[[str], bool]) -> Field:
    def read(reader: Reader, value: Any, at: str) -> dict[str, Any]:
        if not isinstance(value, dict) or not value:
            raise Wrong(what)
        for name in value:
            if not key(name):
                raise Wrong(f"{what}; {name!r} is not")
        return reader.object(value, dict.fromkeys(value, field), at=at)

    return read


def _session_options(reader: Reader, value: Any, at: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise Wrong("an object of onnxruntime session entries")
    for name, setting in value.items():
        allowed = SESSION_OPTIONS.get(name)
        if allowed is None:
            raise Wrong(f"an object with keys among {sorted(SESSION_OPTIONS)}; {name!r} is not allowed in a bundle")
        if not isinstance(setting, str) or setting not in allowed:
            raise Wrong(f"an object in which {name!r} is one of {sorted(allowed)}")
    return dict(value)


def _text(reader: Reader, value: Any, at: str) -> str | tuple[str, str]:
    if _is_text(value):
        return str(value)
    if isinstance(value, list) and len(value) == 2 and all(map(_is_text, value)):
        return (value[0], value[1])
    raise Wrong("a string or a pair of strings")


def _numbers(reader: Reader, value: Any, at: str) -> Any:
    """Freeze numbers, or lists of them; their shape is checked where the task is known."""
    if isinstance(value, list):
        return tuple(_frozen(item) if isinstance(item, list) else _finite(item) for item in value)
    return _finite(value)


def _frozen(row: list[Any]) -> tuple[float, ...]:
    return tuple(map(_finite, row))


def _finite(value: Any) -> float:
    if not _is_number(value):
        raise Wrong("finite numbers")
    return float(value)


def is_plain_path(name: str) -> bool:
    """Whether a path stays inside the bundle on every system: relative, forward slashes, ordinary characters, no "..", no hidden parts."""
    return (
        len(name) <= MAX_PATH_LENGTH
        and bool(re.fullmatch(r"(?:[A-Za-z0-9_][A-Za-z0-9._+-]*/)*[A-Za-z0-9_][A-Za-z0-9._+-]*", name))
        and ".." not in PurePosixPath(name).parts
    )


def _is_number(value: object) -> bool:
    """Whether a value is a number that a float can hold; NaN is none, nor is an integer of 400 digits."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _is_text(value: object) -> bool:
    """Whether a value is a string of whole characters; JSON can spell half of one, which no file and no terminal takes."""
    return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."


_positive = _exactly(int, f"an integer from 1 to {MAX_INTEGER}", lambda value: 0 < value <= MAX_INTEGER)
_token_id = _exactly(int, f"an integer from 0 to {MAX_INTEGER}", lambda value: 0 <= value <= MAX_INTEGER)
_natural = _exactly(int, "an integer of 0 or more", lambda value: value >= 0)
_label = _exactly(str, "a non-empty string", lambda value: bool(value) and _is_text(value))
_plain_path = _exactly(
    str, "a plain relative path inside the bundle (no '..', no drive, no leading '/')", is_plain_path
)

FILE: dict[str, Field] = {
    "size": _natural,
    "sha256": _exactly(str, "64 hexadecimal digits", lambda value: bool(re.fullmatch("[0-9a-f]{64}", value))),
}
VARIANT: dict[str, Field] = {
    "file": _plain_path,
    "precision": _label,
    "inputs": _list(
        _one_of(INPUT_NAMES),
        f"a list of names among {INPUT_NAMES} that has 'input_ids'",
        lambda items: "input_ids" in items,
    ),
    "session_options": _session_options,
    "disabled_optimizers": _list(
        _one_of(tuple(sorted(DISABLED_OPTIMIZERS))), f"a list of names among {sorted(DISABLED_OPTIMIZERS)}"
    ),
    "batch_invariant": _exactly(bool, "true or false"),
    "max_error": _number("a number of 0 or more", lambda value: value >= 0),
    "passed": _exactly(bool, "true or false"),
}
GOLDEN: dict[str, Field] = {
    "texts": _list(_text, "a non-empty list of texts or of pairs of texts", bool),
    "input_ids": _list(_list(_token_id, "lists of token ids", bool), "a list of non-empty lists of token ids"),
    "logits": _list(_numbers, "a list of lists of finite numbers"),
}
FIELDS: dict[str, Field] = {
    "format": _positive,
    "task": _one_of(TASK_NAMES),
    "labels": _list(_label, "a non-empty list of different strings", lambda items: 0 < len(items) == len(set(items))),
    "pair": _exactly(bool, "true or false"),
    "max_length": _positive,
    "pad_token_id": _token_id,
    "thresholds": _nullable(
        _list(_number("a probability", lambda value: 0 <= value <= 1), "null or a list of probabilities")
    ),
    "temperature": _number("a number above 0", lambda value: value > 0),
    "variants": _mapping(
        _object(VARIANT),
        "an object of variants, at least one, by names of letters, digits and '-'",
        lambda name: bool(re.fullmatch("[a-z0-9-]+", name)),
    ),
    "files": _mapping(
        _object(FILE), "an object of files by plain relative path (no '..', no drive, no leading '/')", is_plain_path
    ),
    "made_by": _mapping(_label, "an object of program versions", bool),
    "golden": _object(GOLDEN),
}
