"""Read what a client reports about its mounts and files: extended attributes.

The counters of CVMFS mounts are read before the command is let go, and those of the mounts that it
used again when it has ended or recording is about to, both while recording; the chunk lists of its
files are read after the recording, and then their tensors. Who else uses the mounts is named after
the recording too, or at its end if the command outlives it. A dead mount may block any process that
touches it, so a helper process reads, with the user's identity. A helper that does not answer
within two seconds is killed, and not waited for, since the kernel may hold it. The journal names
the helpers (``reader``): their requests are not part of the run.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import polars as pl

from ...probes import events
from ..record import journal
from ..run.directory import JOURNAL
from ..run.journal import Journal
from ..run.mountinfo import parse_mountinfo
from ..run.places import file_places
from ..run.spool import Spool
from .helper import UNANSWERED, Answer, Note, Request, answers
from .neighbours import note_neighbours
from .tensors import collect_tensors

MAX_FILES = 20_000
_MOUNTS_AT_ONCE = 16
_READER = Path(__file__).with_name("attribute_reader.py")
FILE_ATTRIBUTES = ("user.chunk_list", "user.hash", "user.compression")
MOUNT_ATTRIBUTES = (
    "user.fqrn", "user.pid", "user.version", "user.revision", "user.root_hash", "user.host",
    "user.proxy", "user.ndownload", "user.nioerr", "user.rx", "user.speed", "user.timeout",
    "user.ncleanup24",
)  # fmt: skip


def collect_before(run: Path) -> None:
    """Add the counters of the client's mounts to the journal, as ``attributes_before``.

    Where a daemon runs, the CVMFS mounts in the recorder's first ``mountinfo`` are read.
    """
    start = Spool(run).journal()
    mountpoints = _client_mounts(start) if start.of("daemon") else []
    _collect_mounts(run, "attributes_before", mountpoints)


def collect_after(run: Path) -> None:
    """Add the attributes of the FUSE mounts that were used to the journal, as ``attributes``.

    To be called before the end of the recording; only mounts that have not answered are read.
    """
    answered = _answers_of_mounts(run)
    _collect_mounts(run, "attributes", [each for each in _used_mounts(run) if each not in answered])


def collect_neighbours(run: Path) -> None:
    """Add who else uses the mounts to the journal, see `note_neighbours`."""
    with _journal(run) as note:
        note_neighbours(run, note)


def collect(run: Path) -> None:
    """Add the attributes of the mounts and files of a recording to its journal, and who else uses
    the mounts.

    Only FUSE file systems are read, and mounts only where `collect_after` did not. A file that no
    longer exists, a mount that does not answer, and files beyond the first `MAX_FILES` of a mount
    leave a line that says so. The tensors of model files are read last, see `collect_tensors`.
    """
    collect_after(run)
    collect_neighbours(run)
    places = _fuse_places(run)
    with _journal(run) as note:
        for mountpoint, answer in _answers_of_mounts(run).items():
            if "user.fqrn" in answer["attributes"]:  # the mount of a CVMFS client
                paths = places.filter(mountpoint=mountpoint)["path"].drop_nulls()
                _collect_files(note, mountpoint, paths.unique(maintain_order=True).to_list())
        collect_tensors(run, _model_places(run), _silent_mounts(run), note)
        note("collected")


def _client_mounts(start: Journal) -> list[str]:
    """Where mounts of a CVMFS client, or possibly of one, were in the first ``mountinfo``."""
    texts = [line.get("text") or "" for line in start.of("mountinfo")[:1]]
    lines = [line for text in texts for line in parse_mountinfo(text)]
    mountpoints = [line.mountpoint for line in lines if line.is_cvmfs or line.is_unnamed]
    return list(dict.fromkeys(mountpoints))


def _fuse_places(run: Path) -> pl.DataFrame:
    places = file_places(Spool(run).ring(events.FILE))
    return places.filter(pl.col("filesystem").str.starts_with("fuse"))


def _model_places(run: Path) -> pl.DataFrame:
    """Files that may be models: those on FUSE, with ``--all-files`` all that were used."""
    options: dict[str, object] = Spool(run).journal().start.get("options") or {}
    if options.get("all_files"):
        return file_places(Spool(run).ring(events.FILE))
    return _fuse_places(run)


def _silent_mounts(run: Path) -> list[str]:
    """Mounts that did not answer when they were asked last."""
    answered = _answers_of_mounts(run).items()
    return [mountpoint for mountpoint, line in answered if line.get("reason") == UNANSWERED]


def _used_mounts(run: Path) -> list[str]:
    return _fuse_places(run)["mountpoint"].drop_nulls().unique(maintain_order=True).to_list()


def _answers_of_mounts(run: Path) -> dict[str, Answer]:
    """What the mounts answered after the command, by mount point."""
    lines = Spool(run).journal().of("attributes")
    return {line["mountpoint"]: line for line in lines if line.get("mountpoint")}


@contextmanager
def _journal(run: Path) -> Generator[Note]:
    """Open the run's journal: a function that appends a line of a kind and values."""
    descriptor = os.open(run / JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    try:
        yield partial(journal.append, descriptor)
    finally:
        os.close(descriptor)


def _collect_mounts(run: Path, kind: str, mountpoints: list[str]) -> None:
    """Read one mount after the other with one helper; after the first that hangs, one for each."""
    if not mountpoints:
        return
    with _journal(run) as note:
        rest = list(mountpoints)
        for answer in _answers(_mount_requests(mountpoints), note):
            note(kind, mountpoint=rest.pop(0), **answer)
            if answer["reason"] == UNANSWERED:
                break
        with ThreadPoolExecutor(_MOUNTS_AT_ONCE) as pool:
            answers = pool.map(partial(_answer_of_own_helper, note), rest)
            for mountpoint, answer in zip(rest, answers, strict=True):
                note(kind, mountpoint=mountpoint, **answer)


def _answer_of_own_helper(note: Note, mountpoint: str) -> Answer:
    return next(_answers(_mount_requests([mountpoint]), note))


def _mount_requests(mountpoints: list[str]) -> list[Request]:
    return [{"path": mountpoint, "names": MOUNT_ATTRIBUTES} for mountpoint in mountpoints]


def _collect_files(note: Note, mountpoint: str, paths: list[str]) -> None:
    requests = [{"path": path, "names": FILE_ATTRIBUTES} for path in paths[:MAX_FILES]]
    for answer in _answers(requests, note):
        note("attributes", mountpoint=None, **answer)
    if len(paths) > MAX_FILES:
        detail = (
            f"{len(paths):,} files of {mountpoint} were used, but chunk lists were read only of "
            f"the first {MAX_FILES:,}"
        )
        note("incident", incident="unasked", detail=detail)


def _answers(requests: Sequence[Request], note: Note) -> Iterator[Answer]:
    """Yield what the helper answers; where it does not, no attributes and a reason."""
    nothing: Answer = {"device": None, "inode": None, "attributes": {}}
    return ({**nothing, **each} for each in answers((str(_READER),), requests, note))
