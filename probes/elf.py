"""The parts of an ELF file that describe its functions: headers, symbol tables, notes.

System V ABI, chapters 4 and 5; 64 bits, little-endian. No offset or size in a file is trusted: each
part must lie within the file, and be small enough to read. Standard library only.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass

SHT_SYMTAB, SHT_DYNSYM = 2, 11
_SHT_NOTE, _SHT_NOBITS = 7, 8
_PT_LOAD, _PT_NOTE, _PF_X = 1, 4, 1
_STT_FUNC = 2
_SHN_UNDEF, _SHN_LORESERVE = 0, 0xFF00
_NT_GNU_BUILD_ID = 3
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_NOTE = struct.Struct("<III")
#: larger than any table of a client's library: larger parts are not read
MOST_BYTES = 32 << 20
#: how much is searched for a build-id
_MOST_NOTES, _MOST_NOTE_BYTES = 64, 1 << 16
_LONGEST_NAME = 4096


class NotElf(ValueError):
    """Not a complete 64-bit little-endian ELF file, and why; the caller knows the path."""


class Content:
    """Bytes that are read in parts: a file's, or unpacked ones."""

    def part(self, offset: int, size: int) -> bytes:
        """``size`` bytes at an offset. Raises NotElf if there are fewer, or too many."""
        raise NotImplementedError


class FileContent(Content):
    """A file, read with pread, not mmap: truncating a mapped file raises SIGBUS."""

    def __init__(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotElf("not a regular file")
        self._descriptor = descriptor

    def part(self, offset: int, size: int) -> bytes:
        """``size`` bytes at an offset. Raises NotElf if there are fewer, or too many."""
        _refuse_more(size)
        if offset + size > os.fstat(self._descriptor).st_size:
            raise NotElf("a part of it lies beyond its end")
        part = os.pread(self._descriptor, size, offset)
        if len(part) < size:
            raise NotElf("it was truncated while it was read")
        return part


class MemoryContent(Content):
    """Bytes in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def part(self, offset: int, size: int) -> bytes:
        """``size`` bytes at an offset. Raises NotElf if there are fewer, or too many."""
        _refuse_more(size)
        if offset + size > len(self._content):
            raise NotElf("a part of it lies beyond its end")
        return self._content[offset : offset + size]


@dataclass(frozen=True)
class Section:
    """A section's header."""

    name: bytes
    kind: int
    offset: int
    size: int
    link: int


@dataclass(frozen=True)
class _Segment:
    kind: int
    flags: int
    offset: int
    address: int
    file_size: int


class Elf:
    """One ELF file. Creating it reads its headers; raises NotElf if it has none."""

    def __init__(self, content: Content) -> None:
        self._content = content
        header = content.part(0, 64)
        if header[:6] != b"\x7fELF\x02\x01":
            raise NotElf("not a 64-bit little-endian ELF file")
        segments, sections = struct.unpack_from("<QQ", header, 32)
        sizes = struct.unpack_from("<HHHHH", header, 54)
        self._segments = tuple(
            _Segment(entry[0], entry[1], entry[2], entry[3], entry[5])
            for entry in self._headers(_SEGMENT, segments, sizes[0], sizes[1])
        )
        self._sections = self._named(
            list(self._headers(_SECTION, sections, sizes[2], sizes[3])), sizes[4]
        )

    def has_section(self, name: bytes) -> bool:
        """Whether there is a section of this name."""
        return any(each.name == name for each in self._sections)

    def section(self, name: bytes) -> bytes | None:
        """The content of the first section of this name, or None. Raises NotElf."""
        section = next((each for each in self._sections if each.name == name), None)
        return None if section is None else self._bytes_of(section)

    def build_id(self) -> str | None:
        """The build-id in hex digits, or None if no readable note holds one."""
        for notes in self._notes():
            build_id = _build_id(notes)
            if build_id:
                return build_id
        return None

    def file_offset(self, address: int) -> int | None:
        """The offset in this file of the code linked at an address; None if there is none."""
        for each in self._segments:
            if each.kind == _PT_LOAD and each.flags & _PF_X:
                distance = address - each.address
                if 0 <= distance < each.file_size:
                    return each.offset + distance
        return None

    def table(self, kind: int) -> Section | None:
        """The first symbol table of a kind that is not empty."""
        tables = (each for each in self._sections if each.kind == kind and each.size)
        return next(tables, None)

    def names_of(self, table: Section) -> bytes:
        """The names of a symbol table, each ended by a NUL. Raises NotElf."""
        if table.link >= len(self._sections):
            raise NotElf("the names of its symbols are in no section")
        return self._bytes_of(self._sections[table.link])

    def functions_of(self, table: Section) -> Iterator[tuple[int, int]]:
        """Position of the name, and address, of each function defined here. Raises NotElf."""
        content = self._bytes_of(table)
        whole = len(content) // _SYMBOL.size * _SYMBOL.size
        for name, info, _, section, address, _ in _SYMBOL.iter_unpack(content[:whole]):
            if info & 0xF == _STT_FUNC and _SHN_UNDEF < section < _SHN_LORESERVE:
                yield int(name), int(address)

    def _headers(
        self, layout: struct.Struct, offset: int, size: int, count: int
    ) -> Iterator[tuple[int, ...]]:
        if not count:
            return iter(())
        if size != layout.size:
            raise NotElf(f"its headers have {size} bytes, not {layout.size}")
        return layout.iter_unpack(self._content.part(offset, size * count))

    def _named(self, headers: list[tuple[int, ...]], names_at: int) -> tuple[Section, ...]:
        plain = [Section(b"", each[1], each[4], each[5], each[6]) for each in headers]
        if names_at >= len(plain):
            return tuple(plain)
        names = self._bytes_of(plain[names_at])
        return tuple(
            Section(name_at(names, header[0]) or b"", each.kind, each.offset, each.size, each.link)
            for header, each in zip(headers, plain)
        )

    def _bytes_of(self, section: Section) -> bytes:
        if section.kind == _SHT_NOBITS:  # in a debug file: the stripped file has it
            return b""
        return self._content.part(section.offset, section.size)

    def _notes(self) -> Iterator[bytes]:
        """The parts that hold notes, if they can be read."""
        places = [(each.offset, each.size) for each in self._sections if each.kind == _SHT_NOTE]
        loaded = (each for each in self._segments if each.kind == _PT_NOTE)
        places += [(each.offset, each.file_size) for each in loaded]
        for offset, size in places[:_MOST_NOTES]:
            try:
                yield self._content.part(offset, min(size, _MOST_NOTE_BYTES))
            except NotElf:
                continue


def name_at(names: bytes, place: int) -> bytes | None:
    """The name at a position in a table of names; None if it is too long for a name."""
    end = names.find(b"\0", place, place + _LONGEST_NAME)
    return None if end < 0 else names[place:end]


def _refuse_more(size: int) -> None:
    if size > MOST_BYTES:
        raise NotElf(f"a part of {size} bytes is too large")


def _build_id(notes: bytes) -> str | None:
    at = 0
    while at + _NOTE.size <= len(notes):
        name_size, size, kind = _NOTE.unpack_from(notes, at)
        name = at + _NOTE.size
        start = name + (name_size + 3) // 4 * 4
        if kind == _NT_GNU_BUILD_ID and notes[name : name + name_size] == b"GNU\0":
            build_id = notes[start : start + size]
            return build_id.hex() if build_id and len(build_id) == size else None
        at = start + (size + 3) // 4 * 4
    return None
