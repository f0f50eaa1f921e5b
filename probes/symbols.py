"""Functions of a library by their qualified C++ name, local ones included.

Their symbols are read where they are kept (see `_sources`), and their addresses are translated by
the program headers of the library itself, whose code is what a probe is put on. Names are matched
demangled and without argument lists, ABI tags and anonymous namespaces, since those differ between
versions of the client (Itanium C++ ABI, 5.1: <name>). Standard library only.

A clone is probed only where it is the function under another name (`.lto_priv`, `.llvm`). Not so
`.cold` and `.part`, which are no entries, nor `.isra` and `.constprop`, which are entries but were
given other arguments than the function has, so that what a probe reads there would be another's.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Callable

from . import elf
from .elf import Elf, FileContent, MemoryContent
from .elf import NotElf as NotElf

_DEBUG = "/usr/lib/debug"
_MINI, _LINK = b".gnu_debugdata", b".gnu_debuglink"
_SOURCE_NAME = re.compile(rb"L?(\d{1,4})")
_ANONYMOUS = b"_GLOBAL__N_"
#: what a compiler or linker appends to a function's name without making another of it
_SUFFIX_OF_ANOTHER = re.compile(r"\.(?!(?:lto_priv|llvm|__uniq|localalias|\d+)(?:[.@]|$))[^.@]*")
_COLD = b".cold"
#: no client has so many functions of the names looked for, nor so many clones of one
_MOST_NAMES = _MOST_FUNCTIONS = 1024
_MOST_UNPACKER_BYTES = 128 << 20
_CRC_BYTES, _MOST_CRC_BYTES = 1 << 20, 512 << 20


@dataclass(frozen=True)
class Function:
    """One function: its address as linked, its offset in the library's file, the symbol that names
    it, and where that was read.
    """

    address: int
    file_offset: int
    symbol: str
    source: str


@dataclass(frozen=True)
class Binary:
    """What was found of a library.

    ``source``: where symbols of the functions were read, "none" where nowhere. ``clones``: symbols
    of clones that take calls of the function and are not it. ``remarks``: what kept a source from
    being read.
    """

    build_id: str | None
    functions: dict[str, tuple[Function, ...]]
    source: str
    clones: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class DebugFiles:
    """Where files with the symbols of a stripped library may be.

    ``directories``: that of the library, by every name that its process or this one has for it.
    ``roots``: what stands before an absolute path: "" for our own root, "/proc/PID/root".
    ``opened`` opens a path, to be read through /proc/self/fd; it raises OSError.
    """

    directories: tuple[str, ...]
    roots: tuple[str, ...]
    opened: Callable[[str], AbstractContextManager[int]]

    def by_build_id(self, build_id: str) -> tuple[str, ...]:
        """Paths of the file of a build-id."""
        file = f"{_DEBUG}/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
        return tuple(f"{root}{file}" for root in self.roots)

    def by_name(self, name: str) -> tuple[str, ...]:
        """Paths of the file that a library names."""
        places = (
            f"{root}{place}/{name}"
            for root in self.roots
            for beside in self.directories
            for place in (beside, f"{beside}/.debug", f"{_DEBUG}{beside}")
        )
        return tuple(dict.fromkeys(places))


def read_binary(
    path: Path, qualified_names: tuple[str, ...], debug_files: DebugFiles | None = None
) -> Binary:
    """Looks for functions by qualified name ("download::DownloadManager::Fetch").

    Raises NotElf, or OSError where the library itself cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # of a FIFO, not to wait
    try:
        library = Elf(FileContent(descriptor))
        search = _Search(library, frozenset(qualified_names))
        search.look_through(_sources(library, debug_files, search.remarks))
        return search.result()
    finally:
        os.close(descriptor)


def qualified_name(symbol: bytes) -> str | None:
    """The name that a mangled symbol bears ("_ZN5cvmfs7Fetcher5FetchE…" -> cvmfs::Fetcher::Fetch).

    Anonymous namespaces and ABI tags are left out. None for what is no plain function: templates,
    operators, constructors, variables of functions.
    """
    if not symbol.startswith(b"_Z"):
        return None
    nested = symbol[2:3] == b"N"
    position, parts = 3 if nested else 2, list[str]()
    while nested and symbol[position : position + 1] in _QUALIFIERS:
        position += 1
    while not parts or (nested and symbol[position : position + 1] != b"E"):
        position, part = _source_name(symbol, position)
        if part is None:
            return None
        if not part.startswith(_ANONYMOUS):
            parts.append(part.decode("ascii", "replace"))
    return None if symbol[position : position + 1] == b"I" else "::".join(parts)


