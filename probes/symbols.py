"""Functions of a library by their qualified C++ name, local ones included.

Their symbols are read wherever they are kept (see `_sources`). Addresses are translated with the
program headers of the library itself, since the probes go into its code. Names are compared
demangled, without argument lists, ABI tags and anonymous namespaces, which differ between versions
of the client (Itanium C++ ABI, 5.1: <name>). Standard library only.

A clone is probed only if it is the function under another name (`.lto_priv`, `.llvm`). `.cold` and
`.part` are not entries; `.isra` and `.constprop` are, but they take other arguments than the
function, so that a probe would read wrong values.
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
_EXPORTED = ".dynsym"
_MINI, _LINK = b".gnu_debugdata", b".gnu_debuglink"
_SOURCE_NAME = re.compile(rb"L?(\d{1,4})")
_ANONYMOUS = b"_GLOBAL__N_"
#: a suffix of another function: any but those that compilers and linkers append to the same one
_SUFFIX_OF_ANOTHER = re.compile(r"\.(?!(?:lto_priv|llvm|__uniq|localalias|\d+)(?:[.@]|$))[^.@]*")
_COLD = b".cold"
#: no client has so many functions of these names, or so many clones of one
_MOST_NAMES = _MOST_FUNCTIONS = 1024
_MOST_UNPACKER_BYTES = 128 << 20
_CRC_BYTES, _MOST_CRC_BYTES = 1 << 20, 512 << 20


@dataclass(frozen=True)
class Function:
    """One function: its address as linked, its offset in the library's file, its symbol, and where
    that was read.
    """

    address: int
    file_offset: int
    symbol: str
    source: str


@dataclass(frozen=True)
class Binary:
    """The functions found in a library.

    ``source``: where their symbols were read, or "none". ``clones``: symbols of clones that take
    calls of a function and have other arguments. ``remarks``: why sources could not be read.
    """

    build_id: str | None
    functions: dict[str, tuple[Function, ...]]
    source: str
    clones: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class DebugFiles:
    """Where files with the symbols of a stripped library may be.

    ``directories``: the library's, by every name that its process or this one has for it.
    ``roots``: prefixes of absolute paths: "" for our own root, "/proc/PID/root". ``opened`` opens a
    path, for reading through /proc/self/fd; it raises OSError.
    """

    directories: tuple[str, ...]
    roots: tuple[str, ...]
    opened: Callable[[str], AbstractContextManager[int]]

    def by_build_id(self, build_id: str) -> tuple[str, ...]:
        """Possible paths of the file with a build-id."""
        file = f"{_DEBUG}/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
        return tuple(f"{root}{file}" for root in self.roots)

    def by_name(self, name: str) -> tuple[str, ...]:
        """Possible paths of the file that a library names."""
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
    """Look for functions by qualified name ("download::DownloadManager::Fetch").

    Raises NotElf, or OSError if the library itself cannot be read.
    """
    # NONBLOCK: do not wait at a FIFO
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        library = Elf(FileContent(descriptor))
        search = _Search(library, frozenset(qualified_names))
        search.look_through(_sources(library, debug_files, search.remarks))
        return search.result()
    finally:
        os.close(descriptor)


def exported_functions(path: Path, wanted: Callable[[str], bool]) -> Binary:
    """The functions that a library exports under wanted names, each name once.

    Raises NotElf, or OSError if the library cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        library = Elf(FileContent(descriptor))
        wanted_places = (place for place in _exported(library) if wanted(place.symbol))
        found: dict[str, tuple[Function, ...]] = {each.symbol: (each,) for each in wanted_places}
        if len(found) > _MOST_FUNCTIONS:
            raise NotElf(f"more than {_MOST_FUNCTIONS} functions have these names")
        return Binary(library.build_id(), found, _EXPORTED)
    finally:
        os.close(descriptor)


