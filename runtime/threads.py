"""How many threads this process really has.

Engines size their pools from the machine's cores; in a container that is often far more than the process may use, and every surplus thread makes the
rest wait. The least of what is known counts: CPU affinity, the cgroup's CPU quota, OMP_NUM_THREADS, physical cores (two hyper-threads share one
multiplier, so a second thread on a core slows matrix products down).
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .errors import InputError


class Threads(NamedTuple):
    """A number of threads and the limit that set it."""

    number: int
    reason: str


def usable_threads(threads: int | None = None) -> Threads:
    """Count the threads an engine should use.

    Args:
        threads: what the user asked for; None means "as many as this process has".

    Raises:
        InputError: `threads` or OMP_NUM_THREADS is not a positive integer.
    """
    if threads is not None:
        if threads < 1:
            raise InputError(f"threads must be a positive integer. Got {threads} instead.")
        return Threads(threads, "asked for")
    return min(_limits(), key=lambda limit: limit.number)


def _limits() -> Iterator[Threads]:
    cpus = _affinity()
    yield Threads(len(cpus), "CPU affinity")
    yield Threads(_physical_cores(cpus), "physical cores")
    quota = _cgroup_quota()
    if quota is not None:
        yield Threads(max(1, math.floor(quota)), f"cgroup quota of {quota:g} CPUs")
    omp = (
        os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    )  # OpenMP allows a list, one number a nesting level
    if omp:
        if not omp.isdecimal() or int(omp) < 1:
            raise InputError(f"OMP_NUM_THREADS must be a positive integer. Got {omp!r} instead; correct or unset it.")
        yield Threads(int(omp), "OMP_NUM_THREADS")


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _physical_cores(cpus: set[int]) -> int:
    cores = set()
    for cpu in cpus:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(siblings.read_text().strip())
        except OSError:  # not Linux, or hidden: count every CPU as a core
            cores.add(str(cpu))
    return len(cores)


def _cgroup_quota(root: Path = Path("/sys/fs/cgroup"), process: Path = Path("/proc/self/cgroup")) -> float | None:
    """Read the CPU quota in CPUs, the least from this process's own group up to the root: cgroup v2 `cpu.max`, else v1 `cpu.cfs_*`; None where there is no limit."""
    try:
        groups = [line.split(":", 2)[1:] for line in process.read_text().splitlines()]
    except OSError:  # not Linux
        groups = []
    for read, top, controller in ((_quota_v2, root, ""), (_quota_v1, root / "cpu", "cpu")):
        own = next((path for names, path in groups if controller in names.split(",")), "/")
        folders = [top, *(top / parent for parent in _and_parents(own.lstrip("/")))]
        found = [quota for folder in folders if (quota := read(folder)) is not None]
        if found:
            return None if math.isinf(min(found)) else min(found)
    return None


def _and_parents(path: str) -> list[Path]:
    parts = Path(path).parts
    return [Path(*parts[: number + 1]) for number in range(len(parts))]


def _quota_v2(folder: Path) -> float | None:
    """Read one group's limit: infinite where it sets none, None where it says nothing."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return math.inf if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _quota_v1(folder: Path) -> float | None:
    """As `_quota_v2`."""
    try:
        quota_us = int((folder / "cpu.cfs_quota_us").read_text())
        return quota_us / int((folder / "cpu.cfs_period_us").read_text()) if quota_us > 0 else math.inf
    except (OSError, ValueError):
        return None
