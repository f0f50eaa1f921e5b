"""Calls of the CUDA driver by uprobes: stand-ins of the driver, called an exact number of times."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cvmprof.probes import events
from cvmprof.probes.gpu import base_name, call_kind
from cvmprof.tests.gpu.stand_ins import StandIns, read_log

from .conftest import NOBODY, Record, Recording, Stopping

COUNTED = ("launch", "memset")
BUDGET = 100.0  # per cent: never above it


def gated(environment: dict[str, str], *command: object) -> list[object]:
    """A command that stops before it is executed, with variables of an environment."""
    names = ("LD_LIBRARY_PATH", "STANDIN_LOG")
    variables = [f"{name}={environment[name]}" for name in names if name in environment]
    return ["env", *variables, "sh", "-c", 'kill -STOP $$; exec "$@"', "sh", *command]


def function_of(record: Record) -> str:
    return events.GPU_FUNCTIONS[int(record["function"])]


def launches_by_thread(records: list[Record]) -> Counter[tuple[int, str]]:
    counted = Counter[tuple[int, str]]()
    for record in records:
        counted[record["tid"], function_of(record)] += record["count"]
    return counted


def losses(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in result["losses"] if row["probe"].startswith("GPU")]


def rows_of(recorder: Recording, library: Path) -> dict[str, dict[str, Any]]:
    """The last rows of `probes` for a library, by event."""
    rows = [row for line in recorder.journal("probes") for row in line["rows"]]
    return {row["event"]: row for row in rows if row["target"].endswith(str(library))}


def until_probed(recorder: Recording, library: Path) -> None:
    """Lets the recorder step until it has probed a library, or refused to."""
    recorder.step_until(lambda: len(rows_of(recorder, library)) == 2)


STEPS = {
    "exported": ("init", "threads", 3, "launch", 1009, 5, "in", 101, 4099, "out", 53, 17, "set", 37,
                 11, "sync", 29, "graph", 13, 4),
    "by address": ("init", "proc", "threads", 3, "launch", 503, 5, "in", 41, 4099, "sync", 23),
    "of the thread's stream": ("init", "ptsz", "proc", "threads", 3, "launch", 307, 5, "out", 31,
                               257, "set", 19, 11, "graph", 11, 4, "sync", 7),
}  # fmt: skip


@pytest.mark.parametrize(
    ("family", "way"), [*(("uprobe_multi", way) for way in STEPS), ("uprobe", "exported")]
)
def test_every_call_is_recorded_as_it_was(
    recording: Callable[..., Recording],
    stopping: Callable[..., Stopping],
    stand_ins: StandIns,
    tmp_path: Path,
    family: str,
    way: str,
) -> None:
    log = tmp_path / "log"
    process = stopping(*gated(stand_ins.environment(log), stand_ins.program, *STEPS[way]))
    changes = {"perf_uprobes": family == "uprobe"}
    libraries = str(stand_ins.libraries)
    recorder = recording(changes, gpu="api", gpu_budget=BUDGET, search_path=libraries)
    recorder.trace(process.pid)
    assert not process.go_on()
    result = recorder.stop()
    called = [line for line in read_log(log) if line["kind"] == "call"]
    assert losses(result) == []
    _launches_are_counted(recorder, called)
    _calls_are_whole(recorder, called)
    rows = rows_of(recorder, stand_ins.libcuda)
    assert {event: row["family"] for event, row in rows.items()} == {
        "GPU call": family, "GPU launch": family,
    }  # fmt: skip
    assert {(row["symbols"], row["reason"]) for row in rows.values()} == {(".dynsym", None)}


def _launches_are_counted(recorder: Recording, called: list[dict[str, Any]]) -> None:
    records = recorder.records(events.GPU_LAUNCHES)
    expected = Counter(
        (line["tid"], base_name(line["function"]))
        for line in called
        if call_kind(line["function"]) in COUNTED
    )
    assert launches_by_thread(records) == expected
    for record in records:
        assert record["first_ns"] // 10_000_000 == record["last_ns"] // 10_000_000
        assert record["pid"] in {line["pid"] for line in called}


def _calls_are_whole(recorder: Recording, called: list[dict[str, Any]]) -> None:
    whole = [line for line in called if call_kind(line["function"]) not in (*COUNTED, None)]
    records = sorted(recorder.records(events.GPU_CALL), key=_thread_and_start)
    assert len(records) == len(whole)
    for number, logged in enumerate(sorted(whole, key=_thread_and_start)):
        record = records[number]
        function = base_name(logged["function"])
        assert (record["pid"], record["tid"]) == (logged["pid"], logged["tid"])
        assert function_of(record) == function
        assert record["start_ns"] <= logged["start_ns"] <= logged["end_ns"] <= record["end_ns"]
        assert record["result"] == logged["result"]
        assert record["bytes"] == (logged["bytes"] if function.startswith("cuMemcpy") else 0)


def _thread_and_start(call: dict[str, Any]) -> tuple[int, int]:
    return call["tid"], call["start_ns"]


@pytest.fixture
def nested(build: Callable[..., Path]) -> tuple[Path, Path]:
    """The driver whose functions call one another, and the program that calls them."""
    name = "-Wl,-soname,libcuda.so.1"
    library = build("nested_driver.c", "nested/libcuda.so.1", "-shared", "-fPIC", "-O2", name)
    return library, build("nesting.c", "nesting", str(library), "-Wl,-rpath,$ORIGIN/nested")


@pytest.mark.parametrize("family", ["uprobe_multi", "uprobe"])
def test_of_calls_inside_calls_the_outermost_counts(
    recording: Callable[..., Recording],
    stopping: Callable[..., Stopping],
    nested: tuple[Path, Path],
    family: str,
) -> None:
    library, program = nested
    process = stopping(program)
    changes = {"perf_uprobes": family == "uprobe"}
    recorder = recording(changes, gpu="api", gpu_budget=BUDGET, search_path=str(library.parent))
    recorder.trace(process.pid)
    assert process.go_on()
    result = recorder.stop()
    records = recorder.records(events.GPU_CALL)
    assert [(function_of(each), each["bytes"], each["result"]) for each in records] == [
        ("cuMemcpy", 100, 103),
        ("cuMemcpyAsync", 200, 200),
        ("cuMemAlloc", 0, 5),
        ("cuMemcpyHtoD", 300, 300),
        ("cuStreamSynchronize", 0, 7),
        ("cuStreamSynchronize", 0, 7),
    ]
    launches = launches_by_thread(recorder.in_flight(events.GPU_LAUNCHES))
    assert launches == {(process.pid, "cuLaunchKernel"): 1}
    assert [(row["probe"], row["cause"], row["count"]) for row in losses(result)] == [
        ("GPU call", "unmatched start", 1)  # the one that was left by longjmp
    ]


class User:
    """A program that does with a driver what it is told, step by step."""

    def __init__(self, program: Path, log: Path) -> None:
        self.process = subprocess.Popen(
            [program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "STANDIN_LOG": str(log)},
        )

    def does(self, *step: object) -> int:
        """Waits for a step to be done; the process that did it."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(" ".join(map(str, step)) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> None:
        """Lets it end by itself."""
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait() == 0


