"""A reader of BTF, the kernel's own type information (Documentation/bpf/btf.rst).

Reads struct members with their offsets, and which raw tracepoints exist, from the blob at
``/sys/kernel/btf/vmlinux`` (or a module's, with vmlinux's as its base). Members of anonymous
structs and unions are found as in C. Standard library only.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

VMLINUX = Path("/sys/kernel/btf/vmlinux")

_MAGIC = 0xEB9F
_INT, _ARRAY, _STRUCT, _UNION, _ENUM, _FUNC_PROTO = 1, 3, 4, 5, 6, 13
_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG = 8, 9, 10, 11, 18
_FUNC, _VAR, _DATASEC, _DECL_TAG, _ENUM64 = 12, 14, 15, 17, 19
_POINTER, _FORWARD, _FLOAT = 2, 7, 16
_MODIFIERS = frozenset((_TYPEDEF, _VOLATILE, _CONST, _RESTRICT, _TYPE_TAG))

#: no C type is nested deeper: beyond this there is a cycle
_MAX_DEPTH = 64

#: bytes after the 12-byte header: (fixed, per element), by kind; other kinds are unknown
_TAIL = {
    **dict.fromkeys((*_MODIFIERS, _POINTER, _FORWARD, _FUNC, _FLOAT), (0, 0)),
    _INT: (4, 0),
    _ARRAY: (12, 0),
    _STRUCT: (0, 12),
    _UNION: (0, 12),
    _ENUM: (0, 8),
    _FUNC_PROTO: (0, 8),
    _VAR: (4, 0),
    _DATASEC: (0, 12),
    _DECL_TAG: (4, 0),
    _ENUM64: (0, 12),
}


class BtfError(ValueError):
    """The blob is not BTF that this reader understands."""


@dataclass(frozen=True)
class Member:
    """A member of a struct: its offset in bits, its width (0: no bit field), its type."""

    bit_offset: int
    bit_width: int
    type_id: int

    @property
    def byte_offset(self) -> int:
        """Offset in bytes from the start of the struct."""
        return self.bit_offset // 8


class Btf:
    """The types of a kernel; with a base, those of a module and of its kernel.

    Creating one takes a pass over all types (about 0.1 s for vmlinux). Raises BtfError if the blob
    cannot be read, also later, when a lookup meets a broken part.
    """

    def __init__(self, blob: bytes, base: Btf | None = None) -> None:
        header_len, type_off, type_len, str_off, str_len = _header(blob)
        types = blob[header_len + type_off : header_len + type_off + type_len]
        strings = blob[header_len + str_off : header_len + str_off + str_len]
        if len(types) < type_len or len(strings) < str_len:
            raise BtfError("the blob ends before its types and strings do")
        # a module's ids and string offsets continue the kernel's: joined, they are one blob
        self._types: bytes = base._types + types if base else types
        self._strings: bytes = base._strings + strings if base else strings
        self._positions, self._by_name = _index(self._types)
        texts = self._strings.split(b"\0")
        starts = accumulate(texts, lambda at, text: at + len(text) + 1, initial=0)
        self._offset_of = dict(zip(texts, starts))

    @classmethod
    def of_running_kernel(cls, path: Path = VMLINUX) -> Btf:
        """The running kernel's types. Raises OSError if the kernel has none."""
        return cls(path.read_bytes())

    def function_arguments(self, name: str) -> tuple[str, ...] | None:
        """The struct that each argument points to, "" if it is something else.

        None if BTF does not describe the function.
        """
        position = self._find(name, (_FUNC,))
        if position is None:
            return None
        prototype = self._position_of(self._record(position)[2])
        parameters = struct.iter_unpack("<II", self._elements(prototype, 8))
        return tuple(self._pointed_to(type_id) for _, type_id in parameters)

    def function_id(self, name: str) -> int | None:
        """The type id of a function, for bpf(2); None if BTF does not describe it."""
        position = self._find(name, (_FUNC,))
        return None if position is None else bisect_left(self._positions, position) + 1

    def tracepoint_arguments(self, name: str) -> int | None:
        """How many arguments the raw tracepoint passes, or None if it does not exist."""
        position = self._find("btf_trace_" + name, (_TYPEDEF,))
        if position is None:
            return None
        for _ in range(_MAX_DEPTH):  # typedef -> pointer -> function prototype
            _, info, target = self._record(position)
            if (info >> 24) & 0x1F == _FUNC_PROTO:
                return (info & 0xFFFF) - 1  # the first one is void *__data
            position = self._position_of(target)
        raise BtfError(f"the tracepoint {name} has no function prototype")

    def has_struct(self, name: str) -> bool:
        """Whether a struct or union of that name is described."""
        return self._find(name, (_STRUCT, _UNION)) is not None

    def member(self, struct_name: str, path: str) -> Member | None:
        """The member at ``path`` ("in.h.unique") of a struct, or None if there is none."""
        position = self._find(struct_name, (_STRUCT, _UNION))
        if position is None:
            return None
        bits, member = 0, Member(0, 0, 0)
        for name in path.split("."):
            if position is None:
                return None
            step = self._member_at(position, name)
            if step is None:
                return None
            bits, member = bits + step.bit_offset, step
            position = self._struct_of(step.type_id)
        return Member(bits, member.bit_width, member.type_id)

    def offset(self, struct_name: str, path: str) -> int | None:
        """Byte offset of a member, or None if the struct or the member does not exist."""
        member = self.member(struct_name, path)
        return None if member is None else member.byte_offset

    def enumerator(self, enum_name: str, name: str) -> int | None:
        """The value of an enumerator, or None if the enum or the name does not exist."""
        position = self._find(enum_name, (_ENUM,))
        if position is None:
            return None
        for string, value in struct.iter_unpack("<Ii", self._elements(position, 8)):
            if self._string(string) == name:
                return int(value)
        return None

    def _find(self, name: str, kinds: tuple[int, ...]) -> int | None:
        """The position of a type of that name."""
        whole = self._offset_of.get(name.encode())
        position = None if whole is None else self._named(whole, kinds)
        if position is not None:
            return position
        ends = (self._named(at, kinds) for at in self._string_offsets(name))
        return next((each for each in ends if each is not None), None)

    def _named(self, name_offset: int, kinds: tuple[int, ...]) -> int | None:
        for position in self._by_name.get(name_offset, ()):
            if (self._record(position)[1] >> 24) & 0x1F in kinds:
                return position
        return None

    def _pointed_to(self, type_id: int) -> str:
        if not type_id:
            return ""
        _, info, target = self._record(self._position_of(type_id))
        inner = self._struct_of(target) if (info >> 24) & 0x1F == _POINTER else None
        return "" if inner is None else self._string(self._record(inner)[0])

    def _string_offsets(self, name: str) -> list[int]:
        """Every offset at which a string equal to ``name`` begins (suffixes of others included)."""
        needle, offsets, start = name.encode() + b"\0", list[int](), 0
        while (start := self._strings.find(needle, start)) >= 0:
            offsets.append(start)
            start += 1
        return offsets

    def _record(self, position: int) -> tuple[int, int, int]:
        name, info, size_or_type = struct.unpack_from("<III", self._types, position)
        return name, info, size_or_type

    def _elements(self, position: int, size: int) -> bytes:
        """What follows a record: its members or enumerators, of ``size`` bytes each."""
        count = self._record(position)[1] & 0xFFFF
        return self._types[position + 12 : position + 12 + count * size]

    def _position_of(self, type_id: int) -> int:
        if not 1 <= type_id <= len(self._positions):
            raise BtfError(f"type {type_id} lies outside this BTF")
        return self._positions[type_id - 1]

    def _struct_of(self, type_id: int) -> int | None:
        """Position of the struct or union that a type names, through typedefs and qualifiers."""
        for _ in range(_MAX_DEPTH):
            if not type_id:  # void
                return None
            position = self._position_of(type_id)
            _, info, type_id = self._record(position)
            kind = (info >> 24) & 0x1F
            if kind in (_STRUCT, _UNION):
                return position
            if kind not in _MODIFIERS:
                return None
        raise BtfError("a type is defined by itself")

    def _member_at(self, position: int, name: str, depth: int = 0) -> Member | None:
        if depth > _MAX_DEPTH:
            raise BtfError("a struct contains itself")
        bit_fields = self._record(position)[1] >> 31
        for at, type_id, raw in struct.iter_unpack("<III", self._elements(position, 12)):
            width, bits = (raw >> 24, raw & 0xFFFFFF) if bit_fields else (0, raw)
            if at and self._string(at) == name:
                return Member(bits, width, type_id)
            inner = None if at else self._struct_of(type_id)
            member = None if inner is None else self._member_at(inner, name, depth + 1)
            if member is not None:
                return Member(bits + member.bit_offset, member.bit_width, member.type_id)
        return None

    def _string(self, offset: int) -> str:
        end = self._strings.find(b"\0", offset)
        if end < 0:
            raise BtfError(f"no string at {offset}")
        return self._strings[offset:end].decode("utf-8", "replace")


