"""The least limit counts, and is named."""

import os
from pathlib import Path

import pytest

from runtime import threads
from runtime.errors import InputError
from runtime.threads import Threads, usable_threads


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Give eight CPUs on eight cores, without quota or OMP_NUM_THREADS."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_affinity", lambda: set(range(8)))
    monkeypatch.setattr(threads, "_physical_cores", len)
    monkeypatch.setattr(threads, "_cgroup_quota", lambda: None)
    return monkeypatch


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def test_all_cpus_are_used_where_nothing_limits(machine: pytest.MonkeyPatch) -> None:
    assert usable_threads() == Threads(8, "CPU affinity")


def test_what_was_asked_for_wins_over_every_limit(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("OMP_NUM_THREADS", "2")
    machine.setattr(threads, "_cgroup_quota", lambda: 1.0)
    assert usable_threads(64) == Threads(64, "asked for")


@pytest.mark.parametrize("number", [0, -3])
def test_fewer_than_one_thread_is_refused_with_its_value(number: int) -> None:
    with pytest.raises(InputError, match=f"threads must be a positive integer. Got {number} instead"):
        usable_threads(number)


def test_hyper_threads_of_one_core_count_once(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(threads, "_physical_cores", lambda cpus: len(cpus) // 2)
    assert usable_threads() == Threads(4, "physical cores")


@pytest.mark.parametrize(
    ("quota", "number"), [(0.5, 1), (1.0, 1), (2.9, 2), (3.0, 3)], ids=["half", "one", "nearly three", "three"]
)
def test_a_quota_is_rounded_down_but_leaves_one_thread(machine: pytest.MonkeyPatch, quota: float, number: int) -> None:
    machine.setattr(threads, "_cgroup_quota", lambda: quota)
    assert usable_threads() == Threads(number, f"cgroup quota of {quota:g} CPUs")


def test_a_quota_above_the_cpus_there_are_changes_nothing(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(threads, "_cgroup_quota", lambda: 64.0)
    assert usable_threads() == Threads(8, "CPU affinity")


@pytest.mark.parametrize(("value", "number"), [("3", 3), (" 3 ", 3), ("3,1", 3), ("3 , 2,1", 3)])
def test_omp_num_threads_counts_and_of_a_list_its_first(machine: pytest.MonkeyPatch, value: str, number: int) -> None:
    machine.setenv("OMP_NUM_THREADS", value)
    assert usable_threads() == Threads(number, "OMP_NUM_THREADS")


def test_an_empty_omp_num_threads_is_none(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("OMP_NUM_THREADS", "  ")
    assert usable_threads() == Threads(8, "CPU affinity")


def test_omp_num_threads_does_not_raise_the_number(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("OMP_NUM_THREADS", "99")
    assert usable_threads().number == 8


@pytest.mark.parametrize("value", ["0", "-2", "two", "1.5", "²"])
def test_a_wrong_omp_num_threads_is_refused_with_its_value(machine: pytest.MonkeyPatch, value: str) -> None:
    machine.setenv("OMP_NUM_THREADS", value)
    with pytest.raises(InputError, match=f"OMP_NUM_THREADS must be a positive integer. Got '{value}' instead"):
        usable_threads()


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "max 100000\n", "cpu/cpu.cfs_quota_us": "1", "cpu/cpu.cfs_period_us": "1"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n"}, None),
        ({"cpu.max": "broken"}, None),
        ({"cpu.max": "many 100000"}, None),
        ({}, None),
    ],
    ids=["v2", "v2 unlimited", "v2 before v1", "v1", "v1 unlimited", "v1 halved", "broken", "no number", "no cgroup"],
)
def test_quota_files_of_both_versions_are_read(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    assert threads._cgroup_quota(write(tmp_path, files), tmp_path / "no process") == quota


@pytest.mark.parametrize(
    ("group", "files", "quota"),
    [
        ("0::/jobs/mine", {"jobs/mine/cpu.max": "150000 100000", "jobs/cpu.max": "max 100000"}, 1.5),
        ("0::/jobs/mine", {"jobs/mine/cpu.max": "max 100000", "jobs/cpu.max": "300000 100000"}, 3.0),
        ("0::/jobs/mine", {"jobs/other/cpu.max": "100000 100000", "cpu.max": "400000 100000"}, 4.0),
        ("0::/", {"jobs/cpu.max": "100000 100000"}, None),
        (
            "5:memory:/m\n4:cpu,cpuacct:/jobs\n0::/",
            {"cpu/jobs/cpu.cfs_quota_us": "250000", "cpu/jobs/cpu.cfs_period_us": "100000"},
            2.5,
        ),
    ],
    ids=["own", "a parent's", "not a sibling's", "not a child's", "v1"],
)
def test_the_least_quota_from_this_process_group_to_the_root_counts(
    tmp_path: Path, group: str, files: dict[str, str], quota: float | None
) -> None:
    write(tmp_path, {"process": group + "\n"})
    assert threads._cgroup_quota(write(tmp_path, files), tmp_path / "process") == quota


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no CPU affinity")
def test_affinity_is_this_process_own(machine: pytest.MonkeyPatch) -> None:
    machine.undo()
    assert threads._affinity() == os.sched_getaffinity(0)
    assert 1 <= threads._physical_cores(os.sched_getaffinity(0)) <= len(os.sched_getaffinity(0))


def test_without_affinity_every_cpu_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert threads._affinity() == set(range(6))


def test_without_topology_every_cpu_is_a_core() -> None:
    assert threads._physical_cores({10**6, 10**6 + 1}) == 2
