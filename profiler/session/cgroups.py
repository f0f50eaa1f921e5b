"""What the kernel reports of cgroups that have a quota of CPU time, and of the machine's CPUs.

Read as the invoking user, below /proc and where cgroups are mounted. In a container some cgroups
above a process are out of sight: what cannot be read is left out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..run.mountinfo import parse_mountinfo

Values = dict[str, Any]
_SOME = re.compile(r"^some .*total=(\d+)$", re.MULTILINE)
_MEMBER = re.compile(r"^(\d+):([^:]*):(/.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Hierarchy:
    """Where cgroups that share CPU time are mounted: version 1 or 2.

    ``root``: the cgroup that is mounted there.
    """

    version: int
    place: Path
    root: str


@dataclass(frozen=True)
class CpuReader:
    """Reads quotas and what became of them. ``proc`` is /proc."""

    proc: Path = Path("/proc")
    _hierarchy: list[Hierarchy | None] = field(default_factory=list[Hierarchy | None])

    def cgroups(self, pid: int) -> Iterator[Values]:
        """The cgroup of a process and those above it that have a quota, the innermost first.

        path, quota_us, period_us, periods, throttled_periods, throttled_ns, as far as known.
        """
        hierarchy = self._mounted()
        name = self._name(pid, hierarchy)
        if hierarchy is None or name is None:
            return
        inside = Path(os.path.relpath(name, hierarchy.root))
        for part in (inside, *inside.parents):
            values = _limited(hierarchy, hierarchy.place / part)
            if values:
                yield {"path": os.path.normpath(os.path.join(hierarchy.root, part)), **values}

    def machine(self) -> Values:
        """Of all CPUs together since boot: used_ns, idle_ns, stolen_ns by a hypervisor, and
        pressure_ns, in which a task that could run had no CPU.
        """
        values = Values()
        with suppress(OSError, ValueError, IndexError):
            values |= _times((self.proc / "stat").read_text())
        with suppress(OSError, ValueError, IndexError):
            values["pressure_ns"] = _pressure((self.proc / "pressure/cpu").read_text())
        return values

    def _mounted(self) -> Hierarchy | None:
        if not self._hierarchy:
            text = ""
            with suppress(OSError):
                text = (self.proc / "self/mountinfo").read_text(errors="surrogateescape")
            self._hierarchy.append(hierarchy_of(text))
        return self._hierarchy[0]

    def _name(self, pid: int, hierarchy: Hierarchy | None) -> str | None:
        """The name of a process's cgroup, below what is mounted."""
        if hierarchy is None:
            return None
        try:
            text = (self.proc / f"{pid}/cgroup").read_text(errors="surrogateescape")
        except OSError:  # it has ended
            return None
        for number, controllers, name in _MEMBER.findall(text):
            listed = "cpu" in controllers.split(",") if hierarchy.version == 1 else number == "0"
            if listed:
                below = hierarchy.root.rstrip("/") + "/"
                return name if (name.rstrip("/") + "/").startswith(below) else None
        return None


def hierarchy_of(text: str) -> Hierarchy | None:
    """The hierarchy that holds the CPU controller, by the text of mountinfo; None if none does.

    Where both versions are mounted it is version 1, if that one has the controller.
    """
    mounted = parse_mountinfo(text)
    for each in mounted:
        if each.filesystem == "cgroup" and "cpu" in each.options.split(","):
            return Hierarchy(1, Path(each.mountpoint), each.root)
    for each in mounted:
        if each.filesystem == "cgroup2":
            return Hierarchy(2, Path(each.mountpoint), each.root)
    return None


def _limited(hierarchy: Hierarchy, cgroup: Path) -> Values:
    """The quota of a cgroup and what became of it; empty if it has none, or is out of sight."""
    read = _quota_v1 if hierarchy.version == 1 else _quota_v2
    try:
        values = read(cgroup)
    except (OSError, ValueError):
        return {}
    if values:
        with suppress(OSError, ValueError):
            values |= _throttled(_numbers((cgroup / "cpu.stat").read_text()))
    return values


def _quota_v1(cgroup: Path) -> Values:
    quota_us = int((cgroup / "cpu.cfs_quota_us").read_text())
    period_us = int((cgroup / "cpu.cfs_period_us").read_text())
    return {"quota_us": quota_us, "period_us": period_us} if quota_us > 0 else {}


def _quota_v2(cgroup: Path) -> Values:
    quota_us, period_us = (cgroup / "cpu.max").read_text().split()
    if quota_us == "max":
        return {}
    return {"quota_us": int(quota_us), "period_us": int(period_us)}


def _throttled(stat: dict[str, int]) -> Values:
    """Counts of ``cpu.stat``: version 1 counts nanoseconds, version 2 microseconds."""
    values = Values()
    if "nr_periods" in stat and "nr_throttled" in stat:
        values |= {"periods": stat["nr_periods"], "throttled_periods": stat["nr_throttled"]}
    if "throttled_time" in stat:
        values["throttled_ns"] = stat["throttled_time"]
    elif "throttled_usec" in stat:
        values["throttled_ns"] = stat["throttled_usec"] * 1000
    return values


def _numbers(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}


def _times(stat: str) -> Values:
    """Times of /proc/stat (proc(5)), in nanoseconds; those of guests are in user's already."""
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, stat.split()[1:9])
    return {
        "used_ns": (user + nice + system + irq + softirq) * tick_ns,
        "idle_ns": (idle + iowait) * tick_ns,
        "stolen_ns": steal * tick_ns,
    }


def _pressure(text: str) -> int:
    """The total of the line ``some`` (Documentation/accounting/psi.rst), in nanoseconds."""
    return int(_SOME.findall(text)[0]) * 1000
