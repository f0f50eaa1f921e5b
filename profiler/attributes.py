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
from pathlib import Path
from typing import Any

from ..probes import events
from .directory import JOURNAL
from .files import file_places
from .record import journal
from .spool import Spool

TIMEOUT_S = 2.0
_MAX_FILES = 20_000
_READER = Path(__file__).with_name("attribute_reader.py")
FILE_ATTRIBUTES = ("user.chunk_list", "user.hash", "user.compression")
MOUNT_ATTRIBUTES = (
    "user.fqrn", "user.pid", "user.version", "user.revision", "user.root_hash", "user.host",
    "user.proxy", "user.ndownload", "user.nioerr", "user.rx", "user.speed", "user.timeout",
)  # fmt: skip


def collect(run: Path) -> None:
    """Adds to the run's journal what the mounts and files of a recording have in attributes.

    A file that is gone, or a mount that does not answer, leaves a line with the reason.
    """
    places = file_places(Spool(run).ring(events.FILE))
    if places.is_empty():
        return
    descriptor = os.open(run / JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    try:
        mountpoints = places["mountpoint"].drop_nulls().unique(maintain_order=True).to_list()
        for mountpoint in mountpoints:
            inside = places.filter(mountpoint=mountpoint)["path"].drop_nulls()
            paths = inside.unique(maintain_order=True).head(_MAX_FILES).to_list()
            _collect_mount(descriptor, mountpoint, paths)
    finally:
        os.close(descriptor)


def _collect_mount(descriptor: int, mountpoint: str, paths: list[str]) -> None:
    """A mount first; its files only where it is a CVMFS client's."""
    requests = [{"path": mountpoint, "names": MOUNT_ATTRIBUTES}]
    answer = next(_answers(requests))
    journal.append(descriptor, "attributes", mountpoint=mountpoint, **answer)
    if "user.fqrn" not in answer["attributes"]:
        return
    files = [{"path": path, "names": FILE_ATTRIBUTES} for path in paths]
    for answer in _answers(files):
        journal.append(descriptor, "attributes", mountpoint=None, **answer)


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
