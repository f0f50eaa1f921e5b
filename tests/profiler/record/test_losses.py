"""What was captured plus what was counted as lost is what happened, to the last call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cvmprof.probes import events

from .conftest import Recording, Stopping

READS = 100_003


def lost(result: dict[str, Any], probe: str, cause: str) -> int:
    return sum(
        row["count"] for row in result["losses"] if (row["probe"], row["cause"]) == (probe, cause)
    )


@pytest.fixture
def storm(
    build: Callable[..., Path], stopping: Callable[..., Stopping], tmp_path: Path
) -> Stopping:
    """Waits to read one page of a file READS times."""
    file = tmp_path / "page"
    file.write_bytes(bytes(4096))
    return stopping(build("storm.c", "storm"), "pread", READS, file)


def test_a_ring_too_small_loses_and_says_how_many(
    recording: Callable[..., Recording], storm: Stopping
) -> None:
    recorder = recording({"ring_pages": {"operation": 1}}, every_read=True, all_files=True)
    recorder.trace(storm.pid)
    assert storm.go_on()
    result = recorder.stop()
    captured = [each for each in recorder.records(events.OPERATION) if each["tid"] == storm.pid]
    dropped = lost(result, "operation", "ring full")
    assert captured
    assert dropped > 0
    assert len(captured) + dropped == READS
    assert {each["kind"] for each in captured} == {events.OPERATION_KINDS.index("read")}
    ranges = {(each["result"], each["size"], each["offset"]) for each in captured}
    assert ranges == {(4096, 4096, 0)}


def test_a_ring_large_enough_loses_nothing(
    recording: Callable[..., Recording], storm: Stopping
) -> None:
    recorder = recording(every_read=True, all_files=True)
    recorder.trace(storm.pid)
    assert storm.go_on()
    result = recorder.stop()
    captured = [each for each in recorder.records(events.OPERATION) if each["tid"] == storm.pid]
    assert result["losses"] == []
    assert len(captured) == READS
    starts = [each["start_ns"] for each in captured]
    assert starts == sorted(starts)
    assert all(each["start_ns"] < each["end_ns"] for each in captured)


@pytest.mark.parametrize("system_calls", ["twice", "again"])
def test_a_second_pair_of_programs_does_what_the_first_missed_and_nothing_more(
    recording: Callable[..., Recording], storm: Stopping, system_calls: str
) -> None:
    recorder = recording({"system_calls": system_calls}, every_read=True, all_files=True)
    recorder.trace(storm.pid)
    assert storm.go_on()
    result = recorder.stop()
    captured = [each for each in recorder.records(events.OPERATION) if each["tid"] == storm.pid]
    assert result["losses"] == []
    assert len(captured) == READS
    assert {(each["result"], each["size"]) for each in captured} == {(4096, 4096)}


def test_aggregated_hits_are_as_many_as_the_reads(
    recording: Callable[..., Recording], storm: Stopping
) -> None:
    recorder = recording(all_files=True)
    recorder.trace(storm.pid)
    assert storm.go_on()
    recorder.stop()
    runs = [each for each in recorder.records(events.HIT) if each["tid"] == storm.pid]
    left = [each["hit"] for each in recorder.in_flight(events.THREAD) if each["tid"] == storm.pid]
    whole = [each for each in recorder.records(events.OPERATION) if each["tid"] == storm.pid]
    hits = runs + [hit for hit in left if hit["count"]]
    assert sum(hit["count"] for hit in hits) + len(whole) == READS
    assert sum(hit["bytes"] for hit in hits) + sum(each["result"] for each in whole) == READS * 4096
    assert len(whole) < READS // 100


def test_losses_are_in_the_journal_too(
    recording: Callable[..., Recording], storm: Stopping
) -> None:
    recorder = recording({"ring_pages": {"operation": 1}}, every_read=True, all_files=True)
    recorder.trace(storm.pid)
    assert storm.go_on()
    result = recorder.stop()
    assert recorder.journal("losses")[0]["rows"] == result["losses"]
    for row in result["losses"]:
        assert row["count"] == sum(row["per_cpu"])
    hits = {row["event"]: row["hits"] for row in recorder.journal("hits")[0]["rows"]}
    assert hits["system call"] >= READS
    assert recorder.journal("stop")[0]["complete"] is True
