"""Publishes a directory as a repository in the real CVMFS format, which cvmfs2 mounts too."""

from __future__ import annotations

import datetime
import fcntl
import os
import stat
import tempfile
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...errors import CvmprofError
from . import keys, manifest
from .catalog import Chunk, Entry, write_catalog
from .layout import Lab, make_directory, permissions_explained
from .objects import SUFFIX_CATALOG, SUFFIX_CERTIFICATE, SUFFIX_CHUNK, SUFFIX_FILE, Store, Stored

DEFAULT_CHUNK_BYTES = 8 << 20
DEFAULT_THRESHOLD_BYTES = 16 << 20
DEFAULT_LEVEL = 6


@dataclass(frozen=True)
class Cutting:
    """How files are cut: those larger than ``threshold_bytes`` into pieces of ``chunk_bytes``.

    ``chunk_bytes`` None keeps every file as one object.
    """

    chunk_bytes: int | None = DEFAULT_CHUNK_BYTES
    threshold_bytes: int = DEFAULT_THRESHOLD_BYTES

    def __post_init__(self) -> None:
        if self.chunk_bytes is not None and self.chunk_bytes <= 0:
            raise CvmprofError(
                f"a chunk size of {self.chunk_bytes} bytes is not possible",
                "give a size above zero, or --no-chunks",
            )

    def ranges(self, size_bytes: int) -> tuple[tuple[int, int], ...]:
        """(offset, size) of each chunk of a file of this size; empty if the file stays whole."""
        if self.chunk_bytes is None or size_bytes <= self.threshold_bytes:
            return ()
        offsets = range(0, size_bytes, self.chunk_bytes)
        return tuple((offset, min(self.chunk_bytes, size_bytes - offset)) for offset in offsets)


@dataclass(frozen=True)
class Published:
    """What one publication did. ``root_hash`` names the catalog; sizes in bytes."""

    repository: str
    revision: int
    root_hash: str
    files: int
    chunks: int
    content_bytes: int
    wire_bytes: int
    objects_written: int
    objects_kept: int


@permissions_explained()
def publish(
    source: Path, lab: Lab, cutting: Cutting | None = None, level: int = DEFAULT_LEVEL
) -> Published:
    """Make the repository's content equal to the directory ``source``, as a new revision.

    Objects that exist are kept: publishing the same content again writes only a catalog. Identical
    contents share one object. Regular files, directories and symbolic links are published with
    their owner, mode and time. Raises CvmprofError if ``source`` cannot be read or holds something
    else (a socket, a device).
    """
    if not source.is_dir():
        raise CvmprofError(
            f"{source} is not a directory", "give the directory that holds the files to publish"
        )
    make_directory(lab.published / "data")
    with _locked(lab):
        store = Store(lab.published, lab.root / "contents.json", level)
        try:
            entries, stored = _store_tree(source, store, cutting or Cutting())
            store.save_index()
            return _sign_revision(lab, store, entries, stored)
        except (OSError, EOFError) as error:
            raise CvmprofError(
                f"cannot publish {source}: {error}",
                "fix that file or free some space, then publish again",
            ) from error


@contextmanager
def _locked(lab: Lab) -> Generator[None]:
    """One publication at a time."""
    with open(lab.root / "publish.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _store_tree(source: Path, store: Store, cutting: Cutting) -> tuple[list[Entry], list[Stored]]:
    """The entries below ``source``, the root first, and every object they name."""
    entries: list[Entry] = []
    stored: list[Stored] = []
    # zlib and hashlib release the interpreter's lock, so threads compress in parallel.
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for path, name in _walk(source):
            entry, objects = _store_entry(path, name, store, cutting, pool)
            entries.append(entry)
            stored += objects
    return entries, stored


def _walk(source: Path) -> Iterator[tuple[Path, str]]:
    """(path on disk, path in the repository), in a stable order, the root ("") first."""
    yield source, ""
    pending = [(source, "")]
    while pending:
        directory, name = pending.pop()
        for child in sorted(os.scandir(directory), key=lambda item: item.name):
            path = Path(child.path)
            if any("\udc80" <= character <= "\udcff" for character in child.name):
                raise OSError(f"the name {child.name!r} is not UTF-8 text")
            yield path, f"{name}/{child.name}"
            if child.is_dir(follow_symlinks=False):
                pending.append((path, f"{name}/{child.name}"))


def _store_entry(
    path: Path, name: str, store: Store, cutting: Cutting, pool: ThreadPoolExecutor
) -> tuple[Entry, list[Stored]]:
    status = path.stat() if name == "" else path.lstat()
    objects: list[Stored] = []
    chunks: tuple[Chunk, ...] = ()
    if stat.S_ISREG(status.st_mode):
        ranges = cutting.ranges(status.st_size)
        objects = _store_file(path, status.st_size, ranges, store, pool)
        chunks = tuple(
            Chunk(offset, size, stored.object_hash)
            for (offset, size), stored in zip(ranges, objects, strict=False)
        )
    elif not (stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode)):
        raise OSError(f"{path} is neither a file nor a directory nor a symbolic link")
    whole = objects[0].object_hash if objects and not chunks else None
    return _entry(path, name, status, whole, chunks), objects


