"""The content-addressed store: zlib objects named by the SHA-1 of their compressed bytes.

An object lies at ``data/ab/cdef…SUFFIX``. The suffix says what it is: none for a whole file, ``P``
for a chunk, ``C`` catalog, ``X`` certificate.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .layout import make_directory

BLOCK_BYTES = 1 << 20
SUFFIX_FILE = ""
SUFFIX_CHUNK = "P"
SUFFIX_CATALOG = "C"
SUFFIX_CERTIFICATE = "X"


@dataclass(frozen=True)
class Stored:
    """One object: hash of its compressed bytes, both sizes, and whether it had to be written."""

    object_hash: str
    unpacked_bytes: int
    wire_bytes: int
    written: bool


def object_path(object_hash: str, suffix: str) -> str:
    """``data/ab/cdef…SUFFIX``, relative to the repository."""
    return f"data/{object_hash[:2]}/{object_hash[2:]}{suffix}"


class Store:
    """The objects of one repository, with an index from content to object.

    The index (SHA-1 of the unpacked bytes and the level, to hash and wire size) saves compressing
    what was published before. Without it everything is compressed again, to the same names. Safe
    for threads.
    """

    def __init__(self, published: Path, index: Path, level: int) -> None:
        self._published = published
        self._index = index
        self._level = level
        self._lock = threading.Lock()
        self._contents = _read_index(index)

    def put_bytes(self, content: bytes, suffix: str) -> Stored:
        """Store ``content`` as one object."""
        return self._compress([content], len(content), suffix)

    def put_range(self, path: Path, offset: int, size_bytes: int, suffix: str) -> Stored:
        """Store part of a file as an object. Raises OSError; EOFError if the file is shorter."""
        raw = hashlib.sha1()
        for block in _blocks(path, offset, size_bytes):
            raw.update(block)
        key = f"{raw.hexdigest()}:{self._level}"
        earlier = self._stored_before(key, suffix, size_bytes)
        if earlier is not None:
            return earlier
        stored = self._compress(_blocks(path, offset, size_bytes), size_bytes, suffix)
        with self._lock:
            self._contents[key] = (stored.object_hash, stored.wire_bytes)
        return stored

    def save_index(self) -> None:
        """Write the index, through a temporary file."""
        temporary = self._index.with_suffix(".tmp")
        temporary.write_text(json.dumps(self._contents))
        os.replace(temporary, self._index)

    def _stored_before(self, key: str, suffix: str, size_bytes: int) -> Stored | None:
        with self._lock:
            entry = self._contents.get(key)
        if entry is None or not (self._published / object_path(entry[0], suffix)).exists():
            return None
        return Stored(entry[0], size_bytes, entry[1], written=False)

    def _compress(self, blocks: Iterable[bytes], size_bytes: int, suffix: str) -> Stored:
        make_directory(self._published / "data" / "txn")
        fd, temporary = tempfile.mkstemp(dir=self._published / "data" / "txn")
        try:
            with os.fdopen(fd, "wb") as file:
                digest, wire_bytes = _write_packed(file.write, blocks, self._level)
            os.chmod(temporary, 0o644)
            written = self._commit(Path(temporary), digest, suffix)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        return Stored(digest, size_bytes, wire_bytes, written)

    def _commit(self, temporary: Path, digest: str, suffix: str) -> bool:
        final = self._published / object_path(digest, suffix)
        make_directory(final.parent)
        with self._lock:
            if final.exists():
                temporary.unlink()
                return False
            os.rename(temporary, final)
            return True


def _write_packed(
    write: Callable[[bytes], object], blocks: Iterable[bytes], level: int
) -> tuple[str, int]:
    digest, wire_bytes = hashlib.sha1(), 0
    for packed in _packed(blocks, level):
        digest.update(packed)
        write(packed)
        wire_bytes += len(packed)
    return digest.hexdigest(), wire_bytes


def _packed(blocks: Iterable[bytes], level: int) -> Iterator[bytes]:
    packer = zlib.compressobj(level)
    for block in blocks:
        yield packer.compress(block)
    yield packer.flush()


def _blocks(path: Path, offset: int, size_bytes: int) -> Iterator[bytes]:
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        left = size_bytes
        while left > 0:
            block = file.read(min(BLOCK_BYTES, left))
            if not block:
                raise EOFError(f"{path} became shorter while it was published")
            left -= len(block)
            yield block


def _read_index(path: Path) -> dict[str, tuple[str, int]]:
    try:
        raw = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return {key: (value[0], value[1]) for key, value in raw.items()}
