"""Bundles of dummy files, sound and otherwise: their format can be held to account without a model."""

import copy
import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runtime.bundle import (
    MANIFEST,
    Golden,
    Manifest,
    StoredFile,
    Variant,
    write_manifest,
)
from runtime.manifest_fields import (
    FIELDS,
    FILE,
    GOLDEN,
    MAX_PATH_LENGTH,
    VARIANT,
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