def _header(blob: bytes) -> tuple[int, int, int, int, int]:
    """Length of the header; offset and length of the types, and of the strings, after it."""
    if len(blob) < 24 or struct.unpack_from("<H", blob)[0] != _MAGIC:
        raise BtfError("not little-endian BTF")
    header_len, type_off, type_len, str_off, str_len = struct.unpack_from("<5I", blob, 4)
    return header_len, type_off, type_len, str_off, str_len


def _index(types: bytes) -> tuple[list[int], dict[int, list[int]]]:
    """The position of each type, by its id less one, and positions by the offset of their name."""
    positions: list[int] = []
    by_name: dict[int, list[int]] = {}
    unpack, tails = struct.Struct("<II").unpack_from, [_TAIL.get(kind) for kind in range(32)]
    position, end = 0, len(types)
    name: int
    info: int
    while position + 12 <= end:
        name, info = unpack(types, position)
        positions.append(position)
        if name:
            by_name.setdefault(name, []).append(position)
        tail = tails[(info >> 24) & 0x1F]
        if tail is None:
            raise BtfError(f"a type has the unknown kind {(info >> 24) & 0x1F}")
        position += 12 + tail[0] + tail[1] * (info & 0xFFFF)
    if position != end:
        raise BtfError("the last type is cut off")
    return positions, by_name