def _exported(library: Elf) -> Iterator[Function]:
    table = library.table(elf.SHT_DYNSYM)
    names = b"" if table is None else library.names_of(table)
    for place, address in () if table is None else library.functions_of(table):
        name, offset = elf.name_at(names, place), library.file_offset(address)
        if name and offset is not None:
            yield Function(address, offset, name.decode("ascii", "replace"), _EXPORTED)


def qualified_name(symbol: bytes) -> str | None:
    """The name in a mangled symbol ("_ZN5cvmfs7Fetcher5FetchE…" -> cvmfs::Fetcher::Fetch).

    Anonymous namespaces and ABI tags are omitted. None if it is not a plain function: templates,
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
    """The name at a position, without its ABI tags, and where it ends; None if there is none."""
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
    """A place that may hold the symbols, and how to open it."""

    name: str
    kind: int
    opened: Callable[[], AbstractContextManager[Elf]]


def _sources(library: Elf, debug_files: DebugFiles | None, remarks: list[str]) -> Iterator[_Source]:
    """Where the symbols may be, the nearest first; the last one has only exported ones."""
    yield _Source(".symtab", elf.SHT_SYMTAB, lambda: nullcontext(library))
    if library.has_section(_MINI):
        unpacked = partial(_mini_debug_info, library)
        yield _Source(_MINI.decode(), elf.SHT_SYMTAB, lambda: nullcontext(unpacked()))
    if debug_files is not None:
        for way, path, proof in _debug_files(library, debug_files, remarks):
            opened = partial(_opened, debug_files, path, proof)
            yield _Source(f"{way} {path}", elf.SHT_SYMTAB, opened)
    yield _Source(_EXPORTED, elf.SHT_DYNSYM, lambda: nullcontext(library))


@dataclass(frozen=True)
class _Proof:
    """What a debug file must match: the library's build-id, and the checksum in the library."""

    build_id: str | None
    crc: int | None = None


def _debug_files(
    library: Elf, debug_files: DebugFiles, remarks: list[str]
) -> Iterator[tuple[str, str, _Proof]]:
    build_id = library.build_id()
    if build_id is not None:
        for path in debug_files.by_build_id(build_id):
            yield "build-id", path, _Proof(build_id)
    try:
        name, crc = _debug_link(library)
    except NotElf as error:
        remarks.append(f"{_LINK.decode()}: {error}")
        return
    if name is not None:
        for path in debug_files.by_name(name):
            yield "debuglink", path, _Proof(build_id, crc)


