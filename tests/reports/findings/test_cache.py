from __future__ import annotations

from dataclasses import replace

import pytest

from cvmprof.reports.findings.finding import Finding
from cvmprof.reports.numbers.contention import Collisions
from cvmprof.reports.numbers.patterns import PageCache
from cvmprof.reports.numbers.statistics import Bytes
from cvmprof.tests.reports.rows import (
    NO_FAILURES,
    NO_PATTERNS,
    asked,
    fetches,
    figures,
    findings_of,
    headlines,
    incident,
    spoken,
)
from cvmprof.tests.reports.synthetic import (
    DAEMON,
    MIB,
    MODEL,
    MS,
    PID,
    START,
    sha1,
    tiny_rows,
)


def test_objects_in_the_cache_at_start() -> None:
    assert "1 of 3 objects was already in the client's cache when first looked up." in headlines(
        tiny_rows()
    )


def test_joined_and_failed_fetches_are_said() -> None:
    rows = tiny_rows()
    asked(rows, 2)
    for number, outcome in ((2, "joined"), (3, "failed")):
        rows.add(
            "fetches",
            fetch_id=number,
            mount_id=0,
            unique=2,
            start_ns=START,
            end_ns=START + MS,
            pid=DAEMON,
            tid=DAEMON,
            object_hash=sha1("chunk 0"),
            object_kind="chunk",
            outcome=outcome,
        )
    found = headlines(rows)
    assert "1 fetch waited for a download that another thread had begun." in found
    failed = "1 fetch failed (unknown: 1); no request to a server was seen to fail."
    assert failed in found


def test_unrelated_files_that_share_a_lock_are_named() -> None:
    rows = tiny_rows()
    assert not [line for line in headlines(rows) if "lock" in line]
    rows.add("files", file_id=9, mount_id=0, inode=99, generation=0, path="/cvmfs/other")
    for unique, node in ((901, 17), (902, 99)):
        rows.add(
            "fuse_requests",
            mount_id=0,
            unique=unique,
            opcode=15,
            node_id=node,
            pid=PID,
            tid=1,
            error=0,
        )
    waited = {"mount_id": 0, "unique": 901, "pid": DAEMON, "tid": 1, "holder_tid": 2}
    for start, end, kind in ((0, 30, "collision"), (30, 45, "collision"), (50, 60, "same_handle")):
        rows.add(
            "lock_waits",
            **waited,
            start_ns=START + start * MS,
            end_ns=START + end * MS,
            holder_unique=902,
            kind=kind,
        )
    (finding,) = [found for found in findings_of(rows) if "lock" in found.headline]
    assert finding.headline == "1 request waited 45.0 ms for a lock that another open file held."
    assert finding.meaning.endswith(f"The longest: {MODEL} waited 30.0 ms for /cvmfs/other.")


def test_what_the_client_fetched_for_no_request_is_told() -> None:
    rows = tiny_rows()
    rows.rows["fetches"][0]["unique"] = None
    headline = "1 object was fetched by the client without a request."
    assert headline in headlines(rows)
    rows.rows["fetches"][0]["unique"] = 2
    assert headline not in headlines(rows)


@pytest.mark.parametrize(("looked_up", "downloaded"), [(0, 1), (1, 0)])
def test_objects_cached_at_start_are_not_said_of_a_run_without(
    looked_up: int, downloaded: int
) -> None:
    assert spoken(objects_looked_up=looked_up, fetches=fetches(downloaded=downloaded)) == []


@pytest.mark.parametrize(
    ("cached", "looked_up", "verb"), [(1, 3, " was "), (2, 3, " were "), (0, 1, " was ")]
)
def test_objects_cached_at_start(cached: int, looked_up: int, verb: str) -> None:
    (finding,) = spoken(
        objects_looked_up=looked_up, objects_cached_at_start=cached, fetches=fetches(downloaded=1),
        bytes=Bytes(over_http=MIB, unpacked=3 * MIB, by_source={}),
    )  # fmt: skip
    assert (finding.tone, figures(finding.headline)) == ("note", [str(cached), str(looked_up)])
    assert verb in finding.headline and " object" in finding.headline
    assert figures(finding.meaning) == ["3.00 MiB", "1.00 MiB"]


