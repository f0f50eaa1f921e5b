"""Functions of an ELF binary by their qualified C++ name, local ones included.

Reads ``.symtab`` and ``.dynsym`` (System V ABI, chapters 4 and 5) and the build-id note. Names are
matched demangled and without their argument lists, since those differ between versions of the
client (Itanium C++ ABI, 5.1.3: nested names). Standard library only.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

_SHT_SYMTAB, _SHT_NOTE, _SHT_DYNSYM = 2, 7, 11
_STT_FUNC = 2
_NT_GNU_BUILD_ID = 3
_SYMBOL = struct.Struct("<IBBHQQ")
_LENGTH = re.compile(rb"L?(\d+)")
#: clones and outlined parts of a function are not the function
_NOT_THE_FUNCTION = (".cold", ".isra", ".constprop", ".part")
#: more than any table of a client's library takes: what says more is not read
_MOST_BYTES = 256 << 20


class NotElf(ValueError):
    """What is not a whole 64-bit little-endian ELF binary, and why; the caller knows its path."""


@dataclass(frozen=True)
class Function:
    """One function: its address as linked, its offset in the file, and the symbol that names it."""

    address: int
    file_offset: int
    symbol: str


@dataclass(frozen=True)
class Binary:
    """What a binary tells: its build-id (hex digits, or None), the functions found, and from which
    table.
    """

    build_id: str | None
    functions: dict[str, tuple[Function, ...]]
    source: str


class _File:
    """Parts of a file, read: mapped, one that is cut off meanwhile would be the reader's death."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def part(self, offset: int, size: int) -> bytes:
        """So many bytes from there. Raises NotElf where there are fewer, or too many to hold."""
        if size > _MOST_BYTES:
            raise NotElf(f"a part of {size} bytes is too long")
        if offset + size > os.fstat(self._descriptor).st_size:
            raise NotElf("a part of it is cut off")
        found = os.pread(self._descriptor, size, offset)
        if len(found) < size:
            raise NotElf("a part of it was cut off just now")
        return found


@dataclass(frozen=True)
class _Section:
    kind: int
    address: int
    offset: int
    size: int
    link: int


def read_binary(path: Path, qualified_names: tuple[str, ...]) -> Binary:
    """Looks for functions by qualified name ("download::DownloadManager::Fetch").

    Raises NotElf, or OSError where the file cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # of a FIFO, not to wait
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotElf("not a regular file")
        return _read(_File(descriptor), frozenset(qualified_names))
    except (struct.error, IndexError, OverflowError, ValueError) as error:
        raise NotElf(str(error)) from None
    finally:
        os.close(descriptor)


def qualified_name(symbol: bytes) -> str | None:
    """The name that a mangled symbol nests ("_ZN5cvmfs7Fetcher5FetchE…" -> cvmfs::Fetcher::Fetch).

    None for what is not a plain nested function name: templates, operators, constructors.
    """
    if not symbol.startswith(b"_ZN"):
        return None
    position, parts = 3, list[str]()
    while symbol[position : position + 1] in (b"K", b"V", b"r", b"R", b"O"):
        position += 1
    while symbol[position : position + 1] != b"E":
        length = _LENGTH.match(symbol, position)
        if not length:
            return None
        end = length.end() + int(length[1])
        parts.append(symbol[length.end() : end].decode("ascii", "replace"))
        position = end
    return "::".join(parts)


def _read(file: _File, wanted: frozenset[str]) -> Binary:
    header = file.part(0, 64)
    if header[:6] != b"\x7fELF\x02\x01":
        raise NotElf("not a 64-bit little-endian ELF file")
    sections = _sections(file, header)
    build_id = _first_build_id(file, sections)
    for kind, source in ((_SHT_SYMTAB, ".symtab"), (_SHT_DYNSYM, ".dynsym")):
        for table in sections:
            functions = _functions(file, table, sections, wanted) if table.kind == kind else {}
            if functions:
                return Binary(build_id, functions, source)
    return Binary(build_id, {}, "none")


def _sections(file: _File, header: bytes) -> list[_Section]:
    (table,) = struct.unpack_from("<Q", header, 40)
    entry_size, count = struct.unpack_from("<HH", header, 58)
    headers = file.part(table, entry_size * count)
    found = list[_Section]()
    for index in range(count):
        section = struct.unpack_from("<IIQQQQII", headers, index * entry_size)
        found.append(_Section(section[1], section[3], section[4], section[5], section[6]))
    return found


def _first_build_id(file: _File, sections: list[_Section]) -> str | None:
    notes = (_build_id(file, part) for part in sections if part.kind == _SHT_NOTE)
    return next((note for note in notes if note), None)


def _build_id(file: _File, note: _Section) -> str | None:
    content = file.part(note.offset, note.size)
    name_size, size, kind = struct.unpack_from("<III", content)
    start = 12 + (name_size + 3) // 4 * 4
    is_gnu = content[12:16] == b"GNU\0"
    return content[start : start + size].hex() if kind == _NT_GNU_BUILD_ID and is_gnu else None


def _functions(
    file: _File, table: _Section, sections: list[_Section], wanted: frozenset[str]
) -> dict[str, tuple[Function, ...]]:
    strings = sections[table.link]
    names = file.part(strings.offset, strings.size)
    last_parts = tuple({name.rsplit("::", 1)[-1].encode() for name in wanted})
    offsets = _name_offsets(names, last_parts)
    section_at = [part.address - part.offset for part in sections]
    found: dict[str, tuple[Function, ...]] = {}
    for name_at, info, _, section, value, _ in _SYMBOL.iter_unpack(
        file.part(table.offset, table.size)
    ):
        if name_at in offsets and info & 0xF == _STT_FUNC and 0 < section < len(sections):
            symbol = names[name_at : names.index(b"\0", name_at)]
            name = qualified_name(symbol)
            if name in wanted and not any(part.encode() in symbol for part in _NOT_THE_FUNCTION):
                address = int(value)
                offset = address - section_at[int(section)]
                function = Function(address, offset, symbol.decode("ascii", "replace"))
                found[name] = (*found.get(name, ()), function)
    return found


def _name_offsets(names: bytes, last_parts: tuple[bytes, ...]) -> frozenset[int]:
    """Offsets of the nested names that hold one of the wanted last parts: few out of many."""
    found = set[int]()
    for part in last_parts:
        needle, position = str(len(part)).encode() + part + b"E", -1
        while (position := names.find(needle, position + 1)) >= 0:
            found.add(names.rfind(b"\0", 0, position) + 1)
    return frozenset(found)
