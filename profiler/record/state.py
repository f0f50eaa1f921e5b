"""What the programs hold in maps, flushed when recording stops: operations in flight, counters."""

from __future__ import annotations

import os
import struct
from typing import Any

from ...probes import events
from ...probes.catalog import EVENT_NAMES, PAIRS
from .maps import Map

_COUNT = struct.Struct("<Q")
#: maps of things in progress -> the spool file that keeps them
OPEN_STATE = {
    "threads": ("open.thread.bin", 4, events.THREAD),
    "requests": ("open.request.bin", 8, events.REQUEST),
    "calls": ("open.call.bin", 8, events.CALL),
    "downloads": ("open.download.bin", 8, events.DOWNLOAD),
}
TOUCH_FILES = ("touches.keys.bin", "touches.values.bin")


class State:
    """The maps of one loaded object."""

    def __init__(self, bcc: Any, bpf: Any) -> None:
        self._bcc, self._bpf = bcc, bpf
        self._touches = self._map("touches", events.TOUCH_KEY.size, events.TOUCH.size)
        self._roles = self._map("roles", 4, 4)
        self._possible_cpus = _possible_cpus()

    def set_syscall_classes(self, classes: dict[int, int]) -> None:
        """Tells the programs which system calls matter."""
        table = self._map("syscall_classes", 4, 4)
        for number, value in classes.items():
            table.update(struct.pack("<I", number), struct.pack("<I", value))

    def set_programs(self, name: str, programs: tuple[str, ...]) -> None:
        """Loads programs for uprobes to go to, into a program array."""
        table = self._map(name, 4, 4)
        for index, program in enumerate(programs):
            loaded = self._bpf.load_func(program.encode(), self._bcc.BPF.KPROBE)
            table.update(struct.pack("<I", index), struct.pack("<I", loaded.fd))

    def set_role(self, pid: int, role: int) -> None:
        """Traces a process and what it will fork."""
        self._roles.update(struct.pack("<I", pid), struct.pack("<I", role))

    def set_daemon(self, pid: int, tids: tuple[int, ...]) -> None:
        """Traces a running daemon and its threads, some of which now sleep in system calls."""
        self.set_role(pid, events.ROLE_DAEMON)
        threads = self._map("threads", 4, events.THREAD.size)
        for tid in tids:
            value = bytearray(events.THREAD.size)
            for name, number in (("pid", pid), ("tid", tid), ("role", events.ROLE_DAEMON)):
                struct.pack_into("<I", value, events.THREAD.offset(name), number)
            threads.update(struct.pack("<I", tid), bytes(value))

    def flush_open(self, spool: dict[str, int]) -> None:
        """Writes what is in progress to the spool. Raises OSError when the disk is full."""
        for name, (file, key_size, layout) in OPEN_STATE.items():
            values = (value for _, value in self._map(name, key_size, layout.size).items())
            _write(spool[file], b"".join(values))

    def flush_touches(self, spool: dict[str, int], before_ns: int) -> None:
        """Moves touches of buckets that ended before a time, no longer updated, to the spool."""
        bucket = before_ns // events.TOUCH_BUCKET_NS
        touches = self._touches.items()
        ended = {key: value for key, value in touches if _bucket_of(key) < bucket}
        self._touches.delete(list(ended))
        _write(spool[TOUCH_FILES[0]], b"".join(ended))
        _write(spool[TOUCH_FILES[1]], b"".join(ended.values()))

    def hits(self) -> list[dict[str, Any]]:
        """How often each event was seen."""
        counts = self._counters("event_hits", len(EVENT_NAMES))
        return [{"event": name, "hits": sum(seen)} for name, seen in zip(EVENT_NAMES, counts)]

    def losses(self) -> list[dict[str, Any]]:
        """What the programs counted as lost: probe, cause, count, count per CPU."""
        causes = events.LOSS_CAUSES
        counts = self._counters("event_losses", len(EVENT_NAMES) * len(causes))
        return [
            {
                "probe": EVENT_NAMES[index // len(causes)],
                "cause": causes[index % len(causes)],
                "count": sum(per_cpu),
                "per_cpu": per_cpu,
            }
            for index, per_cpu in enumerate(counts)
            if any(per_cpu)
        ]

    def stood_in(self) -> dict[str, int]:
        """How often the second of two programs ran where the first did not, by the first's name."""
        return dict(zip(PAIRS, map(sum, self._counters("stood_in", len(PAIRS)))))

    def _counters(self, name: str, length: int) -> list[list[int]]:
        table = self._map(name, 4, 8 * self._possible_cpus)
        found = list[list[int]]()
        for index in range(length):
            value = table.lookup(struct.pack("<I", index)) or b""
            found.append([count for (count,) in _COUNT.iter_unpack(value)])
        return found

    def _map(self, name: str, key_size: int, value_size: int) -> Map:
        return Map(self._bcc, self._bpf, name, key_size, value_size)


def _bucket_of(key: bytes) -> int:
    (bucket,) = struct.unpack_from("<Q", key, 8)
    return int(bucket)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _possible_cpus() -> int:
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
        return int(file.read().strip().replace(",", "-").split("-")[-1]) + 1