@pytest.fixture
def user(build: Callable[..., Path], tmp_path: Path) -> Iterator[User]:
    """The program, which has loaded no driver."""
    started = User(build("driver_user.c", "driver_user", "-ldl"), tmp_path / "log")
    with started.process:
        yield started
        started.process.kill()


@pytest.fixture
def copy(stand_ins: StandIns, tmp_path: Path) -> Callable[[str], Path]:
    """Makes a copy of the driver in a directory of its own."""

    def make(directory: str) -> Path:
        library = tmp_path / directory / "libcuda.so.550.01"
        library.parent.mkdir()
        shutil.copy(stand_ins.libcuda, library)
        return library

    return make


def test_drivers_that_processes_load_later_are_probed_then(
    recording: Callable[..., Recording], user: User, copy: Callable[[str], Path]
) -> None:
    """One that the command loads, and another that a child of it brings."""
    one, other = copy("one"), copy("other")
    recorder = recording(gpu="api", gpu_budget=BUDGET)
    recorder.trace(user.process.pid)
    user.does("open", one)
    until_probed(recorder, one)
    parent = user.does("sync", 7)
    child = user.does("child")
    user.does("open", other)
    until_probed(recorder, other)
    user.does("sync", 11)
    user.does("launch", 13)
    user.does("in", 3, 4099)
    user.end()
    assert losses(recorder.stop()) == []
    calls = recorder.records(events.GPU_CALL)
    assert Counter((call["pid"], function_of(call), call["bytes"]) for call in calls) == {
        (parent, "cuCtxSynchronize", 0): 7,
        (child, "cuCtxSynchronize", 0): 11,
        (child, "cuMemcpyHtoD", 4099): 3,
    }
    launches = launches_by_thread(recorder.records(events.GPU_LAUNCHES))  # its thread has ended
    assert launches == {(child, "cuLaunchKernel"): 13}
    mapped = recorder.records(events.GPU_LIBRARY)
    assert [record["pid"] for record in mapped] == [parent, child]
    assert [line["pid"] for line in recorder.journal("driver")] == [parent, child]


