"""What the client and the model's header say, read by the helpers that sessions use.

A session reads them with tables at hand, which are not on the machine with the device. Here the
mount and the model are known.
"""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path

from cvmprof.profiler.record import journal
from cvmprof.profiler.run.directory import JOURNAL, SPOOL_DIRECTORY, TENSORS
from cvmprof.profiler.session import session
from cvmprof.profiler.session.helper import Answer, Note, Request, answers

from .site import Site

_ATTRIBUTE_READER = (str(Path(session.__file__).with_name("attribute_reader.py")),)
#: it is isolated, so the package must be shown to it
_TENSOR_READER = (
    "import sys; sys.path.insert(0, {!r}); from cvmprof.profiler.model.reader import main; main()"
)
_MOST_TENSORS = 100_000
FILE_ATTRIBUTES = ("user.chunk_list", "user.hash", "user.compression")
MOUNT_ATTRIBUTES = (
    "user.fqrn", "user.pid", "user.version", "user.revision", "user.root_hash", "user.host",
    "user.proxy",
)  # fmt: skip


def collect(site: Site, run: Path) -> None:
    """Add to a run what the mount and the model say, if the model is in a mount."""
    if not site.mount_file.exists():
        return
    mount = json.loads(site.mount_file.read_text())
    requests: list[Request] = [
        {"path": mount["mountpoint"], "names": MOUNT_ATTRIBUTES},
        {"path": mount["model"], "names": FILE_ATTRIBUTES},
    ]
    descriptor = os.open(run / JOURNAL, os.O_WRONLY | os.O_APPEND)
    note = partial(journal.append, descriptor)
    for place, answer in zip((mount["mountpoint"], None), _attributes(requests, note), strict=True):
        note("attributes", mountpoint=place, **answer)
    lines = [json.dumps(line) + "\n" for line in _tensors(site, mount["model"], note)]
    (run / SPOOL_DIRECTORY / TENSORS).write_text("".join(lines))
    note("collected")
    os.close(descriptor)


def chunk_hashes(file: Path) -> list[str]:
    """Hashes of the chunks of a file in a mount, in the order of the file."""
    (answer,) = _attributes([{"path": str(file), "names": FILE_ATTRIBUTES[:1]}], _forget)
    lines = answer["attributes"][FILE_ATTRIBUTES[0]].splitlines()[1:]
    rows = sorted((int(offset), hash_) for hash_, offset, _ in (line.split(",") for line in lines))
    return [hash_ for _, hash_ in rows]


def _attributes(requests: list[Request], note: Note) -> list[Answer]:
    return list(answers(_ATTRIBUTE_READER, requests, note))


def _tensors(site: Site, model: str, note: Note) -> list[Answer]:
    """Files with tensors: the model itself."""
    program = ("-c", _TENSOR_READER.format(str(site.packages)))
    requests: list[Request] = [{"path": model, "limit": _MOST_TENSORS}]
    files = list[Answer]()
    for answer in answers(program, requests, note):
        files += answer.get("files", [])
    return files


def _forget(kind: str, **values: object) -> None:
    """Nothing is recorded yet."""
