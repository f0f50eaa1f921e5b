"""Who else used the mounts: named while it lives, and only if it is the one that was seen."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cvmprof.probes import events
from cvmprof.profiler.record.journal import boot_id
from cvmprof.profiler.session.neighbours import note_neighbours

if TYPE_CHECKING:
    from tests.profiler.conftest import SpoolWriter


@pytest.fixture
def living() -> Iterator[int]:
    """A process called cat, that runs until the end of the test."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"!")
        process.stdin.flush()
        assert process.stdout.read(1) == b"!"  # it has called exec
        yield process.pid
        process.kill()


def noted(writer: SpoolWriter) -> list[dict[str, Any]]:
    lines = list[dict[str, Any]]()

    def note(kind: str, **values: Any) -> None:
        lines.append({"kind": kind, **values})

    note_neighbours(writer.run, note)
    return lines


def begin(writer: SpoolWriter, boot_id: str) -> None:
    writer.journal("start", 1000, boot_id=boot_id)


def test_a_process_that_lives_is_named(spool_writer: SpoolWriter, living: int) -> None:
    begin(spool_writer, boot_id())
    for unique in (1, 2):
        spool_writer.ring(events.REQUEST, unique=unique, pid=living, queued_ns=time.monotonic_ns())
    line, done = noted(spool_writer)
    assert done == {"kind": "neighbours"}
    assert (line["kind"], line["pid"], line["name"]) == ("neighbour", living, "cat")
    assert 0 < line["start_ns"] <= time.monotonic_ns()


def test_a_younger_process_of_the_same_number_is_not(
    spool_writer: SpoolWriter, living: int
) -> None:
    begin(spool_writer, boot_id())
    spool_writer.ring(events.REQUEST, unique=1, pid=living, queued_ns=1)
    assert noted(spool_writer) == [{"kind": "neighbours"}]


@pytest.mark.parametrize("recorded_in", ["5e2b6d0c-0f5e-4f0e-9d5e-3a1b2c4d5e6f", None])
def test_nobody_is_named_after_a_restart(
    spool_writer: SpoolWriter, living: int, recorded_in: str | None
) -> None:
    spool_writer.journal("start", 1000, boot_id=recorded_in)
    spool_writer.ring(events.REQUEST, unique=1, pid=living, queued_ns=time.monotonic_ns())
    assert noted(spool_writer) == []


def test_nobody_is_named_where_the_kernel_does_not_say_when_it_started(
    spool_writer: SpoolWriter, living: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cvmprof.profiler.record.journal._BOOT_ID", str(tmp_path / "masked"))
    assert boot_id() == ""
    begin(spool_writer, boot_id())
    spool_writer.ring(events.REQUEST, unique=1, pid=living, queued_ns=time.monotonic_ns())
    assert noted(spool_writer) == []


def test_they_are_named_once(spool_writer: SpoolWriter, living: int) -> None:
    begin(spool_writer, boot_id())
    spool_writer.ring(events.REQUEST, unique=1, pid=living, queued_ns=time.monotonic_ns())
    spool_writer.journal("neighbours", 2000)
    assert noted(spool_writer) == []


def test_neither_the_commands_nor_helpers_nor_who_has_ended(
    spool_writer: SpoolWriter, living: int
) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    begin(spool_writer, boot_id())
    spool_writer.journal("reader", 1500, pid=living)
    spool_writer.ring(events.TASK, time_ns=1, pid=os.getpid(), tid=os.getpid(), kind=1, role=1)
    for pid in (living, ended.pid, os.getpid(), 0):
        spool_writer.ring(events.REQUEST, unique=pid, pid=pid, queued_ns=time.monotonic_ns())
    assert noted(spool_writer) == [{"kind": "neighbours"}]
