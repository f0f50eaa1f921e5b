"""SQLite file catalogs, schema 2.5 revision 7: the directory tree of one revision."""

from __future__ import annotations

import hashlib
import sqlite3
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SCHEMA = "2.5"
SCHEMA_REVISION = "7"

FLAG_DIRECTORY = 1
FLAG_FILE = 4
FLAG_SYMLINK = 8
FLAG_CHUNKED = 64

_TABLES = """
CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));
CREATE TABLE catalog (
    md5path_1 INTEGER, md5path_2 INTEGER, parent_1 INTEGER, parent_2 INTEGER, hardlinks INTEGER,
    hash BLOB, size INTEGER, mode INTEGER, mtime INTEGER, mtimens INTEGER, flags INTEGER,
    name TEXT, symlink TEXT, uid INTEGER, gid INTEGER, xattr BLOB,
    CONSTRAINT pk_catalog PRIMARY KEY (md5path_1, md5path_2));
CREATE INDEX idx_catalog_parent ON catalog (parent_1, parent_2);
CREATE TABLE chunks (
    md5path_1 INTEGER, md5path_2 INTEGER, offset INTEGER, size INTEGER, hash BLOB,
    CONSTRAINT pk_chunks PRIMARY KEY (md5path_1, md5path_2, offset, size),
    FOREIGN KEY (md5path_1, md5path_2) REFERENCES catalog (md5path_1, md5path_2));
CREATE TABLE nested_catalogs (
    path TEXT, sha1 TEXT, size INTEGER, CONSTRAINT pk_nested_catalogs PRIMARY KEY (path));
CREATE TABLE bind_mountpoints (
    path TEXT, sha1 TEXT, size INTEGER, CONSTRAINT pk_bind_mountpoints PRIMARY KEY (path));
CREATE TABLE statistics (
    counter TEXT, value INTEGER, CONSTRAINT pk_statistics PRIMARY KEY (counter));
"""


@dataclass(frozen=True)
class Chunk:
    """One chunk of a file; ``object_hash`` names the object with suffix ``P``."""

    offset_bytes: int
    size_bytes: int
    object_hash: str


@dataclass(frozen=True)
class Entry:
    """One directory entry.

    ``path`` is "" for the root, else it begins with a slash. An unchunked file has ``object_hash``,
    a chunked one ``chunks``; ``symlink`` is a link's target.
    """

    path: str
    mode: int
    size_bytes: int
    mtime_ns: int
    uid: int
    gid: int
    links: int = 1
    object_hash: str | None = None
    chunks: tuple[Chunk, ...] = ()
    symlink: str = ""

    @property
    def flags(self) -> int:
        if stat.S_ISDIR(self.mode):
            return FLAG_DIRECTORY
        if stat.S_ISLNK(self.mode):
            return FLAG_FILE | FLAG_SYMLINK
        return FLAG_FILE | (FLAG_CHUNKED if self.chunks else 0)


def path_key(path: str) -> tuple[int, int]:
    """The MD5 of a path as the catalog's two signed little-endian integers."""
    low, high = struct.unpack("<qq", hashlib.md5(path.encode("utf-8", "surrogateescape")).digest())
    return low, high


def write_catalog(
    file: Path, entries: Iterable[Entry], revision: int, modified_s: int, previous: str | None
) -> None:
    """Write a root catalog; the first entry must be the root (path "").

    ``previous`` is the previous revision's root hash, None for the first revision.
    """
    database = sqlite3.connect(file, isolation_level=None)
    try:
        database.executescript(f"BEGIN; {_TABLES} COMMIT; BEGIN;")
        rows = tuple(entries)
        database.executemany(f"INSERT INTO catalog VALUES ({', '.join('?' * 16)})", map(_row, rows))
        database.executemany("INSERT INTO chunks VALUES (?, ?, ?, ?, ?)", _chunk_rows(rows))
        database.executemany("INSERT INTO statistics VALUES (?, ?)", _statistics(rows))
        properties = _properties(revision, modified_s, previous)
        database.executemany("INSERT INTO properties VALUES (?, ?)", properties.items())
        database.execute("COMMIT")
    finally:
        database.close()


def _row(entry: Entry) -> tuple[object, ...]:
    parent = path_key(entry.path.rpartition("/")[0]) if entry.path else (0, 0)
    seconds, nanoseconds = divmod(entry.mtime_ns, 1_000_000_000)
    digest = bytes.fromhex(entry.object_hash) if entry.object_hash else None
    name = entry.path.rpartition("/")[2]
    inode = (entry.links, digest, entry.size_bytes, entry.mode, seconds, nanoseconds, entry.flags)
    return (*path_key(entry.path), *parent, *inode, name, entry.symlink, entry.uid, entry.gid, None)


def _chunk_rows(entries: Iterable[Entry]) -> Iterable[tuple[object, ...]]:
    for entry in entries:
        key = path_key(entry.path)
        for chunk in entry.chunks:
            digest = bytes.fromhex(chunk.object_hash)
            yield (*key, chunk.offset_bytes, chunk.size_bytes, digest)


def _properties(revision: int, modified_s: int, previous: str | None) -> dict[str, str]:
    properties = {
        "schema": SCHEMA,
        "schema_revision": SCHEMA_REVISION,
        "revision": str(revision),
        "last_modified": str(modified_s),
    }
    if previous is not None:
        properties["previous_revision"] = previous
    return properties


def _statistics(entries: tuple[Entry, ...]) -> Iterable[tuple[str, int]]:
    """Counters of this catalog; there are no nested catalogs, so the subtree's are zero."""
    files = [entry for entry in entries if stat.S_ISREG(entry.mode)]
    chunked = [entry for entry in files if entry.chunks]
    own = {
        "regular": len(files),
        "symlink": sum(stat.S_ISLNK(entry.mode) for entry in entries),
        "special": 0,
        "dir": sum(stat.S_ISDIR(entry.mode) for entry in entries),
        "nested": 0,
        "chunked": len(chunked),
        "chunks": sum(len(entry.chunks) for entry in chunked),
        "file_size": sum(entry.size_bytes for entry in files),
        "chunked_size": sum(entry.size_bytes for entry in chunked),
        "xattr": 0,
        "external": 0,
        "external_file_size": 0,
    }
    yield from ((f"self_{counter}", value) for counter, value in own.items())
    yield from ((f"subtree_{counter}", 0) for counter in own)
