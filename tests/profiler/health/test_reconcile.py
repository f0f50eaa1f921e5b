"""What was recorded against what the client counted, on frames made by hand."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.profiler.health.reconcile import Recorded, reconciliation
from cvmprof.profiler.run.journal import Journal
from cvmprof.profiler.tables import conform, empty

DEVICE = "0:50"
HASHES = [f"{number:040x}" for number in range(6)]


def said(kind: str, at_ns: int, ndownload: int, rx_kib: int, pid: int = 9) -> dict[str, Any]:
    """A mount's answer, given at that time."""
    attributes = {
        "user.pid": str(pid),
        "user.ndownload": str(ndownload),
        "user.rx": f"{rx_kib}\n",
    }
    return {
        "kind": kind,
        "device": DEVICE,
        "mountpoint": "/m",
        "attributes": attributes,
        "asked_ns": at_ns,
        "answered_ns": at_ns,
    }


def mounted(start_ns: int | None = None) -> pl.DataFrame:
    row = {"mount_id": [0], "device": [DEVICE], "start_ns": [start_ns]}
    return conform("mounts", pl.DataFrame(row))


def fetches(*outcomes: str | None) -> pl.DataFrame:
    """Fetches at 100, 200 …, of call 0, 1 …; those that download queued theirs at once."""
    count = len(outcomes)
    times = [100 * (number + 1) for number in range(count)]
    queued = [time if outcomes[at] == "downloaded" else None for at, time in enumerate(times)]
    frame = pl.DataFrame(
        {
            "fetch_id": range(count),
            "call_id": range(count),
            "mount_id": 0,
            "pid": 9,
            "tid": 9,
            "start_ns": times,
            "object_hash": HASHES[:count],
            "object_kind": "chunk",
            "outcome": outcomes,
            "file_id": 3,
        }
    )
    return conform("fetches", frame).with_columns(pl.Series("queued_ns", queued, pl.Int64))


def downloads(*bodies: int, header: int | None = 200) -> pl.DataFrame:
    """Downloads that ended at 110, 210 …"""
    count = len(bodies)
    frame = pl.DataFrame(
        {
            "download_id": range(count),
            "mount_id": 0,
            "url_path": "",
            "host": "",
            "attempt": 1,
            "connection_id": 0,
            "reused": False,
            "sent_ns": [100 * (number + 1) for number in range(count)],
            "last_byte_ns": [100 * (number + 1) + 10 for number in range(count)],
            "wire_bytes": [body + 200 for body in bodies],
            "header_bytes": header,
        }
    )
    return conform("downloads", frame)


def looks(call: int, times: int) -> list[dict[str, Any]]:
    """Lookups in vain by a fetch."""
    return [
        {
            "call_id": 100 + 10 * call + number,
            "parent_id": call,
            "function": "CacheManager::Open",
            "pid": 9,
            "tid": 9,
            "start_ns": 1,
            "result": -2,
        }
        for number in range(times)
    ] + [
        {
            "call_id": call,
            "parent_id": None,
            "function": "Fetcher::Fetch",
            "pid": 9,
            "tid": 9,
            "start_ns": 1,
            "result": 0,
        }
    ]


CALLS = conform("daemon_calls", pl.DataFrame([one for call in range(5) for one in looks(call, 2)]))


def compared(lines: list[dict[str, Any]], **frames: pl.DataFrame) -> dict[str, tuple[Any, ...]]:
    tables = {
        "mounts": mounted(), "incidents": empty("incidents"), "fetches": fetches(),
        "downloads": downloads(), "chunks": empty("chunks"), "calls": CALLS,
        **frames,
    }  # fmt: skip
    found = reconciliation(Journal(tuple(lines)), Recorded(**tables))
    rows = found.select("quantity", "counted", "recorded", "difference", "remark").rows()
    return {row[0]: row[1:] for row in rows}


