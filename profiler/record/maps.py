"""Reading and writing BPF maps as plain bytes, through libbcc and past its Python tables."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

#: entries of a map that are read or removed without a pause: tens of microseconds
_AT_ONCE = 64


@contextmanager
def unpreempted() -> Generator[None, None, None]:
    """Keeps ordinary tasks off this CPU. While one process reads or changes a map the kernel skips
    the programs of kprobes and of software events on its CPU (``bpf_prog_active``), and whoever
    else comes to run there meanwhile would not be seen.
    """
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:  # not allowed
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


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

    def delete(self, keys: list[bytes]) -> None:
        """Removes keys; one that is not there is no error."""
        for some in _slices(keys):
            with unpreempted():
                for key in some:
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
        for some in _slices(self.keys()):
            with unpreempted():
                values = [self.lookup(key) for key in some]
            for key, value in zip(some, values):
                if value is not None:
                    yield key, value


def _slices(keys: list[bytes]) -> Iterator[list[bytes]]:
    return (keys[at : at + _AT_ONCE] for at in range(0, len(keys), _AT_ONCE))