_QUALIFIERS = frozenset((b"K", b"V", b"r", b"R", b"O"))


def _source_name(symbol: bytes, position: int) -> tuple[int, bytes | None]:
    """One name with its ABI tags, and where it ends; None where none stands there."""
    length = _SOURCE_NAME.match(symbol, position)
    if not length or length.end() + int(length[1]) > len(symbol):
        return position, None
    end = length.end() + int(length[1])
    part, tag = symbol[length.end() : end], None
    while symbol[end : end + 1] == b"B":
        end, tag = _source_name(symbol, end + 1)
        if tag is None:
            return end, None
    return end, part


@dataclass(frozen=True)
class _Source:
    """Something that may hold the symbols, and how it is opened when it is looked into."""

    name: str
    kind: int
    opened: Callable[[], AbstractContextManager[Elf]]


def _sources(library: Elf, debug_files: DebugFiles | None, remarks: list[str]) -> Iterator[_Source]:
    """Where the symbols may be, the nearest first; the last one holds only what is exported."""
    yield _Source(".symtab", elf.SHT_SYMTAB, lambda: nullcontext(library))
    if library.has_section(_MINI):
        unpacked = partial(_mini_debug_info, library)
        yield _Source(_MINI.decode(), elf.SHT_SYMTAB, lambda: nullcontext(unpacked()))
    if debug_files is not None:
        for way, path, wanted in _debug_files(library, debug_files, remarks):
            opened = partial(_opened, debug_files, path, wanted)
            yield _Source(f"{way} {path}", elf.SHT_SYMTAB, opened)
    yield _Source(".dynsym", elf.SHT_DYNSYM, lambda: nullcontext(library))


@dataclass(frozen=True)
class _Wanted:
    """What a debug file must prove: the library's build-id, and the checksum that it names."""

    build_id: str | None
    crc: int | None = None


def _debug_files(
    library: Elf, debug_files: DebugFiles, remarks: list[str]
) -> Iterator[tuple[str, str, _Wanted]]:
    build_id = library.build_id()
    if build_id is not None:
        for path in debug_files.by_build_id(build_id):
            yield "build-id", path, _Wanted(build_id)
    try:
        name, crc = _debug_link(library)
    except NotElf as error:
        remarks.append(f"{_LINK.decode()}: {error}")
        return
    if name is not None:
        for path in debug_files.by_name(name):
            yield "debuglink", path, _Wanted(build_id, crc)


