"""`--fix`: cleaned copies beside the files, what was done to them, and the command to train on them."""

import shlex
from dataclasses import fields
from pathlib import Path

from runtime.errors import InputError

from ..config import RowFlags
from ..sources import is_file, split_sources
from .config import CheckConfig
from .copies import Copy, can_hold, write_copy
from .finding import counted
from .repair import Repairs, plan_repairs
from .splits import Dataset


def check_targets(config: CheckConfig) -> None:
    """Refuse what cannot be fixed, before anything is read.

    Raises:
        InputError: a source that is no file, one file for two splits, or a copy that is there.
    """
    sources = split_sources(config.train, config.eval, config.test)
    problems = [
        f"--fix writes beside files; --{name} {source} is none"
        for name, source in sources.items()
        if not is_file(source)
    ]
    paths = [_path(source).resolve() for source in sources.values() if is_file(source)]
    problems += [
        f"{path} is the source of two splits; give each its own" for path in set(paths) if paths.count(path) > 1
    ]
    targets = [fixed_name(path) for path in paths]
    if not config.overwrite:
        problems += [f"{target} exists already; --overwrite replaces it" for target in targets if target.exists()]
    if problems:
        raise InputError("\n  ".join(problems))


def fixed_name(path: Path) -> Path:
    """Name the copy of a file: train.csv → train.fixed.csv."""
    return path.with_name(f"{path.stem}.fixed{path.suffix}")


def fix(config: CheckConfig, data: Dataset) -> str:
    """Write the copies.

    Returns:
        What was done, for people.

    Raises:
        InputError: no row of a split would be left.
    """
    plans = plan_repairs(
        data, config.row_columns, can_hold=lambda split, row: can_hold(_path(split.source), config.layout, row)
    )
    for plan in plans:
        if not plan.records:
            raise InputError(f"--fix would leave no row of {plan.split.source}: {_told(plan)}. Nothing was written.")
    sources = {}
    for plan in plans:
        path = _path(plan.split.source)
        if plan.dropped or plan.values:
            kept = {record.line for record in plan.records}
            values = {line: new for line, new in plan.values.items() if line in kept}
            write_copy(Copy(path, config.layout, plan.split.rows, kept, values), fixed_name(path))
            path = fixed_name(path)
        sources[plan.split.name] = str(path)
    lines = [f"{sources[plan.split.name]}: {_told(plan)}" for plan in plans]
    return "\n".join([*lines, f"next: {_command(config, sources)}"])


def _told(plan: Repairs) -> str:
    if not (plan.dropped or plan.changed):
        return f"{counted(len(plan.records), 'row')}, nothing to fix"
    told = f"{len(plan.records):,} of {counted(plan.split.num_rows, 'row')} stay"
    if plan.dropped:
        told += "; left out: " + ", ".join(f"{number:,} {reason}" for reason, number in plan.dropped.items())
    if plan.changed:
        told += "; " + ", ".join(f"{what}: {number:,}" for what, number in plan.changed.items())
    return told


def _command(config: CheckConfig, sources: dict[str, str]) -> str:
    """Write the command that trains on the copies: the same flags about rows, other files."""
    flags = []
    for field in fields(RowFlags):
        value = sources.get(field.name, getattr(config, field.name))
        if value != field.default:
            flags += [f"--{field.name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else [value])]
    return shlex.join(["python", "-m", "trainer", *flags])


def _path(source: str) -> Path:
    return Path(source).expanduser()
