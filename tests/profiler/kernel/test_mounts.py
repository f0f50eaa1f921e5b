from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes.events import REQUEST
from cvmprof.profiler.kernel.mounts import (
    daemon_mounts,
    mount_attributes,
    mounts,
    with_mount,
)
from cvmprof.profiler.run.journal import Journal

AT_START = (
    "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "30 22 0:50 /sub /srv/bind ro - fuse cvmfs2 ro\n"
    "31 22 0:50 / /cvmfs/a\\040b ro shared:5 - fuse cvmfs2 ro\n"
    "32 22 0:51 / /home ro - fuse sshfs ro\n"
    "33 22 0:52 / /cvmfs/c ro - fuse.cvmfs2 whatever ro\n"
    "broken line\n"
)
PLACES = {
    "time_ns": pl.Int64, "dev": pl.UInt32, "mountpoint": pl.String, "filesystem": pl.String,
}  # fmt: skip


def journal(*texts: str) -> Journal:
    return Journal(tuple({"kind": "mountinfo", "time_ns": 1, "pid": 1, "text": t} for t in texts))


def places(*rows: tuple[Any, ...]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=PLACES, orient="row")


def test_mounts_of_the_start_and_of_devices_that_events_name(make_raw: Any) -> None:
    found = mounts(journal(AT_START), places(), make_raw(REQUEST), [8 << 20 | 1])
    assert found.select("mount_id", "device", "mountpoint", "filesystem", "start_ns").rows() == [
        (0, "0:50", "/cvmfs/a b", "fuse", None),
        (1, "0:52", "/cvmfs/c", "fuse.cvmfs2", None),
        (2, "8:1", "/", "ext4", None),
    ]


def test_a_mount_born_late_and_mounted_again(make_raw: Any) -> None:
    requests = make_raw(
        REQUEST,
        {"dev": 60, "opcode": 26, "queued_ns": 1000, "end_ns": 1100, "unique": 2},
        {"dev": 60, "opcode": 38, "queued_ns": 2000, "end_ns": 2100, "unique": 90},
        {"dev": 60, "opcode": 26, "queued_ns": 3000, "end_ns": 3100, "unique": 2},
    )
    late = places((1500, 60, "/cvmfs/late", "fuse"), (1600, 61, "/mnt", None))
    found = mounts(journal(AT_START), late, requests, [])
    assert found.select("device", "mountpoint", "start_ns", "end_ns").rows()[2:] == [
        ("0:60", "/cvmfs/late", 1000, 2100),
        ("0:60", "/cvmfs/late", 3000, None),
        ("0:61", "/mnt", 1600, None),
    ]
    events = pl.DataFrame(
        {"dev": [60, 60, 50, 99], "at": [3500, 1100, 5, 5]},
        schema={"dev": pl.UInt32, "at": pl.Int64},
    )
    assert with_mount(events, found, "at")["mount_id"].to_list() == [3, 2, 0, None]


SERVED = {"pid": pl.Int32, "unique": pl.UInt64, "opcode": pl.Int32}
ASKED = {"mount_id": pl.Int32, "unique": pl.UInt64, "opcode": pl.Int32, "end_pid": pl.Int32}
SAID = {"mount_id": pl.Int32, "pid": pl.Int32}


def test_which_daemon_serves_which_mount() -> None:
    requests = pl.DataFrame(
        [
            (0, 2, 15, 200),
            (0, 4, 15, 200),
            (0, 6, 15, 999),
            (1, 2, 15, 0),
            (1, 8, 1, 0),
            (0, 8, 15, 0),
        ],
        schema=ASKED,
        orient="row",
    )
    served = pl.DataFrame([(200, 2, 15), (200, 4, 15), (300, 8, 1)], schema=SERVED, orient="row")
    said = pl.DataFrame([(0, 200), (2, 400), (3, None)], schema=SAID, orient="row")
    # 999 only ended an aborted request; 300 answered none, but took one that only mount 1 has
    assert daemon_mounts(requests, served, said).rows() == [(200, 0), (300, 1), (400, 2)]


def test_what_a_mount_says_of_itself(make_raw: Any) -> None:
    line = {
        "kind": "attributes", "device": "0:52", "mountpoint": "/cvmfs/c", "path": "/cvmfs/c",
        "attributes": {"user.fqrn": "c.ch", "user.revision": "12\n", "user.pid": "77",
                       "user.proxy": "http://squid:3128"},
    }  # fmt: skip
    mounted = mounts(journal(AT_START), places(), make_raw(REQUEST), [])
    told = Journal((line, {**line, "device": "9:9"}, {"kind": "attributes", "attributes": None}))
    assert mount_attributes(told, mounted).row(0, named=True) == {
        "mount_id": 1,
        "said_mountpoint": "/cvmfs/c",
        "repository": "c.ch",
        "revision": 12,
        "client_version": None,
        "pid": 77,
        "proxy": "http://squid:3128",
    }
