from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from cvmprof.errors import BadRun
from cvmprof.probes import events
from cvmprof.profiler.run.directory import SCHEMA_VERSION
from cvmprof.profiler.run.journal import parse_journal
from cvmprof.profiler.run.spool import Spool

if TYPE_CHECKING:
    from tests.profiler.conftest import SpoolWriter


def nested(layout: events.Layout, **values: Any) -> Any:
    array = np.zeros(1, np.dtype(list(layout.dtype())))
    for name, value in values.items():
        array[name] = value
    return array


def test_all_files_missing(spool_writer: SpoolWriter) -> None:
    spool = Spool(spool_writer.run)
    for frame in (
        spool.operations(),
        spool.hits(),
        spool.blocked(),
        spool.requests(),
        spool.calls(),
        spool.downloads(),
        spool.served(),
        spool.cache_files(),
        spool.tasks(),
        spool.files(),
        spool.gpu_calls(),
        spool.gpu_launches(),
        spool.touches(),
    ):
        assert frame.height == 0
    assert list(spool.phase_lines()) == []
    assert spool.journal().lines == ()


def test_operations_in_flight_of_a_thread(spool_writer: SpoolWriter) -> None:
    e = events
    spool_writer.in_flight(
        e.THREAD,
        pid=1,
        tid=2,
        role=1,
        operation=nested(e.OPERATION, start_ns=10, tid=2, kind=1),
        fault=nested(e.OPERATION, start_ns=12, tid=2, kind=3),
        hit=nested(e.HIT, start_ns=5, count=3, tid=2),
        blocked=nested(e.BLOCKED, start_ns=13, tid=2, state=2),
    )
    spool_writer.in_flight(e.THREAD, pid=1, tid=3, role=1)
    spool_writer.in_flight(e.THREAD, pid=1, tid=4, role=1, hit=nested(e.HIT, start_ns=6, empty=1))
    spool = Spool(spool_writer.run)
    assert spool.operations().select("tid", "start_ns", "end_ns", "kind").rows() == [
        (2, 10, 0, 1),
        (2, 12, 0, 3),
    ]
    assert spool.hits().select("count", "empty").rows() == [(3, 0), (0, 1)]
    assert spool.blocked()["start_ns"].to_list() == [13]


def test_a_request_that_ended_during_the_flush_is_counted_once(spool_writer: SpoolWriter) -> None:
    spool_writer.ring(events.REQUEST, queued_ns=1, end_ns=9, unique=2, dev=50)
    spool_writer.in_flight(events.REQUEST, queued_ns=1, unique=2, dev=50)
    spool_writer.in_flight(events.REQUEST, queued_ns=3, unique=4, dev=50)
    requests = Spool(spool_writer.run).requests()
    assert requests.select("unique", "end_ns").rows() == [(2, 9), (4, 0)]


def test_calls_of_the_driver_that_ended_during_the_flush_are_counted_once(
    spool_writer: SpoolWriter,
) -> None:
    spool_writer.ring(events.GPU_CALL, start_ns=1, end_ns=9, tid=7, function=16)
    spool_writer.ring(events.GPU_CALL, start_ns=3, end_ns=0, tid=8, function=16)  # killed in it
    spool_writer.in_flight(events.GPU_CALL, start_ns=1, tid=7, function=16)
    spool_writer.in_flight(events.GPU_CALL, start_ns=11, tid=7, function=17)
    spool_writer.ring(events.GPU_LAUNCHES, first_ns=2, last_ns=4, tid=7, function=1, count=3)
    spool_writer.in_flight(events.GPU_LAUNCHES, first_ns=2, last_ns=3, tid=7, function=1, count=2)
    spool_writer.in_flight(events.GPU_LAUNCHES, first_ns=2, last_ns=2, tid=7, function=5, count=1)
    spool = Spool(spool_writer.run)
    calls = spool.gpu_calls().select("tid", "start_ns", "end_ns", "function")
    assert calls.rows() == [(7, 1, 9, 16), (8, 3, 0, 16), (7, 11, 0, 17)]
    launches = spool.gpu_launches().select("function", "count")
    assert launches.rows() == [(1, 3), (5, 1)]


def test_touches_pair_up_to_the_shorter_file(spool_writer: SpoolWriter) -> None:
    spool_writer.touch({"ino": 7, "bucket": 3, "granule": 1}, {"bytes_read": 9})
    spool_writer.touch({"ino": 8, "bucket": 3}, {"pages_mapped": 2})
    values = spool_writer.run / "spool" / "touches.values.bin"
    values.write_bytes(values.read_bytes()[:20])
    touches = Spool(spool_writer.run).touches()
    assert touches.select("ino", "granule", "bytes_read").rows() == [(7, 1, 9)]


def test_the_journal_without_its_torn_last_line() -> None:
    data = b'{"kind": "start", "time_ns": 5, "schema_version": 1}\n{"kind": "child", "pid"'
    journal = parse_journal(data)
    assert (journal.start_ns, journal.child_pid, journal.stop_ns) == (5, None, None)
    assert not journal.is_complete


def test_lines_that_are_not_objects_are_skipped() -> None:
    journal = parse_journal(b'\n[1]\n7\n{"no": "kind"}\n\xff\n{"kind": "stop", "time_ns": 3}\n')
    assert len(journal.lines) == 1
    assert journal.stop_ns == 3


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 0, "1", None])
def test_a_foreign_or_newer_schema_is_refused(version: object) -> None:
    import json

    with pytest.raises(BadRun) as caught:
        parse_journal(json.dumps({"kind": "start", "schema_version": version}).encode())
    assert "schema version" in caught.value.fact
    assert caught.value.help_text
