"""What the client says of its files and mounts: extended attributes, read after the command's end.

A dead mount may hang whoever touches it, so a helper process reads, with the user's identity; it is
given up when an answer takes over two seconds, and left behind if the kernel will not let it go.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl

from ..probes import events
from .directory import JOURNAL
from .files import file_places
from .record import journal
from .spool import Spool

TIMEOUT_S = 2.0
MAX_FILES = 20_000
_AT_ONCE = 16
_READER = Path(__file__).with_name("attribute_reader.py")
FILE_ATTRIBUTES = ("user.chunk_list", "user.hash", "user.compression")
MOUNT_ATTRIBUTES = (
    "user.fqrn", "user.pid", "user.version", "user.revision", "user.root_hash", "user.host",
    "user.proxy", "user.ndownload", "user.nioerr", "user.rx", "user.speed", "user.timeout",
)  # fmt: skip


def collect(run: Path) -> None:
    """Adds to the run's journal what the mounts and files of a recording have in attributes.

    Only FUSE file systems are asked. A file that is gone, a mount that does not answer, and files
    beyond the first `MAX_FILES` of a mount leave a line that says so.
    """
    seen = file_places(Spool(run).ring(events.FILE))
    places = seen.filter(pl.col("filesystem").str.starts_with("fuse"))
    if places.is_empty():
        return
    descriptor = os.open(run / JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    try:
        mountpoints = places["mountpoint"].drop_nulls().unique(maintain_order=True).to_list()
        with ThreadPoolExecutor(_AT_ONCE) as pool:  # several may hang
            answers = list(pool.map(_ask_mount, mountpoints))
        for mountpoint, answer in zip(mountpoints, answers, strict=True):
            inside = places.filter(mountpoint=mountpoint)["path"].drop_nulls()
            paths = inside.unique(maintain_order=True).to_list()
            journal.append(descriptor, "attributes", mountpoint=mountpoint, **answer)
            if "user.fqrn" in answer["attributes"]:  # the mount of a CVMFS client
                _collect_files(descriptor, mountpoint, paths)
    finally:
        os.close(descriptor)


def _ask_mount(mountpoint: str) -> dict[str, Any]:
    return next(_answers([{"path": mountpoint, "names": MOUNT_ATTRIBUTES}]))


def _collect_files(descriptor: int, mountpoint: str, paths: list[str]) -> None:
    files = [{"path": path, "names": FILE_ATTRIBUTES} for path in paths[:MAX_FILES]]
    for answer in _answers(files):
        journal.append(descriptor, "attributes", mountpoint=None, **answer)
    if len(paths) > MAX_FILES:
        detail = (
            f"{len(paths):,} files of {mountpoint} were used: only of the first {MAX_FILES:,} it "
            "was asked which chunks they have"
        )
        journal.append(descriptor, "incident", incident="unasked", detail=detail)


def _answers(requests: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """An answer to each request, in order; after one that does not come, the rest are not asked."""
    with subprocess.Popen(
        [sys.executable, "-I", str(_READER)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/",
    ) as reader:  # fmt: skip
        for number, request in enumerate(requests):
            line = _ask(reader, request)
            if line is None:
                reader.kill()
                # not waited for: the kernel may hold it until the mount answers
                reader.returncode = -9
                reason = f"no answer within {TIMEOUT_S:.0f} s"
                yield from (_unanswered(each, reason) for each in requests[number:])
                return
            yield json.loads(line)


def _ask(reader: subprocess.Popen[bytes], request: dict[str, Any]) -> bytes | None:
    assert reader.stdin is not None and reader.stdout is not None
    try:
        reader.stdin.write(json.dumps(request).encode() + b"\n")
        reader.stdin.flush()
    except BrokenPipeError:
        return None
    ready, _, _ = select.select([reader.stdout], [], [], TIMEOUT_S)
    return (reader.stdout.readline() or None) if ready else None


def _unanswered(request: dict[str, Any], reason: str) -> dict[str, Any]:
    nothing: dict[str, Any] = {"device": None, "inode": None, "attributes": {}}
    return {"path": request["path"], **nothing, "reason": reason}
