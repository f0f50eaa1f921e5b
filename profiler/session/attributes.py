"""What the client says of its files and mounts: extended attributes.

Of the CVMFS mounts at start their counters are read before the command is let go, of those that it
used after it has ended, both while recording; its files' chunk lists are read after that. A dead
mount may hang whoever touches it, so a helper process reads, with the user's identity; it is given
up when an answer takes over two seconds, and left behind if the kernel will not let it go. The
journal names the helpers (``reader``): what they ask for is no part of the run.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from ...probes import events
from ..record import journal
from ..run.directory import JOURNAL
from ..run.journal import Journal
from ..run.mountinfo import parse_mountinfo
from ..run.places import file_places
from ..run.spool import Spool

TIMEOUT_S = 2.0
UNANSWERED = f"no answer within {TIMEOUT_S:.0f} s"
#: a busy machine may take its time to start a helper, which no mount is to be blamed for
_START_TIMEOUT_S = 10.0
MAX_FILES = 20_000
_AT_ONCE = 16
_READER = Path(__file__).with_name("attribute_reader.py")
FILE_ATTRIBUTES = ("user.chunk_list", "user.hash", "user.compression")
MOUNT_ATTRIBUTES = (
    "user.fqrn", "user.pid", "user.version", "user.revision", "user.root_hash", "user.host",
    "user.proxy", "user.ndownload", "user.nioerr", "user.rx", "user.speed", "user.timeout",
    "user.ncleanup24",
)  # fmt: skip


Answer = dict[str, Any]
Note = Callable[..., None]


def collect_before(run: Path) -> None:
    """Adds to the journal, as ``attributes_before``, what the client's mounts count at start.

    Asked are those that the recorder's first ``mountinfo`` shows, where a daemon runs.
    """
    told = Spool(run).journal()
    places = _client_mounts(told) if told.of("daemon") else []
    _collect_mounts(run, "attributes_before", places)


def collect_after(run: Path) -> None:
    """Adds to the journal what the FUSE mounts that were used say of themselves now.

    For the time between the command's end and the recording's.
    """
    _collect_mounts(run, "attributes", _used_mounts(run))


def collect(run: Path) -> None:
    """Adds to the run's journal what the mounts and files of a recording have in attributes.

    Only FUSE file systems are asked, mounts only that have not been yet. A file that is gone, a
    mount that does not answer, and files beyond the first `MAX_FILES` of a mount leave a line that
    says so.
    """
    known = _answered(Spool(run).journal())
    fresh = [place for place in _used_mounts(run) if place not in known]
    _collect_mounts(run, "attributes", fresh)
    places = _places(run)
    answered = _answered(Spool(run).journal())
    with _journal(run) as note:
        for mountpoint, answer in answered.items():
            inside = places.filter(mountpoint=mountpoint)["path"].drop_nulls()
            if "user.fqrn" in answer["attributes"]:  # the mount of a CVMFS client
                _collect_files(note, mountpoint, inside.unique(maintain_order=True).to_list())
        note("collected")


def _client_mounts(told: Journal) -> list[str]:
    """Where the first ``mountinfo`` shows mounts of a CVMFS client, or what may be one."""
    texts = [str(line.get("text", "")) for line in told.of("mountinfo")[:1]]
    lines = [line for text in texts for line in parse_mountinfo(text)]
    wanted = [line.mountpoint for line in lines if line.is_cvmfs or line.is_unnamed]
    return list(dict.fromkeys(wanted))


def _places(run: Path) -> pl.DataFrame:
    seen = file_places(Spool(run).ring(events.FILE))
    return seen.filter(pl.col("filesystem").str.starts_with("fuse"))


def _used_mounts(run: Path) -> list[str]:
    return _places(run)["mountpoint"].drop_nulls().unique(maintain_order=True).to_list()


def _answered(told: Journal) -> dict[str, Answer]:
    """The answers of mounts after the command, by mount point."""
    lines = told.of("attributes")
    return {line["mountpoint"]: line for line in lines if line.get("mountpoint")}


@contextmanager
def _journal(run: Path) -> Generator[Note]:
    """The run's journal, open to be added to: a function from a kind and values."""
    descriptor = os.open(run / JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    try:
        yield partial(journal.append, descriptor)
    finally:
        os.close(descriptor)


def _collect_mounts(run: Path, kind: str, mountpoints: list[str]) -> None:
    """One helper asks one mount after the other; from the first that hangs on, each has its own."""
    if not mountpoints:
        return
    with _journal(run) as note:
        rest = list(mountpoints)
        for answer in _answers(_about(mountpoints), note):
            note(kind, mountpoint=rest.pop(0), **answer)
            if answer["reason"] == UNANSWERED:
                break
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            asked = pool.map(partial(_ask_alone, note), rest)
            for mountpoint, answer in zip(rest, asked, strict=True):
                note(kind, mountpoint=mountpoint, **answer)


def _ask_alone(note: Note, mountpoint: str) -> Answer:
    return next(_answers(_about([mountpoint]), note))


def _about(mountpoints: list[str]) -> list[dict[str, Any]]:
    return [{"path": mountpoint, "names": MOUNT_ATTRIBUTES} for mountpoint in mountpoints]


def _collect_files(note: Note, mountpoint: str, paths: list[str]) -> None:
    files = [{"path": path, "names": FILE_ATTRIBUTES} for path in paths[:MAX_FILES]]
    for answer in _answers(files, note):
        note("attributes", mountpoint=None, **answer)
    if len(paths) > MAX_FILES:
        detail = (
            f"{len(paths):,} files of {mountpoint} were used: only of the first {MAX_FILES:,} it "
            "was asked which chunks they have"
        )
        note("incident", incident="unasked", detail=detail)


def _answers(requests: Sequence[dict[str, Any]], note: Note) -> Iterator[Answer]:
    """An answer to each request, in order; after one that does not come, the rest are not asked."""
    with subprocess.Popen(
        [sys.executable, "-I", str(_READER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
    ) as reader:
        note("reader", pid=reader.pid)
        ready = _line(reader, _START_TIMEOUT_S)
        for number, request in enumerate(requests):
            asked_ns = time.monotonic_ns()
            line = _ask(reader, request) if ready else None
            if line is None:
                reader.kill()
                # not waited for: the kernel may hold it until the mount answers
                reader.returncode = -9
                yield from (_unanswered(each, asked_ns) for each in requests[number:])
                return
            times = {"asked_ns": asked_ns, "answered_ns": time.monotonic_ns()}
            yield {"device": None, **json.loads(line), **times}


def _ask(reader: subprocess.Popen[bytes], request: dict[str, Any]) -> bytes | None:
    assert reader.stdin is not None
    try:
        reader.stdin.write(json.dumps(request).encode() + b"\n")
        reader.stdin.flush()
    except BrokenPipeError:
        return None
    return _line(reader, TIMEOUT_S)


def _line(reader: subprocess.Popen[bytes], timeout_s: float) -> bytes | None:
    assert reader.stdout is not None
    ready, _, _ = select.select([reader.stdout], [], [], timeout_s)
    return (reader.stdout.readline() or None) if ready else None


def _unanswered(request: dict[str, Any], asked_ns: int) -> Answer:
    nothing: Answer = {"device": None, "inode": None, "attributes": {}}
    times = {"asked_ns": asked_ns, "answered_ns": time.monotonic_ns()}
    return {"path": request["path"], **nothing, "reason": UNANSWERED, **times}