def _debug_link(library: Elf) -> tuple[str | None, int]:
    """The file that a library names, and its checksum (GDB manual, "Separate Debug Files")."""
    link = library.section(_LINK)
    if link is None:
        return None, 0
    name = elf.name_at(link, 0)
    if name is None or len(link) < (len(name) + 4) // 4 * 4 + 4:
        raise NotElf("it is truncated")
    if not name or b"/" in name or name in (b".", b".."):
        raise NotElf("it names no file")
    return os.fsdecode(name), int.from_bytes(link[(len(name) + 4) // 4 * 4 :][:4], "little")


@contextmanager
def _opened(debug_files: DebugFiles, path: str, proof: _Proof) -> Generator[Elf, None, None]:
    """A debug file that matches the library. Raises NotElf, OSError."""
    with debug_files.opened(path) as path_fd:
        descriptor = os.open(f"/proc/self/fd/{path_fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            file = Elf(FileContent(descriptor))
            build_id = file.build_id()
            if proof.build_id and build_id != proof.build_id and (build_id or proof.crc is None):
                raise NotElf(f"it belongs to another build: {build_id}")
            if proof.crc is not None and _crc(descriptor) != proof.crc:
                raise NotElf("its checksum is not the one in the library")
            yield file
        finally:
            os.close(descriptor)


def _crc(descriptor: int) -> int:
    size = os.fstat(descriptor).st_size
    if size > _MOST_CRC_BYTES:
        raise NotElf(f"a file of {size} bytes is too large to be checked")
    crc = 0
    for offset in range(0, size, _CRC_BYTES):
        crc = zlib.crc32(os.pread(descriptor, _CRC_BYTES, offset), crc)
    return crc


def _mini_debug_info(library: Elf) -> Elf:
    """The compressed ELF file in a library ("MiniDebugInfo"). Raises NotElf."""
    try:
        import lzma  # some Pythons are built without it
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
        raise NotElf("it is truncated")
    return Elf(MemoryContent(content))


class _Search:
    """The functions found so far, source by source."""

    def __init__(self, library: Elf, names: frozenset[str]) -> None:
        self.remarks: list[str] = []
        self._library = library
        self._names = names
        self._pattern = _pattern(names)
        self._functions: dict[str, dict[int, Function]] = {}
        self._clones: dict[str, set[str]] = {}

    def look_through(self, sources: Iterable[_Source]) -> None:
        """Read the first source that has any of the functions, and the exported symbols."""
        for source in sources:
            if self._functions and source.kind != elf.SHT_DYNSYM:
                continue
            try:
                with source.opened() as file:
                    self._read(source, file)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (OSError, NotElf) as error:
                self.remarks.append(f"{source.name}: {getattr(error, 'strerror', None) or error}")

    def result(self) -> Binary:
        """The functions found."""
        functions = {name: tuple(places.values()) for name, places in self._functions.items()}
        sources = [each.source for places in functions.values() for each in places]
        clones = {name: tuple(sorted(symbols)) for name, symbols in self._clones.items()}
        source = ", ".join(dict.fromkeys(sources)) or "none"
        return Binary(self._library.build_id(), functions, source, clones, tuple(self.remarks))

    def _read(self, source: _Source, file: Elf) -> None:
        table = file.table(source.kind)
        if table is None or not self._names:
            return
        symbols = self._symbols(file.names_of(table))
        functions: dict[tuple[str, int], Function] = {}
        for place, address in file.functions_of(table):
            if place in symbols:
                name, symbol = symbols[place]
                offset = self._library.file_offset(address)
                if offset is None:
                    raise NotElf(f"{name} is at {address:#x}, where the library has no code")
                functions[name, address] = Function(address, offset, symbol, source.name)
                if len(functions) > _MOST_FUNCTIONS:
                    raise NotElf(f"more than {_MOST_FUNCTIONS} functions have these names")
        self._keep(functions)

    def _symbols(self, table: bytes) -> dict[int, tuple[str, str]]:
        """The searched names in a table of names, by position: qualified name and symbol."""
        symbols: dict[int, tuple[str, str]] = {}
        for match in self._pattern.finditer(table):
            symbol = elf.name_at(table, match.start()) or b""
            name = qualified_name(symbol)
            if name in self._names and _COLD not in symbol:
                symbols[match.start()] = name, symbol.decode("ascii", "replace")
            if len(symbols) > _MOST_NAMES:
                raise NotElf(f"more than {_MOST_NAMES} symbols have these names")
        return symbols

    def _keep(self, functions: dict[tuple[str, int], Function]) -> None:
        for (name, address), function in functions.items():
            if _SUFFIX_OF_ANOTHER.search(function.symbol):
                self._clones.setdefault(name, set()).add(function.symbol)
            else:
                self._functions.setdefault(name, {}).setdefault(address, function)


def _pattern(names: frozenset[str]) -> re.Pattern[bytes]:
    """What the symbols of functions begin with; `qualified_name` then decides.

    It also matches within a name, since a name may be the end of another in the table.
    """
    anonymous = rb"(?:12_GLOBAL__N_1)?"
    ways = list[bytes]()
    for name in sorted(names):
        parts = (f"L?{len(part)}{part}".encode() for part in name.split("::"))
        ways.append(anonymous.join(parts))
    return re.compile(rb"_Z(?:N[KVrRO]*)?" + anonymous + rb"(?:" + rb"|".join(ways) + rb")")