def test_what_lies_between_the_readings_counts() -> None:
    lines = [said("attributes_before", 150, 7, 1), said("attributes", 450, 10, 9)]
    found = compared(
        lines,
        fetches=fetches(*["downloaded"] * 5),
        downloads=downloads(1 << 13, 1 << 12, 1 << 11, 1 << 11, 1 << 13),
    )
    assert found["objects"] == (3, 3, 0, None)
    assert found["body_bytes"] == (8192, 8192, 0, None)


def test_bytes_differ_from_a_kibibyte_on() -> None:
    """The client's Kibibytes are rounded down, before and after."""
    lines = [said("attributes_before", 50, 0, 1), said("attributes", 450, 1, 3)]
    assert compared(lines, downloads=downloads(2048 + 1023))["body_bytes"][1:3] == (3071, 0)
    assert compared(lines, downloads=downloads(2048 - 1023))["body_bytes"][1:3] == (1025, 0)
    assert compared(lines, downloads=downloads(2048 + 1024))["body_bytes"][1:3] == (3072, 1024)
    unknown = compared(lines, downloads=downloads(2048, header=None))["body_bytes"]
    assert unknown[1:] == (None, None, "the length of the headers of 1 answers was not seen")


def test_who_set_out_to_download() -> None:
    """One that joined looked once; one that found no room looked twice, as did one that failed."""
    lines = [said("attributes_before", 50, 0, 0), said("attributes", 450, 2, 0)]
    calls = conform("daemon_calls", pl.DataFrame([*looks(0, 2), *looks(1, 1), *looks(2, 2)]))
    found = compared(lines, fetches=fetches("downloaded", "failed", "failed"), calls=calls)
    assert found["objects"] == (2, 2, 0, None)
    by_name = compared(
        lines,
        calls=empty("daemon_calls"),
        fetches=fetches("downloaded", "joined", "failed").with_columns(
            call_id=pl.lit(None, pl.Int32)
        ),
    )
    assert by_name["objects"] == (2, 2, 0, None)


def test_lost_events_are_a_difference() -> None:
    lines = [said("attributes_before", 50, 0, 0), said("attributes", 450, 4, 0)]
    assert compared(lines, fetches=fetches("downloaded"))["objects"] == (4, 1, -3, None)


def test_a_client_born_during_the_run_counts_from_zero() -> None:
    lines = [said("attributes", 450, 2, 0)]
    found = compared(lines, fetches=fetches(*["downloaded"] * 2), mounts=mounted(60))
    assert found["objects"][:3] == (2, 2, 0)
    assert "started during the run" in found["objects"][3]


def test_an_unknown_beginning_is_no_difference() -> None:
    lines = [said("attributes", 450, 2, 0)]
    assert compared(lines, fetches=fetches("downloaded"))["objects"] == (
        None,
        1,
        None,
        "its counters at the start are unknown",
    )
    other = [said("attributes_before", 50, 9, 0, pid=8), *lines]
    assert compared(other, fetches=fetches("downloaded"))["objects"][2] is None


def test_a_reload_begins_anew() -> None:
    incidents = conform(
        "incidents",
        pl.DataFrame({"time_ns": [150], "kind": ["reload"], "mount_id": [0], "detail": [""]}),
    )
    lines = [said("attributes_before", 50, 9, 0), said("attributes", 450, 1, 0)]
    found = compared(lines, fetches=fetches(*["downloaded"] * 2), incidents=incidents)
    assert found["objects"][:3] == (1, 1, 0)
    assert "reload" in found["objects"][3]


def test_chunks_that_no_list_names() -> None:
    chunks = conform(
        "chunks",
        pl.DataFrame(
            {
                "file_id": 3,
                "index": 0,
                "object_hash": HASHES[:1],
                "offset_bytes": 0,
                "size_bytes": 5,
            }
        ),
    )
    lines = [said("attributes_before", 50, 0, 0), said("attributes", 450, 2, 0)]
    found = compared(lines, fetches=fetches(*["downloaded"] * 2), chunks=chunks)
    assert found["chunks"] == (1, 2, 1, None)


def test_a_mount_that_tells_nothing_has_no_row() -> None:
    silent = said("attributes", 450, 0, 0)
    del silent["attributes"]["user.ndownload"]
    assert compared([silent], fetches=fetches("downloaded")) == {}
