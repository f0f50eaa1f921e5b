from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes.events import REQUEST
from cvmprof.profiler.kernel.mounts import (
    MountEvidence,
    daemon_mounts,
    described,
    mount_attributes,
    mounts,
    with_mount,
)
from cvmprof.profiler.run.journal import Journal
from cvmprof.tests.profiler.rows import frame

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
    assert mount_attributes(told, mounted).to_dicts() == [
        {
            "mount_id": 1,
            "said_mountpoint": "/cvmfs/c",
            "repository": "c.ch",
            "revision": 12,
            "client_version": None,
            "pid": 77,
            "proxy": "http://squid:3128",
        }
    ]


REQUESTS = {"dev": 60, "unique": 2}
INIT, DESTROY = 26, 38


def test_a_mount_ends_with_the_last_destroy_else_where_the_next_begins(make_raw: Any) -> None:
    """Times of what was in flight or queued before recording are those of the other end."""
    requests = make_raw(
        REQUEST,
        {**REQUESTS, "opcode": INIT, "queued_ns": 0, "end_ns": 1100},
        {**REQUESTS, "opcode": INIT, "queued_ns": 500, "end_ns": 600},
        {**REQUESTS, "opcode": INIT, "queued_ns": 3000, "end_ns": 0},
        {**REQUESTS, "opcode": DESTROY, "queued_ns": 700, "end_ns": 0},
        {**REQUESTS, "opcode": DESTROY, "queued_ns": 0, "end_ns": 800},
        {**REQUESTS, "opcode": 15, "queued_ns": 900, "end_ns": 950},
    )
    found = mounts(journal(AT_START), places(), requests, [])
    assert found.filter(device="0:60").select("start_ns", "end_ns", "filesystem").rows() == [
        (500, 800, None),
        (1100, 3000, None),
        (3000, None, "fuse"),
    ]


def test_a_device_of_the_start_that_is_mounted_again_has_two_mounts(make_raw: Any) -> None:
    again = make_raw(REQUEST, {"dev": 50, "unique": 2, "opcode": INIT, "queued_ns": 100})
    found = mounts(journal(AT_START), places(), again, [])
    assert found.filter(dev=50).select("start_ns", "end_ns", "mountpoint").rows() == [
        (None, 100, "/cvmfs/a b"),
        (100, None, "/cvmfs/a b"),
    ]


def test_without_a_mountinfo_of_the_start_every_mount_was_there(make_raw: Any) -> None:
    late = places((1600, 61, "/mnt", None))
    found = mounts(Journal(()), late, make_raw(REQUEST), [62])
    assert found.select("dev", "start_ns", "mountpoint").rows() == [
        (61, None, "/mnt"),
        (62, None, None),
    ]


def test_what_was_read_while_a_mount_lived_comes_first(make_raw: Any) -> None:
    """Then what was read at other times; mountinfo before the places of files; what is unknown in
    one source comes from the next; the whole file system before a bind mount.
    """
    requests = make_raw(
        REQUEST,
        *({**REQUESTS, "opcode": INIT, "queued_ns": at} for at in (1000, 2000, 3000, 4000)),
    )
    bind = "40 22 0:60 /sub /bind ro - fuse cvmfs2 ro\n"
    line = "41 22 0:60 / /{} ro - fuse.{} cvmfs2 ro\n"
    texts = (
        (1, AT_START),
        (1999, bind + line.format("one", "cvmfs2")),
        (3500, bind),
        (4000, line.format("four", "x")),
    )
    lines = ({"kind": "mountinfo", "time_ns": at, "text": text} for at, text in texts)
    seen = places(
        (2999, 60, "/two", None),
        (2500, 60, None, "fuse"),
        (2600, 60, "/second", "fuse"),
        (3600, 60, "/three", "fuse"),
    )
    found = mounts(Journal(tuple(lines)), seen, requests, [])
    assert found.filter(dev=60).select("mountpoint", "filesystem").rows() == [
        ("/one", "fuse.cvmfs2"),
        ("/second", "fuse"),
        ("/bind", "fuse"),
        ("/four", "fuse.x"),
    ]


def test_of_daemons_that_several_mounts_name_the_most_frequent_counts() -> None:
    """Then the first mount; one that took no request answered none, if any daemon took one."""
    requests = pl.DataFrame(
        [(1, 2, 15, 7), (0, 2, 15, 7), (2, 3, 15, 8), (1, 4, 15, 8), (1, 6, 15, 8), (1, 8, 15, 0)],
        schema=ASKED,
        orient="row",
    )
    none = pl.DataFrame(schema=SERVED)
    said = pl.DataFrame([(5, 9), (4, 9), (5, 7)], schema=SAID, orient="row")
    assert daemon_mounts(requests, none, said.head(1)).rows() == [(8, 1), (7, 0), (9, 5)]
    assert daemon_mounts(requests, none, said)["pid"].to_list() == [8, 7, 9]