def synchronises(pid: int, log: Path) -> bool:
    """Whether a process has launched, and sleeps until a time, as the stand-in does then."""
    if not log.exists() or "cuLaunchKernel" not in log.read_text():
        return False
    system_call = Path(f"/proc/{pid}/syscall").read_text().split()[0]
    return system_call == {"x86_64": "230", "aarch64": "115"}[os.uname().machine]


@pytest.fixture
def waiting(
    recording: Callable[..., Recording],
    stopping: Callable[..., Stopping],
    stand_ins: StandIns,
    tmp_path: Path,
) -> tuple[Recording, int]:
    """A recorder, and a process that synchronises with a kernel of an hour."""
    steps = ("init", "launch", 1, 3_600_000_000, "sync", 1)
    log = tmp_path / "log"
    process = stopping(*gated(stand_ins.environment(log), stand_ins.program, *steps))
    recorder = recording(gpu="api", gpu_budget=BUDGET, search_path=str(stand_ins.libraries))
    recorder.trace(process.pid)
    process.start()
    recorder.step_until(lambda: synchronises(process.pid, log))
    return recorder, process.pid


def test_a_call_in_flight_at_the_stop_has_no_end(waiting: tuple[Recording, int]) -> None:
    recorder, pid = waiting
    recorder.stop()
    (call,) = recorder.in_flight(events.GPU_CALL)
    assert (call["pid"], function_of(call), call["end_ns"]) == (pid, "cuStreamSynchronize", 0)
    assert "cuStreamSynchronize" not in map(function_of, recorder.records(events.GPU_CALL))
    assert [each["count"] for each in recorder.in_flight(events.GPU_LAUNCHES)] == [1]


def test_a_call_in_which_its_process_is_killed_has_no_end(waiting: tuple[Recording, int]) -> None:
    recorder, pid = waiting
    os.kill(pid, signal.SIGKILL)
    recorder.step_until(lambda: "State:\tZ" in Path(f"/proc/{pid}/status").read_text())
    recorder.stop()
    last = recorder.records(events.GPU_CALL)[-1]
    assert (last["pid"], function_of(last), last["end_ns"]) == (pid, "cuStreamSynchronize", 0)
    assert recorder.in_flight(events.GPU_CALL) == []
    assert [each["count"] for each in recorder.records(events.GPU_LAUNCHES)] == [1]