def _store_file(
    path: Path,
    size_bytes: int,
    ranges: tuple[tuple[int, int], ...],
    store: Store,
    pool: ThreadPoolExecutor,
) -> list[Stored]:
    if not ranges:
        return [store.put_range(path, 0, size_bytes, SUFFIX_FILE)]
    tasks = [pool.submit(store.put_range, path, *range_, SUFFIX_CHUNK) for range_ in ranges]
    return [task.result() for task in tasks]


def _entry(
    path: Path, name: str, status: os.stat_result, whole: str | None, chunks: tuple[Chunk, ...]
) -> Entry:
    is_link = stat.S_ISLNK(status.st_mode)
    is_directory = stat.S_ISDIR(status.st_mode)
    return Entry(
        path=name,
        mode=status.st_mode,
        size_bytes=4096 if is_directory else status.st_size,
        mtime_ns=status.st_mtime_ns,
        uid=status.st_uid,
        gid=status.st_gid,
        links=max(2, status.st_nlink) if is_directory else 1,
        object_hash=whole,
        chunks=chunks,
        symlink=os.readlink(path) if is_link else "",
    )


def _sign_revision(lab: Lab, store: Store, entries: list[Entry], stored: list[Stored]) -> Published:
    pairs = keys.load_or_create(lab)
    before = _last_manifest(lab)
    revision = before.revision + 1 if before else 1
    now = datetime.datetime.now(datetime.UTC)
    catalog = _store_catalog(store, entries, revision, int(now.timestamp()), before)
    certificate = store.put_bytes(keys.certificate_pem(pairs.certificate), SUFFIX_CERTIFICATE)
    signed = manifest.Manifest(
        repository=lab.repository,
        root_hash=catalog.object_hash,
        catalog_bytes=catalog.unpacked_bytes,
        revision=revision,
        certificate_hash=certificate.object_hash,
        published_s=int(now.timestamp()),
    )
    fingerprint = keys.fingerprint(pairs.certificate)
    whitelist = manifest.whitelist(lab.repository, fingerprint, now)
    listed = keys.whitelist_letter(whitelist, pairs.master)
    _replace(lab.published / ".cvmfswhitelist", listed)
    # Last, so that a client that sees the new manifest finds everything it names.
    published = keys.manifest_letter(signed.export(), pairs.signing)
    _replace(lab.published / ".cvmfspublished", published)
    return _summary(signed, entries, stored)


def _last_manifest(lab: Lab) -> manifest.Manifest | None:
    file = lab.published / ".cvmfspublished"
    try:
        return manifest.parse(file.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, KeyError) as error:
        raise CvmprofError(
            f"{file} is not a manifest", f"delete {lab.published} and publish again"
        ) from error


def _store_catalog(
    store: Store,
    entries: list[Entry],
    revision: int,
    now_s: int,
    before: manifest.Manifest | None,
) -> Stored:
    with tempfile.TemporaryDirectory(prefix="cvmprof-lab-") as directory:
        file = Path(directory) / "catalog"
        write_catalog(file, entries, revision, now_s, before.root_hash if before else None)
        return store.put_bytes(file.read_bytes(), SUFFIX_CATALOG)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(content)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)


def _summary(signed: manifest.Manifest, entries: list[Entry], stored: list[Stored]) -> Published:
    files = [entry for entry in entries if stat.S_ISREG(entry.mode)]
    objects = {item.object_hash: item.wire_bytes for item in stored}
    written = sum(item.written for item in stored)
    return Published(
        repository=signed.repository,
        revision=signed.revision,
        root_hash=signed.root_hash,
        files=len(files),
        chunks=sum(len(entry.chunks) for entry in files),
        content_bytes=sum(entry.size_bytes for entry in files),
        wire_bytes=sum(objects.values()),
        objects_written=written,
        objects_kept=len(objects) - written,
    )
