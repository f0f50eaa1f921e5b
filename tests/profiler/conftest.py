"""A writer of spools: what the recorder would leave behind, record by record."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cvmprof.probes import events
from cvmprof.probes.events import Layout
from cvmprof.profiler.run.decode import records_frame
from cvmprof.profiler.run.directory import create_run

MOUNT_DEVICE = 50
MOUNTINFO = (
    "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "36 22 0:50 / /cvmfs/models.lab.test ro,nosuid - fuse cvmfs2 ro,user_id=0\n"
)


def record(layout: Layout, **values: Any) -> np.ndarray[Any, np.dtype[Any]]:
    """One record; fields not named are zero."""
    array = np.zeros(1, np.dtype(list(layout.dtype())))
    for name, value in values.items():
        array[name] = value
    return array


class SpoolWriter:
    """Writes a run directory as a recorder does."""

    def __init__(self, run: Path) -> None:
        self.run = create_run(run)

    def ring(self, layout: Layout, **values: Any) -> None:
        """Append a record to its ring."""
        with (self.run / "spool" / f"{layout.name}.ring").open("ab") as ring:
            ring.write(struct.pack("<II", layout.size, 0) + record(layout, **values).tobytes())

    def in_flight(self, layout: Layout, **values: Any) -> None:
        """Append a record of what was open at the stop."""
        with (self.run / "spool" / f"open.{layout.name}.bin").open("ab") as file:
            file.write(record(layout, **values).tobytes())

    def touch(self, key: dict[str, int], value: dict[str, int]) -> None:
        """Append a touched granule."""
        for name, layout, values in (
            ("keys", events.TOUCH_KEY, key),
            ("values", events.TOUCH, value),
        ):
            with (self.run / "spool" / f"touches.{name}.bin").open("ab") as file:
                file.write(record(layout, **values).tobytes())

    def journal(self, kind: str, time_ns: int, **values: Any) -> None:
        """Append a line to the journal."""
        with (self.run / "journal.jsonl").open("a") as journal:
            journal.write(json.dumps({"kind": kind, "time_ns": time_ns, **values}) + "\n")

    def phase(self, name: str, event: str, time_ns: int, tid: int) -> None:
        """Append a mark of a phase."""
        line = {"name": name, "event": event, "time_ns": time_ns, "pid": 100, "tid": tid}
        with (self.run / "spool" / "phases.jsonl").open("a") as phases:
            phases.write(json.dumps(line) + "\n")

    def begin(self) -> None:
        """Write what every run begins with, at 1000."""
        options = {"every_read": False, "all_files": False, "stall_threshold_ns": 1000}
        self.journal(
            "start",
            1000,
            schema_version=1,
            version="0",
            command=["cat", "model"],
            utc_offset_ns=5,
            kernel="6.18",
            machine="x86_64",
            cpus=2,
            uid=0,
            backend="auto",
            options=options,
        )
        self.journal("mountinfo", 1001, pid=1, text=MOUNTINFO)
        self.journal("child", 1002, pid=100)

    def end(self, stop_ns: int) -> None:
        """Write what a proper stop writes."""
        self.journal("exit", stop_ns - 1, status=0, pid=100)
        self.journal("stop", stop_ns, complete=True)


@pytest.fixture
def spool_writer(tmp_path: Path) -> SpoolWriter:
    """Return a writer of an empty run directory."""
    return SpoolWriter(tmp_path / "test.cvmprof")


def raw(layout: Layout, *rows: dict[str, Any]) -> pl.DataFrame:
    """Decode hand-made records."""
    arrays = [record(layout, **row) for row in rows]
    empty = np.zeros(0, np.dtype(list(layout.dtype())))
    return records_frame(np.concatenate([empty, *arrays]), layout)


def digest(text: str, algorithm: int = 1, suffix: bytes = b"") -> bytes:
    """The bytes of an object in a record, of 40 hex digits."""
    return bytes.fromhex(text) + struct.pack("<I8s", algorithm, suffix)


@pytest.fixture
def make_raw() -> Any:
    """Return a function from a layout and rows of fields to a decoded frame."""
    return raw


CHUNK = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cold_read(spool_writer: SpoolWriter) -> SpoolWriter:
    """Two threads read one cold chunk through one daemon: 101 waits for the fetch that 100 caused.

    Times are literal in the tests that read this run: keep both alike.
    """
    w, e = spool_writer, events
    w.begin()
    for tid in (100, 101):
        w.ring(
            e.TASK,
            time_ns=900,
            start_ns=800,
            pid=100,
            tid=tid,
            parent_pid=1,
            kind=2,
            role=1,
            name=b"python",
        )
    w.ring(
        e.TASK,
        time_ns=1100,
        start_ns=800,
        pid=100,
        tid=100,
        parent_pid=1,
        kind=3,
        role=1,
        name=b"cat",
        argv=b"cat\0model\0",
        arguments=10,
    )
    w.ring(e.TASK, time_ns=20000, start_ns=800, pid=100, tid=101, kind=4, role=1, name=b"cat")
    w.ring(e.TASK, time_ns=1001, start_ns=10, pid=200, tid=200, kind=1, role=2, name=b"cvmfs2")
    path = b"model.onnx\0models.lab.test\0cvmfs\0"
    w.ring(
        e.FILE,
        time_ns=1500,
        ino=7,
        size=8000,
        dev=50,
        pid=100,
        components=path,
        text=len(path),
        mount_text=11,
        depth=3,
        complete=1,
        filesystem=b"fuse",
    )
    _operations(w)
    _requests(w)
    _daemon(w)
    for path_text, attributes in (
        (
            "/cvmfs/models.lab.test/model.onnx",
            {"user.chunk_list": f"hash,offset,size\n{CHUNK},0,6000\n{'ab' * 20},6000,2000\n"},
        ),
    ):
        w.journal(
            "attributes",
            30001,
            device="0:50",
            path=path_text,
            mountpoint=None,
            attributes=attributes,
            reason=None,
        )
    w.journal(
        "attributes",
        30002,
        device="0:50",
        path="/cvmfs/models.lab.test",
        mountpoint="/cvmfs/models.lab.test",
        reason=None,
        attributes={
            "user.fqrn": "models.lab.test",
            "user.revision": "3",
            "user.pid": "200",
            "user.version": "2.12.0.0",
        },
    )
    w.end(30000)
    return w


def _operations(w: SpoolWriter) -> None:
    e, known = events, events.OPERATION_KNOWN_FILE | events.OPERATION_HAS_RANGE
    w.ring(
        e.OPERATION,
        start_ns=2000,
        end_ns=9000,
        ino=7,
        dev=50,
        pid=100,
        tid=100,
        offset=0,
        size=4096,
        result=4096,
        kind=1,
        flags=known,
    )
    w.ring(
        e.OPERATION,
        start_ns=2400,
        end_ns=8600,
        ino=7,
        dev=50,
        pid=100,
        tid=101,
        offset=4096,
        size=1024,
        result=1024,
        kind=1,
        flags=known,
    )
    w.ring(
        e.BLOCKED,
        start_ns=2200,
        woken_ns=8000,
        end_ns=8100,
        unique=2,
        dev=50,
        pid=100,
        tid=100,
        waker_pid=200,
        waker_tid=201,
        state=2,
    )
    w.ring(
        e.BLOCKED,
        start_ns=2600,
        woken_ns=8200,
        end_ns=8300,
        unique=4,
        dev=50,
        pid=100,
        tid=101,
        waker_pid=200,
        waker_tid=202,
        state=2,
    )


def _requests(w: SpoolWriter) -> None:
    e = events
    w.ring(
        e.REQUEST,
        queued_ns=2100,
        end_ns=7900,
        unique=2,
        node_id=7,
        offset=0,
        op_start_ns=2000,
        size=4096,
        dev=50,
        pid=100,
        tid=100,
        end_pid=200,
        end_tid=201,
        opcode=15,
    )
    w.ring(
        e.REQUEST,
        queued_ns=2500,
        end_ns=8150,
        unique=4,
        node_id=7,
        offset=4096,
        op_start_ns=2400,
        size=1024,
        dev=50,
        pid=100,
        tid=101,
        end_pid=200,
        end_tid=202,
        opcode=15,
    )
    w.ring(e.SERVED, time_ns=2500, unique=2, pid=200, tid=201, opcode=15)
    w.ring(e.SERVED, time_ns=3500, unique=4, pid=200, tid=202, opcode=15)


def _daemon(w: SpoolWriter) -> None:
    e, functions = events, {name: at for at, name in enumerate(events.DAEMON_FUNCTIONS)}
    read, fetch = functions["cvmfs_read"], functions["Fetcher::Fetch"]
    w.ring(
        e.CALL,
        start_ns=2600,
        end_ns=7950,
        unique=2,
        ino=7,
        size=4096,
        pid=200,
        tid=201,
        function=read,
    )
    w.ring(
        e.CALL,
        start_ns=2700,
        end_ns=7800,
        parent_start_ns=2600,
        parent_function=read,
        unique=2,
        result=33,
        object=digest(CHUNK),
        pid=200,
        tid=201,
        function=fetch,
    )
    w.ring(
        e.CALL,
        start_ns=2710,
        end_ns=2720,
        parent_start_ns=2700,
        parent_function=fetch,
        unique=2,
        result=0xFFFFFFFE,
        object=digest(CHUNK),
        pid=200,
        tid=201,
        function=functions["CacheManager::Open"],
    )
    w.ring(
        e.CALL,
        start_ns=2750,
        end_ns=7500,
        parent_start_ns=2700,
        parent_function=fetch,
        unique=2,
        result=0,
        pid=200,
        tid=201,
        function=functions["DownloadManager::Fetch"],
    )
    w.ring(
        e.CALL,
        start_ns=3600,
        end_ns=8160,
        unique=4,
        ino=7,
        offset=4096,
        size=1024,
        pid=200,
        tid=202,
        function=read,
    )
    request = (
        f"GET /cvmfs/models.lab.test/data/01/{CHUNK[2:]}P HTTP/1.1\r\nHost: server:8000\r\n\r\n"
    )
    w.in_flight(
        e.DOWNLOAD,
        connect_ns=2800,
        sent_ns=3000,
        first_byte_ns=4000,
        last_byte_ns=7000,
        bytes=6200,
        pid=200,
        tid=203,
        fd=9,
        answer=b"HTTP/1.1 200 OK\r\n",
        request=request.encode(),
    )
    # received at 4000 and 7000, handed over at 7200
    w.ring(
        e.WORK,
        start_ns=4000,
        end_ns=5000,
        sent_ns=3000,
        write_ns=200,
        pid=200,
        tid=203,
        fd=9,
        round=1,
    )
    w.ring(
        e.WORK,
        start_ns=7000,
        end_ns=7300,
        sent_ns=3000,
        write_ns=100,
        pid=200,
        tid=203,
        fd=9,
        round=2,
    )
    w.ring(
        e.BLOCKED,
        start_ns=2760,
        woken_ns=7200,
        end_ns=7400,
        pid=200,
        tid=201,
        waker_pid=200,
        waker_tid=203,
        state=1,
    )
    w.ring(
        e.CACHE_FILE,
        start_ns=7600,
        end_ns=7700,
        result=0,
        pid=200,
        tid=201,
        syscall=2,
        path=b"/cache/txn/fetchAbCdEf",
        new_path=f"/cache/01/{CHUNK[2:]}".encode(),
    )
