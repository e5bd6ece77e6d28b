"""The embedded data set: messages to the support desk of an invented company, written for this project, and pairs of messages.

data.jsonl holds, a line each, 1,024 messages {"kind": "message", "split", "text", "intent", "topics", "urgency", "entities"} and 160 pairs
{"kind": "pair", "split", "text", "text_pair", "same"}. Near-duplicates share a split. docs/demo.md says how it was made.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from runtime.errors import InputError
from runtime.tables import Row

FILE = Path(__file__).with_name("data.jsonl")
SPLITS = ("train", "eval", "test")


class View(NamedTuple):
    """One way to look at the data: which lines, and what each column is called in them."""

    kind: str
    columns: dict[str, str]


VIEWS: dict[str, View] = {
    "intent": View("message", {"text": "text", "label": "intent"}),
    "topics": View("message", {"text": "text", "labels": "topics"}),
    "urgency": View("message", {"text": "text", "score": "urgency"}),
    "entities": View("message", {"text": "text", "entities": "entities"}),
    "pairs": View("pair", {"text": "text", "text_pair": "text_pair", "label": "same"}),
}


def rows(view: str, *, split: str) -> Iterator[Row]:
    """Read one split of one view, with the column names the trainer expects.

    Raises:
        InputError: no such view.
    """
    if view not in VIEWS:
        raise InputError(
            f"demo:VIEW must be one of {', '.join('demo:' + name for name in VIEWS)}. Got 'demo:{view}' instead."
        )
    kind, columns = VIEWS[view]
    with FILE.open(encoding="utf-8") as lines:
        for line, content in enumerate(lines, start=1):
            row = json.loads(content)
            if row["kind"] == kind and row["split"] == split:
                yield Row(line, {column: row[field] for column, field in columns.items()})
