"""Daemon functions: a library with the client's names, called an exact number of times."""

from __future__ import annotations

import ctypes
import errno
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cvmprof.errors import CvmprofError
from cvmprof.probes import catalog, events
from cvmprof.probes.kernel import KernelFacts, running_kernel
from cvmprof.profiler.record.attach import Attacher

from .conftest import Record, Recording, Stopping

CALLS = 1009
DEEPEST = 8  # daemon calls on one thread that are kept
READ, FETCH, DOWNLOAD, OPEN, STATFS = 9, 14, 15, 16, 11  # places in events.DAEMON_FUNCTIONS
FOUND = {
    "cvmfs::cvmfs_read", "cvmfs::cvmfs_statfs", "cvmfs::Fetcher::Fetch",
    "download::DownloadManager::Fetch", "PosixCacheManager::Open",
}  # fmt: skip


@dataclass(frozen=True)
class Recorded:
    """What a recording of the daemon left."""

    pid: int
    calls: list[Record]
    result: dict[str, Any]
    probes: list[dict[str, Any]]

    def of(self, function: int) -> list[Record]:
        return [call for call in self.calls if call["function"] == function]


def record(recorder: Recording, process: Stopping) -> Recorded:
    assert process.go_on()
    result = recorder.stop()
    calls = [call for call in recorder.records(events.CALL) if call["pid"] == process.pid]
    rows = [row for line in recorder.journal("probes") for row in line["rows"]]
    return Recorded(process.pid, calls, result, rows)


def test_the_numbers_of_functions() -> None:
    names = [events.DAEMON_FUNCTIONS[number] for number in (READ, FETCH, DOWNLOAD, OPEN, STATFS)]
    assert names == [
        "cvmfs_read",
        "Fetcher::Fetch",
        "DownloadManager::Fetch",
        "CacheManager::Open",
        "cvmfs_statfs",
    ]