def test_the_last_attributes_of_the_last_mount_of_a_device_count(make_raw: Any) -> None:
    again = make_raw(REQUEST, {"dev": 52, "unique": 2, "opcode": INIT, "queued_ns": 100})
    mounted = mounts(journal(AT_START), places(), again, [])
    line: dict[str, Any] = {"kind": "attributes", "device": "0:52", "mountpoint": "/cvmfs/c"}
    told = Journal(
        tuple({**line, "attributes": {"user.revision": text}} for text in ("1", "x")),
    )
    assert mount_attributes(told, mounted).select("mount_id", "revision").rows() == [(2, None)]
    nowhere = {**line, "mountpoint": None, "attributes": {"user.revision": "1"}}
    assert mount_attributes(Journal((nowhere,)), mounted).is_empty()


MOUNT_ID = {"mount_id": pl.Int32}
BARE = frame(
    {
        **MOUNT_ID, "device": pl.String, "mountpoint": pl.String, "filesystem": pl.String,
        "start_ns": pl.Int64,
    },
    (0, "0:0", None, "fuse", None),
    (1, "0:1", None, "fuse", 9),
)  # fmt: skip
NO_ATTRIBUTES = {
    **MOUNT_ID, "said_mountpoint": pl.String, "repository": pl.String, "revision": pl.Int64,
    "client_version": pl.String, "pid": pl.Int32, "proxy": pl.String,
}  # fmt: skip
MANAGERS = {**MOUNT_ID, "cache_manager": pl.String, "cache_path": pl.String}


def test_mounts_are_described_by_what_is_known_of_them() -> None:
    """Attributes before requests, open files before the names used; the first daemon and request;
    a revision at the start only for what was mounted then.
    """
    evidence = MountEvidence(
        attributes=frame(NO_ATTRIBUTES, (0, "/said", "own.ch", 3, "2.12", 7, "p")),
        serving=frame({"pid": pl.Int32, **MOUNT_ID}, (70, 0), (71, 0), (72, 1)),
        downloads=frame(
            {**MOUNT_ID, "url_path": pl.String},
            (1, None),
            (1, "/other/first.ch/x"),
            (1, "/cvmfs/asked.ch/data"),
            (1, "/cvmfs/later.ch/data"),
            (0, "/cvmfs/asked.ch/data"),
        ),
        cache_paths=frame({**MOUNT_ID, "cache_path": pl.String}, (0, "/used0"), (1, "/used1")),
        managers=frame(MANAGERS, (0, "posix shared", "/opened")),
        at_start=frame(
            {"device": pl.String, "revision_at_start": pl.Int64}, ("0:0", 1), ("0:1", 2)
        ),
    )
    found = described(BARE, evidence)
    assert found.drop("device", "filesystem", "start_ns", "end_ns").rows() == [
        (0, "/said", "own.ch", 3, "2.12", 70, 1, "posix shared", "/opened"),
        (1, None, "asked.ch", None, None, 72, None, "posix", "/used1"),
    ]


def test_what_is_known_of_the_place_is_not_replaced() -> None:
    nothing = MountEvidence(
        attributes=frame(NO_ATTRIBUTES, (0, "/said", None, None, None, None, None)),
        serving=frame({"pid": pl.Int32, **MOUNT_ID}),
        downloads=frame({**MOUNT_ID, "url_path": pl.String}),
        cache_paths=frame({**MOUNT_ID, "cache_path": pl.String}),
        managers=frame(MANAGERS),
        at_start=frame({"device": pl.String, "revision_at_start": pl.Int64}),
    )
    found = described(BARE.with_columns(mountpoint=pl.lit("/own")), nothing)
    names = ("mount_id", "mountpoint", "daemon_pid", "cache_manager", "cache_path")
    assert found.select(names).rows() == [
        (0, "/own", None, None, None),
        (1, "/own", None, None, None),
    ]


def test_a_mount_whose_beginning_was_not_seen_began_when_a_file_was_first_seen_there(
    make_raw: Any,
) -> None:
    seen = places((1700, 61, "/mnt", None), (1600, 61, "/mnt", None), (1650, 61, "/other", None))
    found = mounts(journal(AT_START), seen, make_raw(REQUEST), [])
    assert found.filter(dev=61).select("start_ns", "mountpoint").rows() == [(1600, "/mnt")]