def _debug_link(library: Elf) -> tuple[str | None, int]:
    """The file that a library names, and its checksum (GDB manual, "Separate Debug Files")."""
    link = library.section(_LINK)
    if link is None:
        return None, 0
    name = elf.name_at(link, 0)
    if name is None or len(link) < (len(name) + 4) // 4 * 4 + 4:
        raise NotElf("it is cut off")
    if not name or b"/" in name or name in (b".", b".."):
        raise NotElf("it names no file")
    return os.fsdecode(name), int.from_bytes(link[(len(name) + 4) // 4 * 4 :][:4], "little")


@contextmanager
def _opened(debug_files: DebugFiles, path: str, wanted: _Wanted) -> Generator[Elf, None, None]:
    """A debug file that has proven to be the library's. Raises NotElf, OSError."""
    with debug_files.opened(path) as file:
        descriptor = os.open(f"/proc/self/fd/{file}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            found = Elf(FileContent(descriptor))
            build_id = found.build_id()
            if wanted.build_id and build_id != wanted.build_id and (build_id or wanted.crc is None):
                raise NotElf(f"it is of another build: {build_id}")
            if wanted.crc is not None and _crc(descriptor) != wanted.crc:
                raise NotElf("its checksum is not the one that the library names")
            yield found
        finally:
            os.close(descriptor)


def _crc(descriptor: int) -> int:
    size = os.fstat(descriptor).st_size
    if size > _MOST_CRC_BYTES:
        raise NotElf(f"a file of {size} bytes is too long to be checked")
    crc = 0
    for offset in range(0, size, _CRC_BYTES):
        crc = zlib.crc32(os.pread(descriptor, _CRC_BYTES, offset), crc)
    return crc


def _mini_debug_info(library: Elf) -> Elf:
    """The ELF file that a library holds packed ("MiniDebugInfo"). Raises NotElf."""
    try:
        import lzma  # a Python may be built without
    except ImportError:
        raise NotElf("this Python cannot unpack xz") from None
    unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_UNPACKER_BYTES)
    try:
        content = unpacker.decompress(library.section(_MINI) or b"", elf.MOST_BYTES + 1)
    except lzma.LZMAError as error:
        raise NotElf(f"xz: {error}") from None
    if len(content) > elf.MOST_BYTES:
        raise NotElf(f"it unpacks to more than {elf.MOST_BYTES} bytes")
    if not unpacker.eof:
        raise NotElf("it is cut off")
    return Elf(MemoryContent(content))


class _Search:
    """Functions found so far, source by source."""

    def __init__(self, library: Elf, wanted: frozenset[str]) -> None:
        self.remarks: list[str] = []
        self._library = library
        self._wanted = wanted
        self._pattern = _pattern(wanted)
        self._functions: dict[str, dict[int, Function]] = {}
        self._clones: dict[str, set[str]] = {}

    def look_through(self, sources: Iterable[_Source]) -> None:
        """Reads the first source that knows any of the functions, and what is exported."""
        for source in sources:
            if self._functions and source.kind != elf.SHT_DYNSYM:
                continue
            try:
                with source.opened() as found:
                    self._read(source, found)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, NotElf) as error:
                self.remarks.append(f"{source.name}: {getattr(error, 'strerror', None) or error}")

    def result(self) -> Binary:
        """What was found."""
        functions = {name: tuple(found.values()) for name, found in self._functions.items()}
        sources = [each.source for found in functions.values() for each in found]
        clones = {name: tuple(sorted(found)) for name, found in self._clones.items()}
        source = ", ".join(dict.fromkeys(sources)) or "none"
        return Binary(self._library.build_id(), functions, source, clones, tuple(self.remarks))

    def _read(self, source: _Source, file: Elf) -> None:
        table = file.table(source.kind)
        if table is None or not self._wanted:
            return
        symbols = self._symbols(file.names_of(table))
        found: dict[tuple[str, int], Function] = {}
        for place, address in file.functions_of(table):
            if place in symbols:
                name, symbol = symbols[place]
                offset = self._library.file_offset(address)
                if offset is None:
                    raise NotElf(f"{name} lies at {address:#x}, where the library has no code")
                found[name, address] = Function(address, offset, symbol, source.name)
                if len(found) > _MOST_FUNCTIONS:
                    raise NotElf(f"more than {_MOST_FUNCTIONS} functions have the names looked for")
        self._keep(found)

    def _symbols(self, names: bytes) -> dict[int, tuple[str, str]]:
        """The wanted names in a table of names, by their places: qualified, and as they stand."""
        found: dict[int, tuple[str, str]] = {}
        for match in self._pattern.finditer(names):
            symbol = elf.name_at(names, match.start()) or b""
            name = qualified_name(symbol)
            if name in self._wanted and _COLD not in symbol:
                found[match.start()] = name, symbol.decode("ascii", "replace")
            if len(found) > _MOST_NAMES:
                raise NotElf(f"more than {_MOST_NAMES} names are of the functions looked for")
        return found

    def _keep(self, found: dict[tuple[str, int], Function]) -> None:
        for (name, address), function in found.items():
            if _SUFFIX_OF_ANOTHER.search(function.symbol):
                self._clones.setdefault(name, set()).add(function.symbol)
            else:
                self._functions.setdefault(name, {}).setdefault(address, function)


def _pattern(wanted: frozenset[str]) -> re.Pattern[bytes]:
    """What the symbols of functions begin with, to be looked at again by `qualified_name`. It
    matches at the very place of a name, which may lie within another that ends in the same way.
    """
    anonymous = rb"(?:12_GLOBAL__N_1)?"
    ways = list[bytes]()
    for name in sorted(wanted):
        parts = (f"L?{len(part)}{part}".encode() for part in name.split("::"))
        ways.append(anonymous.join(parts))
    return re.compile(rb"_Z(?:N[KVrRO]*)?" + anonymous + rb"(?:" + rb"|".join(ways) + rb")")
