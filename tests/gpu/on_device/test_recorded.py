"""The spool of a recording, read without tables."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from cvmprof.probes import events
from cvmprof.probes.gpu import GPU_RECORD_KINDS
from cvmprof.profiler.record.names import ring_file
from cvmprof.tests.gpu.on_device.activity import Operation
from cvmprof.tests.gpu.on_device.recorded import read_api, read_cupti


def record(kind: str, start_ns: int, **values: int) -> bytes:
    number = GPU_RECORD_KINDS.index(kind)
    return events.GPU_RECORD.pack(kind=number, start_ns=start_ns, end_ns=start_ns + 10, **values)


def write_lines(path: Path, *lines: object) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "na')


def write_ring(run: Path, layout: events.Layout, *records: bytes) -> None:
    header = bytes(events.RING_HEADER_BYTES)
    (run / "spool" / ring_file(layout)).write_bytes(b"".join(header + each for each in records))


def test_processes_are_added_up_and_torn_ends_left_out(tmp_path: Path) -> None:
    directory = tmp_path / "spool" / "gpu"
    directory.mkdir(parents=True)
    write_lines(
        directory / "7-100.lines",
        {"kind": "process", "pid": 7, "cupti": "/x/libcupti.so.13"},
        {"kind": "name", "number": 1, "text": "cuLaunchKernel_ptsz"},
        {"kind": "name", "number": 2, "text": "cuMemcpyHtoD_v2"},
        {"kind": "dropped", "count": 3},
    )
    first = record("call", 1, name=1) + record("kernel", 5, name=9) + record("call", 2, name=2)
    copied = record("copy_in", 30, bytes=512, device=1)
    (directory / "7-100.records").write_bytes(first + copied + b"torn")
    write_lines(
        directory / "8-200.lines",
        {"kind": "name", "number": 1, "text": "square"},
        {"kind": "dropped", "count": 4},
        {"kind": "trouble", "text": "another tool"},
    )
    (directory / "8-200.records").write_bytes(record("graph", 50, name=1) + record("call", 60))
    found = read_cupti(tmp_path)
    assert found.activity.operations == (
        Operation("kernel", 0, 5, 15, 0),
        Operation("copy", 1, 30, 40, 512),
        Operation("kernel", 0, 50, 60, 0),
    )
    assert found.calls == Counter(launch=1, copy=1, other=1)
    assert found.dropped == 7
    assert found.troubles == ("another tool",)
    assert [process["pid"] for process in found.processes] == [7]


def test_a_run_without_the_library_is_empty(tmp_path: Path) -> None:
    found = read_cupti(tmp_path)
    assert found.activity.operations == ()
    assert found.calls == Counter()


def test_calls_of_the_probes_are_counted(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    launch, copy = (events.GPU_FUNCTIONS.index(name) for name in ("cuGraphLaunch", "cuMemcpy"))
    counted = [events.GPU_LAUNCHES.pack(function=launch, count=count) for count in (5, 8)]
    write_ring(tmp_path, events.GPU_LAUNCHES, *counted)
    write_ring(tmp_path, events.GPU_CALL, events.GPU_CALL.pack(function=copy))
    write_lines(tmp_path / "journal.jsonl", {"kind": "start"})
    assert read_api(tmp_path).calls == Counter(launch=13, copy=1)
    assert read_api(tmp_path).watched


def test_launches_that_were_not_watched_are_noticed(tmp_path: Path) -> None:
    lines = ({"kind": "launches", "watched": False}, {"kind": "launches", "watched": True})
    write_lines(tmp_path / "journal.jsonl", *lines)
    assert not read_api(tmp_path).watched
