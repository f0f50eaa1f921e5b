"""BPF maps read and written as plain bytes, through libbcc instead of bcc's Python tables."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

#: entries that are read or removed without a pause, which takes tens of microseconds
_BATCH = 64


@contextmanager
def unpreempted() -> Generator[None, None, None]:
    """Keep ordinary tasks off this CPU.

    While a process reads or changes a map, the kernel skips programs of kprobes and software events
    on that CPU (``bpf_prog_active``). If the process were preempted then, events of every task that
    runs there meanwhile would be missed.
    """
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:  # not permitted
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


def map_fd(bcc: Any, bpf: Any, name: str) -> int:
    """The descriptor of a map of a loaded object."""
    return int(bcc.lib.bpf_table_fd(bpf.module, name.encode()))


class Map:
    """A map by its descriptor; keys and values are bytes of these sizes. ``lib`` is libbcc."""

    def __init__(self, lib: Any, fd: int, key_size: int, value_size: int) -> None:
        self._lib = lib
        self._fd = fd
        self._key = ctypes.create_string_buffer(key_size)
        self._next = ctypes.create_string_buffer(key_size)
        self._value = ctypes.create_string_buffer(value_size)

    def update(self, key: bytes, value: bytes) -> bool:
        """Set a value. Returns False if the map is full."""
        self._key.raw, self._value.raw = key, value
        return int(self._lib.bpf_update_elem(self._fd, self._key, self._value, 0)) == 0

    def lookup(self, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        self._key.raw = key
        status = self._lib.bpf_lookup_elem(self._fd, self._key, self._value)
        return self._value.raw if status == 0 else None

    def delete(self, keys: list[bytes]) -> None:
        """Remove keys; absent ones are ignored."""
        for batch in _batches(keys):
            with unpreempted():
                for key in batch:
                    self._key.raw = key
                    self._lib.bpf_delete_elem(self._fd, self._key)

    def keys(self) -> list[bytes]:
        """All keys now present."""
        keys = list[bytes]()
        status = self._lib.bpf_get_first_key(self._fd, self._next, len(self._next))
        while status == 0 and len(keys) < 1 << 20:
            keys.append(self._next.raw)
            self._key.raw = self._next.raw
            status = self._lib.bpf_get_next_key(self._fd, self._key, self._next)
        return keys

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys with their values, except those removed in the meantime."""
        for batch in _batches(self.keys()):
            with unpreempted():
                values = [self.lookup(key) for key in batch]
            for key, value in zip(batch, values):
                if value is not None:
                    yield key, value


def _batches(keys: list[bytes]) -> Iterator[list[bytes]]:
    return (keys[at : at + _BATCH] for at in range(0, len(keys), _BATCH))
