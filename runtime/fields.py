"""Kinds of JSON fields, and the reader that walks tables of them and gathers every problem.

A field is a function from a JSON value to a Python value that raises `Wrong` with what it must be. A format is a table of fields a level:
`manifest_fields.py` is the bundle's, `profile.py` has the host profile's.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Field: TypeAlias = Callable[["Reader", Any, str], Any]


class Wrong(Exception):
    """A value is not what its field must be."""


class Reader:
    """Walk an object and gather problems instead of stopping at the first."""

    def __init__(self, *, way_out: str) -> None:
        """Begin with no problems.

        Args:
            way_out: what to do about a field that is missing or unknown, as a sentence without its full stop.
        """
        self.problems: list[str] = []
        self._way_out = way_out

    def object(self, value: object, fields: Mapping[str, Field], *, at: str) -> dict[str, Any]:
        """Read an object with exactly these fields; wrong ones are left out of the result."""
        if not isinstance(value, dict):
            raise Wrong("an object")
        for name in value.keys() - fields.keys():
            self.problems.append(
                f"unknown field {at + name!r}. Was the file edited, or written by another program? {self._way_out}"
            )
        result = {}
        for name, field in fields.items():
            if name not in value:
                self.problems.append(f"field {at + name!r} is missing. {self._way_out}")
                continue
            try:
                result[name] = field(self, value[name], at + name + ".")
            except Wrong as exc:
                self.problems.append(f"field {at + name!r} must be {exc}. Got {shown(value[name])} instead")
        return result


def exactly(kind: type, what: str, holds: Callable[[Any], bool] = lambda value: True) -> Field:
    """Take values of one type for which `holds` is true."""

    def read(reader: Reader, value: Any, at: str) -> Any:
        if type(value) is not kind or not holds(value):  # `type is`: True is no integer here
            raise Wrong(what)
        return value

    return read


def number(what: str, holds: Callable[[float], bool]) -> Field:
    """Take finite numbers for which `holds` is true."""

    def read(reader: Reader, value: Any, at: str) -> float:
        if not is_number(value) or not holds(float(value)):
            raise Wrong(what)
        return float(value)

    return read


def one_of(names: tuple[str, ...]) -> Field:
    """Take one of some strings."""
    return exactly(str, "one of " + ", ".join(map(repr, names)), lambda value: value in names)


def list_of(item: Field, what: str, holds: Callable[[tuple[Any, ...]], bool] = lambda items: True) -> Field:
    """Take lists of a field for which `holds` is true; they become tuples."""

    def read(reader: Reader, value: Any, at: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise Wrong(what)
        items = []
        for element in value:
            try:
                items.append(item(reader, element, at))
            except Wrong:
                raise Wrong(f"{what}; {shown(element)} is not") from None
        if not holds(tuple(items)):
            raise Wrong(what)
        return tuple(items)

    return read


def nullable(field: Field) -> Field:
    """Take null beside what a field takes."""
    return lambda reader, value, at: None if value is None else field(reader, value, at)


def object_of(fields: Mapping[str, Field]) -> Field:
    """Take an object with exactly these fields."""
    return lambda reader, value, at: reader.object(value, fields, at=at)


def mapping_of(field: Field, what: str, key: Callable[[str], bool]) -> Field:
    """Take a non-empty object of one field by any names for which `key` is true."""

    def read(reader: Reader, value: Any, at: str) -> dict[str, Any]:
        if not isinstance(value, dict) or not value:
            raise Wrong(what)
        for name in value:
            if not key(name):
                raise Wrong(f"{what}; {name!r} is not")
        return reader.object(value, dict.fromkeys(value, field), at=at)

    return read


def is_number(value: object) -> bool:
    """Whether a value is a number that a float can hold; NaN is none, nor is an integer of 400 digits."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_text(value: object) -> bool:
    """Whether a value is a string of whole characters; JSON can spell half of one, which no file and no terminal takes."""
    return isinstance(value, str) and not re.search("[\ud800-\udfff]", value)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict of an object's pairs, as `json.loads(object_pairs_hook=…)` asks; refuse a key that stands twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {repeated!r} stands twice in one object")
    return values


def shown(value: object) -> str:
    """Write a value for a message, as in source code, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