@pytest.fixture(params=["uprobe_multi", "uprobe"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def recorded(
    recording: Callable[..., Recording],
    stopping: Callable[..., Stopping],
    daemon: Path,
    family: str,
) -> Recorded:
    process = stopping(daemon, CALLS, 0)
    return record(recording({"perf_uprobes": family == "uprobe"}), process)


def test_every_call_is_recorded_as_it_was(recorded: Recorded, library: Path, family: str) -> None:
    _every_function_was_probed(recorded, library, family)
    _calls_are_counted(recorded)
    _arguments_are_recorded(recorded)
    _calls_are_nested(recorded)
    _results_are_recorded(recorded)


def _every_function_was_probed(recorded: Recorded, library: Path, family: str) -> None:
    ours = {
        row["target"].split(":", 1)[1]: row
        for row in recorded.probes
        if row["target"].split(":", 1)[0].endswith(str(library))
    }
    attached = {name for name, row in ours.items() if row["family"] == family}
    assert attached == FOUND, ours
    lacking = [row for name, row in ours.items() if name not in FOUND]
    assert len(lacking) == 10
    assert all(row["family"] == "none" and "no symbol" in row["reason"] for row in lacking)
    assert len({row["build_id"] for row in ours.values()}) == 1


def _calls_are_counted(recorded: Recorded) -> None:
    odd = (CALLS + 1) // 2 - sum(1 for n in range(1, CALLS + 1) if n % 251 % 2 == 0 and n % 2)
    odd += sum(1 for n in range(1, CALLS + 1) if n % 251 % 2 and n % 2 == 0)
    counts = Counter(call["function"] for call in recorded.calls)
    assert counts == {READ: CALLS, FETCH: CALLS, OPEN: CALLS, DOWNLOAD: odd, STATFS: 1}
    losses = [row for row in recorded.result["losses"] if row["probe"] == "daemon call"]
    assert losses == []


def _arguments_are_recorded(recorded: Recorded) -> None:
    reads = recorded.of(READ)
    assert [call["unique"] for call in reads] == list(range(1, CALLS + 1))
    for call in reads:
        number = call["unique"]
        arguments = (call["ino"], call["size"], call["offset"])
        assert arguments == (number + 1000, number + 2000, number + 3000)
    for function in (FETCH, OPEN):
        for number, call in enumerate(recorded.of(function), 1):
            digest = bytes([number % 251]) * 20
            assert call["object"][:25] == digest + b"\1\0\0\0" + b"P"


def _calls_are_nested(recorded: Recorded) -> None:
    by_start = {(call["function"], call["start_ns"]): call for call in recorded.calls}
    for child, parent in ((READ, 0), (FETCH, READ), (OPEN, FETCH), (DOWNLOAD, FETCH)):
        for call in recorded.of(child):
            assert call["tid"] == recorded.pid
            assert call["parent_function"] == parent
            around = by_start.get((parent, call["parent_start_ns"]))
            if parent:
                assert around is not None
                assert around["start_ns"] < call["start_ns"] < call["end_ns"] < around["end_ns"]
                assert call["unique"] == around["unique"]  # of the request being served
            else:
                assert call["parent_start_ns"] == 0


def _results_are_recorded(recorded: Recorded) -> None:
    """The functions return an int, the lower half of the register."""
    for number, call in enumerate(recorded.of(OPEN), 1):
        assert call["result"] & 0xFFFFFFFF == (0xFFFFFFFE if number % 251 % 2 else 5)
    assert {call["result"] & 0xFFFFFFFF for call in recorded.of(DOWNLOAD)} == {7}
    for number, call in enumerate(recorded.of(FETCH), 1):
        assert call["result"] & 0xFFFFFFFF == (7 + len("name") if number % 251 % 2 else 5)


def test_calls_nested_too_deep_are_counted_once_each(
    recording: Callable[..., Recording], stopping: Callable[..., Stopping], daemon: Path
) -> None:
    process = stopping(daemon, 0, DEEPEST + 3)
    recorded = record(recording(), process)
    assert Counter(call["function"] for call in recorded.calls) == {STATFS: DEEPEST}
    losses = {
        row["cause"]: row["count"]
        for row in recorded.result["losses"]
        if row["probe"] == "daemon call"
    }
    assert losses == {"map full": 3}


def test_calls_that_find_the_ring_full_are_counted(
    recording: Callable[..., Recording], stopping: Callable[..., Stopping], daemon: Path
) -> None:
    process = stopping(daemon, 100_003, 0)
    recorder = recording({"ring_pages": {"call": 1}})
    recorded = record(recorder, process)
    produced = sum(3 + (number % 251 % 2) for number in range(1, 100_004)) + 1
    dropped = sum(
        row["count"]
        for row in recorded.result["losses"]
        if (row["probe"], row["cause"]) == ("daemon call", "ring full")
    )
    (hits,) = (row for row in recorder.journal("hits")[0]["rows"] if row["event"] == "daemon call")
    others = hits["hits"] - produced  # calls of clients that run here besides
    assert others >= 0
    assert dropped > 0
    assert 0 <= len(recorded.calls) + dropped - produced <= others


def test_a_daemon_born_later_is_probed_before_it_goes_on(
    recording: Callable[..., Recording], stopping: Callable[..., Stopping], daemon: Path
) -> None:
    recorder = recording()
    process = stopping(daemon, 101, 0)
    recorder.step_until(lambda: any(str(daemon.parent) in name for name in recorder.probed()))
    recorded = record(recorder, process)
    assert [call["unique"] for call in recorded.of(READ)] == list(range(1, 102))
    task = [each for each in recorder.records(events.TASK) if each["pid"] == process.pid]
    assert {each["role"] for each in task} == {events.ROLE_DAEMON}


# --- what cannot be attached ----------------------------------------------------------------------


class Loaded:
    """A program that bcc says it has loaded."""

    fd = -1


class Bpf:
    """What an attacher asks of bcc, refusing what it is told to."""

    KPROBE, RAW_TRACEPOINT = 2, 17

    def __init__(self, refuses: str = "") -> None:
        self.refuses = refuses
        self.attached = list[str]()
        self.links = list[int]()
        self.funcs = dict[bytes, Loaded]()
        self.module = None

    @property
    def BPF(self) -> Bpf:
        return self

    @property
    def lib(self) -> Bpf:
        return self

    def bpf_module_license(self, _: object) -> bytes:
        """Of libbcc: a program of no instructions, which the kernel refuses."""
        return b"GPL"

    def bpf_function_start(self, *_: object) -> int:
        return 0

    bpf_function_size = bpf_function_start

    def bpf_attach_uprobe(self, program: int, kind: int, *more: object) -> int:
        """Of libbcc: the last two arguments are the process and the reference counter's offset."""
        assert more[-2:] == (-1, 0)
        what = ("uprobe", "uretprobe")[kind]
        if what == self.refuses:
            return -1
        self.attached.append(what)
        return 9

    def load_func(self, *_: object) -> Loaded:
        return Loaded()

    def bpf_attach_raw_tracepoint(self, program: int, tp: bytes) -> int:
        if tp.decode() == self.refuses:
            ctypes.set_errno(errno.EBUSY)
            return -1
        self.attached.append(tp.decode())
        self.links.append(os.open(os.devnull, os.O_RDONLY))
        return self.links[-1]

    def attach_perf_event(self, **_: object) -> None:
        self._attach("perf")

    def _attach(self, what: str) -> None:
        if what == self.refuses:
            raise Exception(f"Failed to attach {what}")  # as bcc does
        self.attached.append(what)


def test_a_link_that_the_kernel_refuses_is_a_row_with_the_reason(library: Path) -> None:
    bpf = Bpf()
    attacher = Attacher(bpf, bpf, running_kernel())
    rows = {row.target.split(":", 1)[1]: row for row in attacher.attach_library(str(library))}
    assert {row.family for row in rows.values()} == {"none"}
    refused = f"its program does not load: {os.strerror(errno.E2BIG)}"  # none, or too many
    assert {name for name, row in rows.items() if refused in str(row.reason)} == FOUND


def test_a_return_that_cannot_be_probed_leaves_no_entry_probed(library: Path) -> None:
    bpf = Bpf(refuses="uretprobe")
    attacher = Attacher(bpf, bpf, KernelFacts("5.10", "x86_64"))
    rows = {row.target.split(":", 1)[1]: row for row in attacher.attach_library(str(library))}
    refused = "cannot be attached"
    assert {name for name, row in rows.items() if refused in str(row.reason)} == FOUND
    assert bpf.attached == []


def test_a_library_is_probed_once_whatever_it_is_called(library: Path, tmp_path: Path) -> None:
    link = tmp_path / "libcvmfs_fuse3.so"
    link.symlink_to(library)
    bpf = Bpf()
    attacher = Attacher(bpf, bpf, KernelFacts("5.10", "x86_64"))
    assert len(attacher.attach_library(str(library))) == 15
    assert attacher.attach_library(str(library)) == ()
    assert attacher.attach_library(str(link)) == ()
    assert bpf.attached == ["uretprobe", "uprobe"] * len(FOUND)


def test_what_is_no_library_is_a_row_with_the_reason(tmp_path: Path) -> None:
    text = tmp_path / "libcvmfs_fuse3.so"
    text.write_text("INPUT(somewhere else)\n" * 9)
    attacher = Attacher(Bpf(), Bpf(), KernelFacts("5.10", "x86_64"))
    (row,) = attacher.attach_library(str(text))
    assert (row.family, row.target) == ("none", str(text))
    assert "not a 64-bit little-endian ELF file" in str(row.reason)
    assert attacher.attach_library(str(tmp_path / "absent")) == ()


TRACEPOINTS_ONLY = {
    event.name
    for event in catalog.EVENTS
    if any(points[0].family == catalog.RAW_TRACEPOINT for points in event.alternatives)
}


def test_an_event_that_cannot_be_attached_is_a_row_with_the_reason() -> None:
    bpf = Bpf(refuses="mm_filemap_map_pages")
    attacher = Attacher(bpf, bpf, running_kernel())
    attacher.attach_kernel_events()
    # no function of the kernel is attached here
    refused = [each for each in attacher.probes if each.reason and each.event in TRACEPOINTS_ONLY]
    assert [(probe.event, probe.family) for probe in refused] == [("fault-around", "none")]
    assert refused[0].reason == "mm_filemap_map_pages: Device or resource busy"
    assert bpf.attached.index("sys_exit") < bpf.attached.index("sys_enter")
    assert bpf.attached.index("sched_switch") < bpf.attached.index("sys_exit")


def test_of_a_way_that_is_refused_in_part_nothing_stays() -> None:
    bpf = Bpf(refuses="sys_enter")
    attacher = Attacher(bpf, bpf, running_kernel())
    points = catalog.EVENTS[0].alternatives[0]
    assert [point.target for point in points] == ["sys_exit", "sys_enter"]
    assert attacher.attach_points(points) == "sys_enter: Device or resource busy"
    (link,) = bpf.links
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(link)


def test_without_a_mandatory_event_there_is_no_recording() -> None:
    bpf = Bpf(refuses="sched_switch")
    attacher = Attacher(bpf, bpf, running_kernel())
    with pytest.raises(CvmprofError, match=r"cannot observe 'off CPU'.*sched_switch"):
        attacher.attach_kernel_events()


def test_an_event_that_the_kernel_lacks_is_a_row_with_the_reason() -> None:
    facts = running_kernel()
    del facts.raw_tracepoints["mm_filemap_map_pages"]
    bpf = Bpf()
    attacher = Attacher(bpf, bpf, facts)
    attacher.attach_kernel_events()
    (row,) = [probe for probe in attacher.probes if probe.event == "fault-around"]
    reason = "this kernel lacks the tracepoint mm_filemap_map_pages"
    assert (row.family, row.reason) == ("none", reason)