def test_chunks_of_unknown_size_that_came_are_said() -> None:
    (finding,) = spoken(
        objects_looked_up=9, fetches=fetches(downloaded=7, unsized=5),
        bytes=Bytes(over_http=8 * MIB, unpacked=3 * MIB, by_source={}),
    )  # fmt: skip
    assert finding.meaning == (
        "3.00 MiB of files, and 5 chunks of which the size is not known, came over HTTP. All that "
        "came, with catalogs and headers, was 8.00 MiB on the wire."
    )


def page_cache(reads: int, *numbers: int) -> list[Finding]:
    found = replace(NO_PATTERNS, page_cache=PageCache(*numbers))
    return spoken(counts={"page_cache_hits": 7, "fuse_reads": reads}, patterns=found)


def test_a_run_without_a_request_used_the_page_cache_only() -> None:
    (finding,) = page_cache(0, 5 * MIB, 5 * MIB, 0)
    assert finding == Finding(
        "note",
        "No READ reached cvmfs2: the kernel's page cache held all 5.00 MiB that the command read "
        "or mapped.",
        "Such a run says nothing about a cold start: “cvmprof cold” empties that cache.",
    )
    assert page_cache(1, 5 * MIB, 0, 0) == page_cache(0, 0, 0, 0) == []


def test_most_of_what_was_used_was_in_the_page_cache() -> None:
    (finding,) = page_cache(1, 8 * MIB, MIB, 3 * MIB)
    assert finding == Finding(
        "note",
        "50 % of 8.00 MiB that the command read or mapped was in the kernel's page cache already.",
        "1.00 MiB was there before the run, 3.00 MiB had come during the run and was used again. "
        "cvmfs2 is asked only for what the kernel does not hold.",
    )
    assert page_cache(1, 8 * MIB + 2, MIB, 3 * MIB) == []
    assert len(page_cache(1, MIB, 0, MIB)) == 1
    assert page_cache(1, MIB - 1, 0, MIB - 1) == []


def test_why_objects_were_downloaded_more_than_once() -> None:
    again = replace(NO_FAILURES, downloaded_again=2)

    def meaning(*managers: str | None, kind: str = "mount") -> str:
        found = spoken(failures=again, incidents=(incident(kind),),
                       mounts=tuple({"cache_manager": name} for name in managers))  # fmt: skip
        (finding,) = [each for each in found if each.tone == "warning"]
        assert figures(finding.headline) == ["2"]
        return finding.meaning

    unknown, evicted = meaning("posix", None), meaning("posix", kind="eviction")
    streaming = meaning("posix", "streaming (posix)")
    assert len({unknown, evicted, streaming}) == 3
    assert "stream" in streaming and "limit" in evicted
    assert meaning("streaming", kind="eviction") == streaming
    assert meaning("not streaming") == unknown


def test_one_fetch_that_joined_another() -> None:
    (finding,) = spoken(fetches=fetches(joined=1))
    assert (finding.tone, figures(finding.headline)) == ("note", ["1"])


def test_collisions_are_said_from_a_millisecond_on() -> None:
    assert spoken(collisions=Collisions(3, MS - 1, MS // 2, "/a", "/b")) == []
    (finding,) = spoken(collisions=Collisions(3, MS, MS // 2, "/a", "/b"))
    assert (finding.tone, figures(finding.headline)) == ("note", ["3", "1.00 ms"])
    assert finding.meaning.endswith("/a waited 500 µs for /b.")
    (unnamed,) = spoken(collisions=Collisions(3, MS, MS // 2, None, None))
    assert "None" not in unnamed.meaning and unnamed.meaning.count("500 µs") == 1


def test_one_object_that_no_request_asked_for() -> None:
    (finding,) = spoken(fetched_for_no_request=1)
    assert (finding.tone, figures(finding.headline)) == ("note", ["1"])


@pytest.mark.parametrize("kind", ["reload", "remount", "eviction"])
def test_what_was_renewed(kind: str) -> None:
    (finding,) = spoken(incidents=(incident(kind, pid=900),))
    assert (finding.tone, figures(finding.headline)) == ("note", ["40.0 ms"])
    assert finding.meaning == "The detail."
