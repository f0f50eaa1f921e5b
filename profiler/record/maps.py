"""Reading and writing BPF maps as plain bytes, through libbcc and past its Python tables."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any


class Map:
    """A map of a loaded program, by name; keys and values are bytes of the layouts' sizes."""

    def __init__(self, bcc: Any, bpf: Any, name: str, key_size: int, value_size: int) -> None:
        self._lib = bcc.lib
        self.fd = int(self._lib.bpf_table_fd(bpf.module, name.encode()))
        self._key = ctypes.create_string_buffer(key_size)
        self._next = ctypes.create_string_buffer(key_size)
        self._value = ctypes.create_string_buffer(value_size)

    def update(self, key: bytes, value: bytes) -> bool:
        """Sets a value; False where the map is full."""
        self._key.raw, self._value.raw = key, value
        return int(self._lib.bpf_update_elem(self.fd, self._key, self._value, 0)) == 0

    def lookup(self, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        self._key.raw = key
        found = self._lib.bpf_lookup_elem(self.fd, self._key, self._value)
        return self._value.raw if found == 0 else None

    def delete(self, key: bytes) -> None:
        """Removes a key; one that is not there is no error."""
        self._key.raw = key
        self._lib.bpf_delete_elem(self.fd, self._key)

    def keys(self) -> list[bytes]:
        """All keys now present."""
        found = list[bytes]()
        status = self._lib.bpf_get_first_key(self.fd, self._next, len(self._next))
        while status == 0 and len(found) < 1 << 20:
            found.append(self._next.raw)
            self._key.raw = self._next.raw
            status = self._lib.bpf_get_next_key(self.fd, self._key, self._next)
        return found

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys with their values; one that is removed meanwhile is left out."""
        for key in self.keys():
            value = self.lookup(key)
            if value is not None:
                yield key, value
