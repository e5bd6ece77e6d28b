"""--config: settings from a YAML or JSON file, read as if they stood on the command line in front of the flags, so one parser checks both."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from runtime.errors import InputError


def with_config_file(arguments: Sequence[str], config: type[Any]) -> list[str]:
    """Put the settings of a --config file in front of the flags.

    Args:
        arguments: the command line.
        config: the dataclass whose fields are the settings.

    Raises:
        InputError: the file is missing, is no mapping, or has settings that do not exist.
    """
    file = _named_file(arguments)
    if file is None:
        return list(arguments)
    defaults = {field.name: field.default for field in fields(config)}
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))  # JSON is YAML
    except OSError as exc:
        raise InputError(f"--config {file} cannot be read: {exc.strerror}.") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise InputError(f"--config {file} is neither YAML nor JSON: {exc}") from exc
    if not isinstance(settings, dict):
        raise InputError(f"--config {file} must hold settings by name. Got {type(settings).__name__} instead.")
    unknown = sorted(str(name) for name in settings if str(name).replace("-", "_") not in defaults)
    if unknown:
        raise InputError(f"--config {file} has settings that do not exist: {', '.join(unknown)}. See --help.")
    given = [
        argument
        for name, value in settings.items()
        for argument in _as_flags(str(name), value, switch=isinstance(defaults[str(name).replace("-", "_")], bool))
    ]
    return given + list(arguments)


def _named_file(arguments: Sequence[str]) -> Path | None:
    for index, argument in enumerate(arguments):
        if argument.startswith("--config="):
            return Path(argument.removeprefix("--config="))
        if argument == "--config" and index + 1 < len(arguments):
            return Path(arguments[index + 1])
    return None


def _as_flags(name: str, value: Any, *, switch: bool) -> list[str]:
    name = name.replace("_", "-")
    if value is None:
        return []
    if isinstance(value, bool) and switch:
        return [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    return [f"--{name}={value}"]  # with =, because a value may begin with a hyphen
