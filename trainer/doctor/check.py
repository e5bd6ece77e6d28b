"""`python -m trainer check`, top to bottom: read, examine, tell, write, fix.

python -m trainer check --train train.csv --eval dev.csv --test test.csv --report check.html
"""

import json
from collections.abc import Callable, Iterable

from runtime.bundle import write_synced
from runtime.records import target_columns
from runtime.tasks import TASKS

from ..sources import split_sources
from .config import CheckConfig
from .finding import Finding
from .fix import check_targets, fix
from .overview import sum_up
from .page import render_page
from .ruler import ruler_of
from .rules import examine
from .splits import Dataset, read_split
from .terminal import print_overview


def check(config: CheckConfig, *, say: Callable[[str], None]) -> int:
    """Look at rows as `config` says, and tell.

    Args:
        config: every flag.
        say: where text for people goes.

    Returns:
        The exit code.

    Raises:
        InputError: flags that cannot be used, or a source that cannot be had.
    """
    config.validate()
    if config.fix:
        check_targets(config)
    data = read_dataset(config)
    asked = {"suspect-label"} if config.label_errors else set[str]()
    examination = examine(data, quick=False, asked=asked)
    overview = sum_up(config.task, data, examination)
    print_overview(overview)
    if config.report is not None:
        write_synced(config.report, render_page(overview))
        say(f"report: {config.report}")
    if config.json is not None:
        write_synced(config.json, json.dumps(overview.as_json(), ensure_ascii=False, indent=2) + "\n")
        say(f"json: {config.json}")
    if config.fix:
        say(fix(config, data))
    return exit_code(examination.findings, strict=config.strict)


def read_dataset(config: CheckConfig) -> Dataset:
    """Read all that can be read of each split.

    Raises:
        InputError: a source cannot be had, or has no such column.
    """
    target = TASKS[config.task].target
    sources = split_sources(config.train, config.eval, config.test)
    return Dataset(
        splits=tuple(
            read_split(name, source, target=target, columns=config.row_columns, layout=config.layout)
            for name, source in sources.items()
        ),
        target=target,
        label_columns=target_columns(target, config.row_columns),
        labels=config.labels,
        ruler=ruler_of(config.model, max_length=config.max_length, pair=config.text_pair_column is not None),
    )


def exit_code(findings: Iterable[Finding], *, strict: bool) -> int:
    """Give 1 where rows cannot be used, and where warnings are to be heeded and there are some, else 0."""
    failing = {"error", "warning"} if strict else {"error"}
    return int(any(finding.severity in failing for finding in findings))
