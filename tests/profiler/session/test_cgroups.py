"""Quotas of CPU time, from trees of files like the kernel's of both versions, and from its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cvmprof.profiler.session.cgroups import CpuReader, hierarchy_of

V1 = "33 32 0:30 {root} {place} rw - cgroup cgroup rw,cpu,cpuacct\n"
V2 = "34 32 0:31 {root} {place} rw - cgroup2 cgroup2 rw,nsdelegate\n"
OTHER = "35 32 0:32 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
STAT = "cpu  10 2 3 1000 50 1 4 7 5 0\ncpu0 10 2 3 1000 50 1 4 7 5 0\n"
PRESSURE = "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500\nfull avg10=0.00 total=9\n"


class Tree:
    """A tree of files below a directory: /proc, and where cgroups are mounted."""

    def __init__(self, top: Path) -> None:
        self.proc, self.place = top / "proc", top / "cgroups"
        self.reader = CpuReader(self.proc)

    def write(self, **texts: str) -> None:
        for name, text in texts.items():
            path = self.proc / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def cgroup(self, name: str, **texts: str) -> None:
        for file, text in texts.items():
            path = self.place / name / f"cpu.{file}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_version_1_counts_in_nanoseconds_and_all_above_count(tree: Tree) -> None:
    tree.write(self__mountinfo=OTHER + V1.format(root="/", place=tree.place))
    tree.write(**{"7__cgroup": "5:cpuset:/\n4:cpuacct,cpu:/pods/one\n0::/elsewhere\n"})
    stat = "nr_periods 30\nnr_throttled 12\nthrottled_time 123456789\n"
    tree.cgroup("pods/one", cfs_quota_us="15000\n", cfs_period_us="100000\n", stat=stat)
    tree.cgroup("pods", cfs_quota_us="50000\n", cfs_period_us="25000\n", stat="nr_periods 3\n")
    tree.cgroup(".", cfs_quota_us="-1\n", cfs_period_us="100000\n", stat=stat)
    assert list(tree.reader.cgroups(7)) == [
        {"path": "/pods/one", "quota_us": 15000, "period_us": 100000, "periods": 30,
         "throttled_periods": 12, "throttled_ns": 123456789},
        {"path": "/pods", "quota_us": 50000, "period_us": 25000},
    ]  # fmt: skip


def test_version_2_counts_in_microseconds(tree: Tree) -> None:
    tree.write(self__mountinfo=OTHER + V2.format(root="/", place=tree.place))
    tree.write(**{"7__cgroup": "0::/user.slice/job\n"})
    stat = "usage_usec 9000\nnr_periods 30\nnr_throttled 12\nthrottled_usec 1234\n"
    tree.cgroup("user.slice/job", max="150000 100000\n", stat=stat)
    tree.cgroup("user.slice", max="max 100000\n", stat="usage_usec 1\n")
    assert list(tree.reader.cgroups(7)) == [
        {"path": "/user.slice/job", "quota_us": 150000, "period_us": 100000, "periods": 30,
         "throttled_periods": 12, "throttled_ns": 1234000},
    ]  # fmt: skip


def test_a_container_sees_its_part_of_the_tree(tree: Tree) -> None:
    """What is mounted is one cgroup, and others have names that lead out of it."""
    tree.write(self__mountinfo=V2.format(root="/docker/abc", place=tree.place))
    tree.write(**{"7__cgroup": "0::/docker/abc/inner\n", "8__cgroup": "0::/../daemon\n"})
    tree.write(**{"9__cgroup": "0::/docker/abcdef\n", "10__cgroup": "0::/docker/abc\n"})
    tree.cgroup(".", max="200000 100000\n")
    found = [{"path": "/docker/abc", "quota_us": 200000, "period_us": 100000}]
    assert list(tree.reader.cgroups(7)) == found
    assert list(tree.reader.cgroups(10)) == found
    assert list(tree.reader.cgroups(8)) == list(tree.reader.cgroups(9)) == []


def test_what_cannot_be_read_is_left_out(tree: Tree) -> None:
    assert list(tree.reader.cgroups(7)) == [], "no /proc at all"
    assert tree.reader.machine() == {}
    other = Tree(tree.proc.parent / "second")
    other.write(self__mountinfo=V2.format(root="/", place=other.place), stat="damaged\n")
    other.write(**{"7__cgroup": "no colon\n0::/a/b\n", "pressure__cpu": ""})
    other.cgroup("a/b", max="nonsense\n")
    other.cgroup("a", max="5000 100000\n", stat="nr_periods x\n")
    found = [{"path": "/a", "quota_us": 5000, "period_us": 100000}]
    assert list(other.reader.cgroups(7)) == found
    assert list(other.reader.cgroups(8)) == [], "it has ended"
    assert other.reader.machine() == {}


def test_version_1_is_taken_where_it_has_the_controller(tree: Tree) -> None:
    both = V2.format(root="/", place="/two") + V1.format(root="/", place="/one")
    found = hierarchy_of(both)
    assert found is not None
    assert (found.version, str(found.place)) == (1, "/one")
    assert hierarchy_of(OTHER) is None


def test_the_machines_times_are_nanoseconds_since_boot(tree: Tree) -> None:
    tree.write(stat=STAT, pressure__cpu=PRESSURE)
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert tree.reader.machine() == {
        "used_ns": 20 * tick_ns, "idle_ns": 1050 * tick_ns, "stolen_ns": 7 * tick_ns,
        "pressure_ns": 2_500_000,
    }  # fmt: skip


@pytest.fixture
def limited() -> Iterator[tuple[Path, int]]:
    """A process of this machine in a cgroup with a quota of 7 ms in 100 ms."""
    found = hierarchy_of(Path("/proc/self/mountinfo").read_text())
    if found is None:
        pytest.skip("no cgroups with the CPU controller are mounted here")
    place = found.place / f"cvmprof-test-{os.getpid()}"
    place.mkdir()
    child = subprocess.Popen(["sleep", "600"])
    try:
        if found.version == 1:
            (place / "cpu.cfs_quota_us").write_text("7000")
        else:
            (place / "cpu.max").write_text("7000 100000")
        (place / "cgroup.procs").write_text(str(child.pid))
        yield place, child.pid
    finally:
        child.kill()
        child.wait()
        place.rmdir()


def test_this_kernels_own_files(limited: tuple[Path, int]) -> None:
    place, pid = limited
    inner, *outer = CpuReader().cgroups(pid)
    assert (Path(inner["path"]).name, inner["quota_us"]) == (place.name, 7000)
    assert {"periods", "throttled_periods", "throttled_ns"} <= set(inner)
    assert outer == list(CpuReader().cgroups(os.getpid()))
    machine = CpuReader().machine()
    assert machine["used_ns"] > 0
    assert machine["idle_ns"] > 0
