"""Which attributes of mounts and files are read; plain directories stand in for mounts."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cvmprof.probes import events
from cvmprof.profiler.finalise import finalise
from cvmprof.profiler.session import attributes

if TYPE_CHECKING:
    from tests.profiler.conftest import SpoolWriter

FUSE_MAGIC, EXT4_MAGIC = 0x65735546, 0xEF53


def used(writer: SpoolWriter, mountpoint: Path, name: str, magic: int, number: int) -> None:
    """Append the record of a file right below a mount point."""
    upwards = [name, *reversed(mountpoint.parts[1:])]
    text = b"".join(part.encode() + b"\0" for part in upwards)
    writer.ring(
        events.FILE,
        time_ns=1500 + number,
        ino=number,
        dev=50,
        components=text,
        text=len(text),
        mount_text=len(name) + 1,
        depth=len(upwards),
        complete=1,
        magic=magic,
    )


def lines(run: Path, kind: str) -> list[dict[str, Any]]:
    journal = map(json.loads, (run / "journal.jsonl").read_text().splitlines())
    return [line for line in journal if line["kind"] == kind]


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    """A directory with three files and the attribute by which a CVMFS mount is known."""
    directory = tmp_path / "mnt"
    directory.mkdir()
    for number in (1, 2, 3):
        (directory / str(number)).touch()
    os.setxattr(directory, "user.fqrn", b"models.lab.test")
    return directory


def test_files_beyond_the_limit_leave_an_incident(
    spool_writer: SpoolWriter, mountpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attributes, "MAX_FILES", 2)
    spool_writer.begin()
    for number in (1, 2, 3):
        used(spool_writer, mountpoint, str(number), FUSE_MAGIC, number)
    spool_writer.end(2000)
    attributes.collect(spool_writer.run)
    asked = [line["path"] for line in lines(spool_writer.run, "attributes")]
    assert asked == [str(mountpoint), str(mountpoint / "1"), str(mountpoint / "2")]
    incidents = finalise(spool_writer.run).tables["incidents"].filter(kind="unasked")
    assert incidents["detail"].to_list() == [
        f"3 files of {mountpoint} were used, but chunk lists were read only of the first 2"
    ]


def test_files_within_the_limit_leave_no_incident(
    spool_writer: SpoolWriter, mountpoint: Path
) -> None:
    spool_writer.begin()
    used(spool_writer, mountpoint, "1", FUSE_MAGIC, 1)
    attributes.collect(spool_writer.run)
    assert len(lines(spool_writer.run, "attributes")) == 2
    assert lines(spool_writer.run, "incident") == []


def test_only_fuse_file_systems_are_read(spool_writer: SpoolWriter, mountpoint: Path) -> None:
    spool_writer.begin()
    used(spool_writer, mountpoint, "1", EXT4_MAGIC, 1)
    attributes.collect(spool_writer.run)
    assert lines(spool_writer.run, "attributes") == []


def test_mounts_that_hang_are_waited_for_all_at_once(
    spool_writer: SpoolWriter, mountpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that never answers, ten mounts: two seconds, not twenty."""
    silent = mountpoint / "silent.py"
    silent.write_text("import signal\nprint(flush=True)\nsignal.pause()\n")
    monkeypatch.setattr(attributes, "_READER", silent)
    spool_writer.begin()
    for number in range(10):
        used(spool_writer, mountpoint / f"{number}", "file", FUSE_MAGIC, number)
    began = time.monotonic()
    attributes.collect(spool_writer.run)
    assert time.monotonic() - began < 10
    reasons = [line["reason"] for line in lines(spool_writer.run, "attributes")]
    assert reasons == ["no answer within 2 s"] * 10
