"""What was recorded against what the client counted, on frames made by hand."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from cvmprof.profiler.health.counters import Observed
from cvmprof.profiler.health.reconcile import Recorded, reconciliation
from cvmprof.profiler.run.journal import Journal
from cvmprof.profiler.tables import conform, empty
from cvmprof.tests.profiler.rows import frame, rows

DEVICE = "0:50"
#: when recording ended
STOP_NS = 1000
OBSERVED = ("stop_ns", "first_uses", "mounts", "incidents")
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
    """Fetches from 100, 200 … to 150, 250 …, of call 0, 1 …; those that download queued theirs at
    once.
    """
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
            "end_ns": [time + 50 for time in times],
            "object_hash": HASHES[:count],
            "object_kind": "chunk",
            "outcome": outcomes,
            "file_id": 3,
        }
    )
    return conform("fetches", frame).with_columns(pl.Series("queued_ns", queued, pl.Int64))


def downloads(*bodies: int, header: int | None = 200) -> pl.DataFrame:
    """Downloads that ended at 110, 210 …, with which the client was done 5 later."""
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
            "committed_ns": [100 * (number + 1) + 15 for number in range(count)],
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


def used(first_ns: int, mount_id: int = 0) -> pl.DataFrame:
    """When the command first used a mount."""
    return frame({"mount_id": pl.Int32, "first_ns": pl.Int64}, (mount_id, first_ns))


def compared(lines: list[dict[str, Any]], **frames: Any) -> dict[str, tuple[Any, ...]]:
    tables: dict[str, Any] = {
        "stop_ns": STOP_NS, "first_uses": used(0), "mounts": mounted(),
        "incidents": empty("incidents"),
        "fetches": fetches(), "downloads": downloads(), "chunks": empty("chunks"), "calls": CALLS,
        **frames,
    }  # fmt: skip
    of_mounts = {name: tables.pop(name) for name in OBSERVED}
    recorded = Recorded(Observed(**of_mounts), **tables)
    found = reconciliation(Journal(tuple(lines)), recorded)
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


BEFORE, AFTER = said("attributes_before", 100, 1, 1), said("attributes", 400, 3, 4)


def test_readings_bound_what_counts_inclusively() -> None:
    """By when a fetch began and its object was queued, else it ended; by when an answer was
    complete and done with; of the mount itself. What lies on both sides is in flight.
    """
    fetch: dict[str, Any] = {"mount_id": 0, "outcome": "failed"}
    download = {"mount_id": 0, "wire_bytes": 1100, "header_bytes": 100}
    found = compared(
        [BEFORE, AFTER],
        fetches=rows(
            "fetches",
            *({**fetch, "start_ns": at, "end_ns": at} for at in (99, 100, 400, 401)),
            {**fetch, "start_ns": 50, "queued_ns": 200},
            {**fetch, "start_ns": 200, "queued_ns": 500},
            {**fetch, "start_ns": 200, "mount_id": 1},
            {**fetch, "start_ns": 200, "outcome": "joined"},
            {**fetch, "start_ns": 200, "outcome": None},
            queued_ns=pl.Int64,
        ),
        downloads=rows(
            "downloads",
            *(
                {**download, "last_byte_ns": at, "committed_ns": at}
                for at in (99, 100, 400, 401, None)
            ),
            {**download, "last_byte_ns": 200, "committed_ns": 300, "mount_id": 1},
            {**download, "last_byte_ns": 99, "committed_ns": 101},
            {**download, "last_byte_ns": 399, "committed_ns": 401},
        ),
    )
    assert found["objects"] == (
        2, 2, 0, "in flight when the counters were read: 3 more objects",
    )  # fmt: skip
    assert found["body_bytes"] == (
        3072, 2000, 0, "in flight when the counters were read: 2,000 more bytes",
    )  # fmt: skip
    assert found["chunks"] == (0, 0, 0, None)


def test_a_call_sets_out_to_download_after_its_second_miss() -> None:
    """Only a call of Fetcher::Fetch; a hit is no miss; whatever was queued was handed over."""
    call = {"function": "CacheManager::Open", "result": -2}
    fetch: dict[str, Any] = {"mount_id": 0, "start_ns": 200, "outcome": "failed"}
    calls = rows(
        "daemon_calls",
        *({"call_id": at, "function": "Fetcher::Fetch", "result": -5} for at in range(4)),
        {"call_id": 4, "function": "DownloadManager::Fetch"},
        *({**call, "call_id": 10 + at, "parent_id": 0} for at in range(2)),
        *({**call, "call_id": 20 + at, "parent_id": 1, "result": -2 * at} for at in range(2)),
        *({**call, "call_id": 30 + at, "parent_id": 4} for at in range(2)),
        *({**call, "call_id": 40 + at, "parent_id": 3, "function": "x"} for at in range(2)),
        *({**call, "call_id": 50 + at} for at in range(2)),
    )
    for number, queued, counts in (
        (0, None, 1), (1, None, 0), (2, 200, 1), (3, None, 0), (4, 200, 0),
    ):  # fmt: skip
        row = {**fetch, "call_id": number, "queued_ns": queued, "end_ns": 300}
        made = rows("fetches", row, queued_ns=pl.Int64)
        assert compared([BEFORE, AFTER], fetches=made, calls=calls)["objects"][1] == counts, number


def test_only_the_last_mount_of_a_device_is_compared_and_only_if_it_was_asked() -> None:
    """After the command, by a helper that says when; with counters at all."""
    asked = [BEFORE, AFTER]
    two = rows("mounts", {"mount_id": 4, "device": DEVICE}, {"mount_id": 5, "device": DEVICE})
    found = reconciliation(
        Journal(tuple(asked)),
        Recorded(
            Observed(STOP_NS, used(0), two, empty("incidents")),
            fetches(),
            downloads(),
            empty("chunks"),
            CALLS,
        ),
    )
    assert found["mount_id"].to_list() == [5] * 3
    for change in (
        {"mountpoint": None}, {"device": "0:51"}, {"attributes": {"user.pid": "9"}},
        {"kind": "other"},
    ):  # fmt: skip
        assert compared([BEFORE, {**AFTER, **change}]) == {}
    undated = {key: value for key, value in AFTER.items() if key != "answered_ns"}
    assert compared([BEFORE, undated]) == {}


def test_a_reload_of_this_mount_between_the_readings_counts_from_zero() -> None:
    """From the last of several; a reading by another daemon is none of this one."""
    reload = {"kind": "reload", "mount_id": 0}
    fetch: dict[str, Any] = {"mount_id": 0, "outcome": "downloaded"}
    made = rows(
        "fetches",
        *({**fetch, "start_ns": at, "end_ns": at} for at in (150, 250, 350)),
        queued_ns=pl.Int64,
    )
    for incidents, objects in (
        ([{**reload, "time_ns": 200}, {**reload, "time_ns": 300}], (3, 1, -2)),
        ([{**reload, "time_ns": 100}], (3, 3, 0)),
        ([{**reload, "time_ns": 400}], (3, 0, -3)),
        ([{**reload, "time_ns": 99}, {**reload, "time_ns": 401}], (2, 3, 1)),
        ([{**reload, "time_ns": 200, "mount_id": 1}], (2, 3, 1)),
        ([{**reload, "time_ns": 200, "kind": "mount"}], (2, 3, 1)),
    ):
        happened = rows("incidents", *incidents)
        found = compared([BEFORE, AFTER], incidents=happened, fetches=made)["objects"]
        assert found[:3] == objects, incidents
    other = compared([said("attributes_before", 100, 1, 1, pid=8), AFTER])["objects"]
    assert other == (None, 0, None, "its counters at the start are unknown")


def test_counters_that_are_no_numbers_are_unknown() -> None:
    after = {**AFTER, "attributes": {**AFTER["attributes"], "user.ndownload": "-", "user.rx": "x"}}
    found = compared([BEFORE, after])
    assert found["objects"][:3] == (None, 0, None)
    assert found["body_bytes"][:3] == (None, 0, None)


def test_downloaded_content_is_in_the_chunk_lists_of_its_file() -> None:
    """Neither what failed nor metadata nor what other mounts downloaded counts."""
    fetch: dict[str, Any] = {
        "mount_id": 0, "outcome": "downloaded", "object_kind": "chunk", "file_id": 1,
        "object_hash": HASHES[0],
    }  # fmt: skip
    made = rows(
        "fetches",
        fetch,
        {**fetch, "object_kind": "file", "object_hash": HASHES[1]},
        {**fetch, "file_id": None},
        {**fetch, "object_kind": "catalog"},
        {**fetch, "outcome": "failed"},
        {**fetch, "mount_id": 1},
        queued_ns=pl.Int64,
    )
    listed = {"file_id": 1, "object_hash": HASHES[0]}
    known = rows("chunks", listed, {**listed, "index": 1}, {**listed, "file_id": 2})
    assert compared([BEFORE, AFTER], fetches=made, chunks=known)["chunks"] == (
        1, 2, 1, "of files whose chunk lists were not read: 1 more",
    )  # fmt: skip


def test_what_was_in_flight_explains_no_more_than_it_is() -> None:
    """A fetch that never ended and a download that was never done with: once each, at most."""
    lines = [said("attributes_before", 50, 0, 0), said("attributes", 450, 2, 1)]
    open_fetch = fetches("downloaded", None).with_columns(
        end_ns=pl.when(pl.col("outcome").is_not_null()).then("end_ns")
    )
    open_download = downloads(10, 2000).with_columns(
        committed_ns=pl.when(pl.col("download_id") == 0).then("committed_ns")
    )
    found = compared(lines, fetches=open_fetch, downloads=open_download)
    assert found["objects"][:3] == (2, 1, 0)
    assert found["body_bytes"][:3] == (1024, 10, 0)
    more = [lines[0], said("attributes", 450, 3, 4)]
    found = compared(more, fetches=open_fetch, downloads=open_download)
    assert found["objects"][:3] == (3, 1, -1)
    assert found["body_bytes"][:3] == (4096, 10, 2010 - 4096)
    fewer = [lines[0], said("attributes", 450, 0, 0)]
    assert compared(fewer, fetches=open_fetch)["objects"][:3] == (0, 1, 1)


@pytest.mark.parametrize("sign", ["next_ns", "closed_ns", "fetch"])
def test_a_download_is_done_with_when_anything_follows_it(sign: str) -> None:
    """The next request on its connection, the connection's end, or its fetch's."""
    lines = [said("attributes_before", 150, 0, 1), said("attributes", 450, 0, 1)]
    done = downloads(5000).with_columns(
        committed_ns=pl.lit(None, pl.Int64),
        closed_ns=pl.lit(120 if sign == "closed_ns" else None, pl.Int64),
        fetch_id=pl.lit(0 if sign == "fetch" else None, pl.Int32),
    )
    later = done.with_columns(
        pl.lit(1, pl.Int32).alias("download_id"), pl.lit(140, pl.Int64).alias("sent_ns"),
        last_byte_ns=pl.lit(None, pl.Int64), fetch_id=pl.lit(None, pl.Int32),
    )  # fmt: skip
    seen = pl.concat([done, later]) if sign == "next_ns" else done
    ended = fetches("downloaded").with_columns(end_ns=pl.lit(130, pl.Int64))
    found = compared(lines, downloads=seen, fetches=ended)["body_bytes"]
    assert found == (0, 0, 0, None)


def test_a_reading_after_the_end_of_recording_bounds_from_below_only() -> None:
    late = {**said("attributes", STOP_NS + 400, 4, 0), "answered_ns": STOP_NS + 1_200_000_000}
    lines = [said("attributes_before", 50, 0, 0), late]
    remark = "its counters were read 1.2 s after recording had ended"
    assert compared(lines, fetches=fetches("downloaded"))["objects"] == (4, 1, None, remark)
    four = fetches(*["downloaded"] * 4)
    assert compared(lines, fetches=four)["objects"] == (4, 4, 0, remark)
    five = fetches(*["downloaded"] * 5)
    assert compared(lines, fetches=five)["objects"] == (4, 5, 1, remark)


def test_fetches_while_the_counters_are_read_may_be_counted_or_not() -> None:
    begin = {**said("attributes_before", 100, 0, 0), "answered_ns": 210}
    for counted, difference in ((0, 1), (1, 0), (3, 0), (4, -1)):
        lines = [begin, said("attributes", 340, counted, 0)]
        found = compared(lines, fetches=fetches(*["downloaded"] * 3))["objects"]
        assert found[:3] == (counted, 1, difference), counted


def test_chunks_of_files_whose_lists_were_not_read_are_not_compared() -> None:
    lines = [said("attributes_before", 50, 0, 0), said("attributes", 450, 2, 0)]
    listed = rows("chunks", {"file_id": 3, "object_hash": HASHES[0]})
    made = fetches("downloaded", "downloaded").with_columns(
        file_id=pl.when(pl.col("fetch_id") == 0).then(pl.lit(3)).cast(pl.Int32)
    )
    assert compared(lines, fetches=made, chunks=listed)["chunks"] == (
        1, 1, 0, "of files whose chunk lists were not read: 1 more",
    )  # fmt: skip


def test_what_others_did_before_the_first_use_may_be_what_the_client_counted_more() -> None:
    """Then it is no difference; what was recorded and not counted is one."""
    lines = [said("attributes_before", 100, 0, 0), said("attributes", 950, 4, 9)]
    begun = {"first_uses": used(5_000_100), "fetches": fetches("downloaded")}
    late = 5_000_000
    remark = (
        "the client counted 3 more, which may be for others: what they did in the 5 ms before the "
        "command first used the mount is not recorded"
    )
    found = compared(lines, stop_ns=late, **begun)
    assert found["objects"] == (4, 1, None, remark)
    assert found["body_bytes"][2] is None
    at_once = {**begun, "first_uses": used(100)}
    assert compared(lines, stop_ns=late, **at_once)["objects"] == (4, 1, -3, None)
    unused = {**begun, "first_uses": used(100, mount_id=1)}
    assert compared(lines, stop_ns=late, **unused)["objects"][2] is None
    fewer = [lines[0], said("attributes", 950, 0, 0)]
    assert compared(fewer, stop_ns=late, **begun)["objects"] == (0, 1, 1, None)
    rounded = [lines[0], said("attributes", 950, 1, 1)]
    found = compared(rounded, stop_ns=late, downloads=downloads(1), **begun)
    assert found["body_bytes"] == (1024, 1, 0, None)


def test_a_client_born_during_the_run_is_recorded_from_its_start() -> None:
    found = compared(
        [said("attributes", 450, 4, 0)], mounts=mounted(60), first_uses=used(300),
        fetches=fetches("downloaded"),
    )  # fmt: skip
    assert found["objects"][:3] == (4, 1, -3)
