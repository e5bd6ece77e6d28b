"""What each field of bundle.json must be: one table a level, and what must hold between fields."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from .fields import (
    Field,
    Reader,
    Wrong,
    exactly,
    is_number,
    is_text,
    list_of,
    mapping_of,
    nullable,
    number,
    object_of,
    one_of,
    shown,
)

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


def cross_check(values: Mapping[str, Any]) -> list[str]:
    """Check what concerns several fields of an otherwise sound manifest; return the problems."""
    problems = [
        f"{what} {name!r} is not listed in 'files'"
        for what, name in _named_files(values)
        if name not in values["files"]
    ]
    thresholds, labels = values["thresholds"], values["labels"]
    if (values["task"] == "multi-label") != (thresholds is not None):
        problems.append(f"'thresholds' belong to task 'multi-label' and to no other; the task is {values['task']!r}")
    elif thresholds is not None and len(thresholds) != len(labels):
        problems.append(f"'thresholds' must have one number a label, {len(labels)}. Got {len(thresholds)} instead")
    if values["task"] != "single-label" and "abstain_below" in values:
        problems.append(
            f"'abstain_below' belongs to task 'single-label' and to no other; the task is {values['task']!r}"
        )
    if values["task"] == "regression" and len(labels) != 1:
        problems.append(f"a regression has one label. Got {len(labels)} instead")
    return problems + _golden_problems(values)


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
                f"'golden.texts' {index} must be {'a pair' if values['pair'] else 'a string'}. Got {shown(text)} instead"
            )
        rows = row if values["task"] == "token" else (row,)
        if values["task"] == "token" and isinstance(row, tuple) and len(row) != len(ids):
            problems.append(f"'golden.logits' {index} must have one row a token, {len(ids)}. Got {len(rows)} instead")
        if not isinstance(rows, tuple) or any(
            not isinstance(numbers, tuple) or len(numbers) != width or not all(map(is_number, numbers))
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
    if is_text(value):
        return str(value)
    if isinstance(value, list) and len(value) == 2 and all(map(is_text, value)):
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
    if not is_number(value):
        raise Wrong("finite numbers")
    return float(value)


def is_plain_path(name: str) -> bool:
    """Whether a path stays inside the bundle on every system: relative, forward slashes, ordinary characters, no "..", no hidden parts."""
    return (
        len(name) <= MAX_PATH_LENGTH
        and bool(re.fullmatch(r"(?:[A-Za-z0-9_][A-Za-z0-9._+-]*/)*[A-Za-z0-9_][A-Za-z0-9._+-]*", name))
        and ".." not in PurePosixPath(name).parts
    )


_positive = exactly(int, f"an integer from 1 to {MAX_INTEGER}", lambda value: 0 < value <= MAX_INTEGER)
_token_id = exactly(int, f"an integer from 0 to {MAX_INTEGER}", lambda value: 0 <= value <= MAX_INTEGER)
_natural = exactly(int, "an integer of 0 or more", lambda value: value >= 0)
_label = exactly(str, "a non-empty string", lambda value: bool(value) and is_text(value))
_plain_path = exactly(str, "a plain relative path inside the bundle (no '..', no drive, no leading '/')", is_plain_path)

FILE: dict[str, Field] = {
    "size": _natural,
    "sha256": exactly(str, "64 hexadecimal digits", lambda value: bool(re.fullmatch("[0-9a-f]{64}", value))),
}
VARIANT: dict[str, Field] = {
    "file": _plain_path,
    "precision": _label,
    "inputs": list_of(
        one_of(INPUT_NAMES),
        f"a list of names among {INPUT_NAMES} that has 'input_ids'",
        lambda items: "input_ids" in items,
    ),
    "session_options": _session_options,
    "disabled_optimizers": list_of(
        one_of(tuple(sorted(DISABLED_OPTIMIZERS))), f"a list of names among {sorted(DISABLED_OPTIMIZERS)}"
    ),
    "batch_invariant": exactly(bool, "true or false"),
    "max_error": number("a number of 0 or more", lambda value: value >= 0),
    "passed": exactly(bool, "true or false"),
}
GOLDEN: dict[str, Field] = {
    "texts": list_of(_text, "a non-empty list of texts or of pairs of texts", bool),
    "input_ids": list_of(list_of(_token_id, "lists of token ids", bool), "a list of non-empty lists of token ids"),
    "logits": list_of(_numbers, "a list of lists of finite numbers"),
}
FIELDS: dict[str, Field] = {
    "format": _positive,
    "task": one_of(TASK_NAMES),
    "labels": list_of(_label, "a non-empty list of different strings", lambda items: 0 < len(items) == len(set(items))),
    "pair": exactly(bool, "true or false"),
    "max_length": _positive,
    "pad_token_id": _token_id,
    "thresholds": nullable(
        list_of(number("a probability", lambda value: 0 <= value <= 1), "null or a list of probabilities")
    ),
    "temperature": number("a number above 0", lambda value: value > 0),
    "variants": mapping_of(
        object_of(VARIANT),
        "an object of variants, at least one, by names of letters, digits and '-'",
        lambda name: bool(re.fullmatch("[a-z0-9-]+", name)),
    ),
    "files": mapping_of(
        object_of(FILE), "an object of files by plain relative path (no '..', no drive, no leading '/')", is_plain_path
    ),
    "made_by": mapping_of(_label, "an object of program versions", bool),
    "golden": object_of(GOLDEN),
}
# Fields that only bundles which need them have, and the first format with them.
LATER_FIELDS: dict[str, tuple[int, Field]] = {
    "abstain_below": (2, number("a probability above 0", lambda value: 0 < value <= 1)),
}


def fields_of(given: Mapping[str, Any]) -> dict[str, Field]:
    """Give the fields that a manifest may have: those of all bundles, and of the later ones those it has and its format knows."""
    number = given.get("format")
    known = number if type(number) is int else 1
    return FIELDS | {name: field for name, (first, field) in LATER_FIELDS.items() if name in given and first <= known}


def lowest_format(given: Mapping[str, Any]) -> int:
    """Give the lowest format that can express a manifest with these fields."""
    return max([1, *(first for name, (first, _) in LATER_FIELDS.items() if given.get(name) is not None)])
