"""The parts of an ELF file that tell its functions: headers, tables of symbols, notes.

System V ABI, chapters 4 and 5; 64 bits, little-endian. What a file says of itself is believed only
as far as it is there and of a size that can be held. Standard library only.
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
#: more than a table of any client's library takes: what says more is not read
MOST_BYTES = 32 << 20
#: bounds of what is looked through for a build-id
_MOST_NOTES, _MOST_NOTE_BYTES = 64, 1 << 16
_LONGEST_NAME = 4096


class NotElf(ValueError):
    """What is not a whole 64-bit little-endian ELF file, and why; the caller knows its path."""


class Content:
    """Bytes that are read part by part: of a file, or of what was unpacked from one."""

    def part(self, offset: int, size: int) -> bytes:
        """So many bytes from there. Raises NotElf where there are fewer, or too many to hold."""
        raise NotImplementedError


class FileContent(Content):
    """Parts of a file, read: mapped, one that is cut off meanwhile would be the reader's death."""

    def __init__(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotElf("not a regular file")
        self._descriptor = descriptor

    def part(self, offset: int, size: int) -> bytes:
        """So many bytes from there. Raises NotElf where there are fewer, or too many to hold."""
        _refuse_more(size)
        if offset + size > os.fstat(self._descriptor).st_size:
            raise NotElf("a part of it is cut off")
        found = os.pread(self._descriptor, size, offset)
        if len(found) < size:
            raise NotElf("a part of it was cut off just now")
        return found


class MemoryContent(Content):
    """Parts of bytes that are held."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def part(self, offset: int, size: int) -> bytes:
        """So many bytes from there. Raises NotElf where there are fewer, or too many to hold."""
        _refuse_more(size)
        if offset + size > len(self._content):
            raise NotElf("a part of it is cut off")
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
    """One ELF file. Making it reads its headers, and raises NotElf where it has none."""

    def __init__(self, content: Content) -> None:
        self._content = content
        header = content.part(0, 64)
        if header[:6] != b"\x7fELF\x02\x01":
            raise NotElf("not a 64-bit little-endian ELF file")
        segments, sections = struct.unpack_from("<QQ", header, 32)
        sizes = struct.unpack_from("<HHHHH", header, 54)
        self._segments = tuple(
            _Segment(found[0], found[1], found[2], found[3], found[5])
            for found in self._headers(_SEGMENT, segments, sizes[0], sizes[1])
        )
        self._sections = self._named(
            list(self._headers(_SECTION, sections, sizes[2], sizes[3])), sizes[4]
        )

    def has_section(self, name: bytes) -> bool:
        """Whether there is a section of a name."""
        return any(each.name == name for each in self._sections)

    def section(self, name: bytes) -> bytes | None:
        """The content of the first section of a name, or None. Raises NotElf."""
        found = next((each for each in self._sections if each.name == name), None)
        return None if found is None else self._bytes_of(found)

    def build_id(self) -> str | None:
        """The build-id in hex digits, or None where no note that can be read tells it."""
        for notes in self._notes():
            found = _build_id(notes)
            if found:
                return found
        return None

    def file_offset(self, address: int) -> int | None:
        """Where the code linked at an address stands in this very file; None where none is."""
        for each in self._segments:
            if each.kind == _PT_LOAD and each.flags & _PF_X:
                distance = address - each.address
                if 0 <= distance < each.file_size:
                    return each.offset + distance
        return None

    def table(self, kind: int) -> Section | None:
        """The first table of symbols of a kind that holds any."""
        tables = (each for each in self._sections if each.kind == kind and each.size)
        return next(tables, None)

    def names_of(self, table: Section) -> bytes:
        """The names of a table of symbols, each ended by a zero. Raises NotElf."""
        if table.link >= len(self._sections):
            raise NotElf("the names of its symbols are in no section")
        return self._bytes_of(self._sections[table.link])

    def functions_of(self, table: Section) -> Iterator[tuple[int, int]]:
        """Place of the name, and address, of each function that is defined. Raises NotElf."""
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
            raise NotElf(f"its headers are of {size} bytes, not of {layout.size}")
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
        if section.kind == _SHT_NOBITS:  # of a debug file: it stands in the file that was stripped
            return b""
        return self._content.part(section.offset, section.size)

    def _notes(self) -> Iterator[bytes]:
        """The parts that hold notes, as far as they can be read."""
        places = [(each.offset, each.size) for each in self._sections if each.kind == _SHT_NOTE]
        loaded = (each for each in self._segments if each.kind == _PT_NOTE)
        places += [(each.offset, each.file_size) for each in loaded]
        for offset, size in places[:_MOST_NOTES]:
            try:
                yield self._content.part(offset, min(size, _MOST_NOTE_BYTES))
            except NotElf:
                continue


def name_at(names: bytes, place: int) -> bytes | None:
    """The name that stands there in a table of names; None where it is too long for one."""
    end = names.find(b"\0", place, place + _LONGEST_NAME)
    return None if end < 0 else names[place:end]


def _refuse_more(size: int) -> None:
    if size > MOST_BYTES:
        raise NotElf(f"a part of {size} bytes is too long")


def _build_id(notes: bytes) -> str | None:
    at = 0
    while at + _NOTE.size <= len(notes):
        name_size, size, kind = _NOTE.unpack_from(notes, at)
        name = at + _NOTE.size
        start = name + (name_size + 3) // 4 * 4
        if kind == _NT_GNU_BUILD_ID and notes[name : name + name_size] == b"GNU\0":
            found = notes[start : start + size]
            return found.hex() if found and len(found) == size else None
        at = start + (size + 3) // 4 * 4
    return None