def test_launches_above_the_budget_are_not_watched_and_later_they_are_again(
    recording: Callable[..., Recording], user: User, copy: Callable[[str], Path]
) -> None:
    """Also those of a driver that is loaded meanwhile."""
    library, other = copy("one"), copy("other")
    recorder = recording(gpu="api", gpu_budget=20, search_path=str(library.parent))
    recorder.trace(user.process.pid)
    user.does("open", library)
    sent = 0
    deadline_s = time.monotonic() + 60
    while watched(recorder) != [False] and time.monotonic() < deadline_s:
        user.does("launch", 1009)
        sent += 1009
        recorder.trace(NOBODY)
    user.does("open", other)
    until_probed(recorder, other)
    while watched(recorder) != [False, True] and time.monotonic() < deadline_s:
        recorder.trace(NOBODY)
    user.does("sync", 1)
    user.does("launch", 101)  # of the other
    user.end()
    recorder.stop()
    assert watched(recorder) == [False, True]
    launches = recorder.records(events.GPU_LAUNCHES)
    (call,) = recorder.records(events.GPU_CALL)
    later = sum(each["count"] for each in launches if each["first_ns"] > call["end_ns"])
    assert later == 101
    assert sum(each["count"] for each in launches) - later <= sent
    reason = rows_of(recorder, library)["GPU launch"]["reason"]
    assert "launches were not watched for " in reason
    assert reason.endswith("and all more than 20 % of the run time")


def watched(recorder: Recording) -> list[bool]:
    """What the journal says about launches: from then on watched, or not."""
    return [line["watched"] for line in recorder.journal("launches")]


def test_what_others_than_root_can_change_is_not_probed(
    recording: Callable[..., Recording], user: User, copy: Callable[[str], Path]
) -> None:
    theirs, writable = copy("theirs"), copy("writable")
    os.chown(theirs, 65534, 65534)
    writable.chmod(0o775)
    recorder = recording(gpu="api")
    recorder.trace(user.process.pid)
    for library in (theirs, writable):
        user.does("open", library)
        until_probed(recorder, library)
        user.does("sync", 3)
    user.end()
    recorder.stop()
    assert recorder.records(events.GPU_CALL) == []
    reasons = {
        theirs: "not probed: it belongs to user 65534, and must belong to root",
        writable: "not probed: others than root may write to it",
    }
    for library, reason in reasons.items():
        rows = rows_of(recorder, library).values()
        assert {(row["family"], row["reason"]) for row in rows} == {("none", reason)}


def test_what_is_no_driver_is_a_row_with_the_reason(
    recording: Callable[..., Recording], build: Callable[..., Path], tmp_path: Path
) -> None:
    text = tmp_path / "text" / "libcuda.so.1"
    text.parent.mkdir()
    text.write_text("INPUT(somewhere else)\n" * 9)
    other = build("storm.c", "other/libcuda.so.1", "-shared", "-fPIC")
    path = f"{text.parent}:{other.parent}"
    recorder = recording(gpu="api", search_path=path)
    recorder.stop()
    reasons = {row["reason"] for row in rows_of(recorder, text).values()}
    assert reasons == {"not a 64-bit little-endian ELF file"}
    reasons = {row["reason"] for row in rows_of(recorder, other).values()}
    assert reasons == {"it exports no such function of the CUDA driver"}


@pytest.mark.parametrize("gpu", ["off", "auto", "cupti"])
def test_otherwise_nothing_is_probed(
    recording: Callable[..., Recording], stand_ins: StandIns, gpu: str
) -> None:
    recorder = recording(gpu=gpu, search_path=str(stand_ins.libraries))
    recorder.stop()
    assert rows_of(recorder, stand_ins.libcuda) == {}
    assert recorder.journal("uprobe_cost") == []


@pytest.mark.parametrize("family", ["uprobe_multi", "uprobe"])
def test_the_cost_of_a_hit_is_measured_and_leaves_no_launches(
    recording: Callable[..., Recording], family: str
) -> None:
    recorder = recording({"perf_uprobes": family == "uprobe"}, gpu="api")
    recorder.stop()
    (line,) = recorder.journal("uprobe_cost")
    assert line["reason"] is None
    assert 100 < line["hit_ns"] < 1_000_000
    assert recorder.records(events.GPU_LAUNCHES) == []
    assert recorder.in_flight(events.GPU_LAUNCHES) == []
    (hits,) = recorder.journal("hits")
    assert [row["hits"] for row in hits["rows"] if row["event"] == "GPU launch"] == [0]
