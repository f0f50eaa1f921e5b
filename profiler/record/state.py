"""What the programs keep in maps: tasks to trace, what is in progress, counters."""

from __future__ import annotations

import os
import struct
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from ...probes import events
from ...probes.catalog import EVENT_NAMES, PAIRS
from .maps import Map, map_fd
from .names import TOUCH_FILES, open_file

_NUMBER = struct.Struct("<I")
_U32 = _NUMBER.pack
_COUNT = struct.Struct("<Q")
#: maps of what is in progress: bytes of their keys, and their values
_OPEN_MAPS = {
    "threads": (4, events.THREAD),
    "requests": (8, events.REQUEST),
    "calls": (8, events.CALL),
    "downloads": (8, events.DOWNLOAD),
}
_OPEN_GPU_MAPS = {"gpu_calls": (4, events.GPU_CALL), "gpu_launches": (8, events.GPU_LAUNCHES)}


class State:
    """The maps of one loaded object; ``gpu_calls``: whether it observes the CUDA driver."""

    def __init__(self, bcc: Any, bpf: Any, gpu_calls: bool = False) -> None:
        self._bcc, self._bpf = bcc, bpf
        self._open_maps = {**_OPEN_MAPS, **(_OPEN_GPU_MAPS if gpu_calls else {})}
        self._touches = self._map("touches", events.TOUCH_KEY.size, events.TOUCH.size)
        self._roles = self._map("roles", 4, 4)
        self._possible_cpus = _possible_cpus()

    def set_syscall_classes(self, classes: dict[int, int]) -> None:
        """Tell the programs which system calls matter."""
        table = self._map("syscall_classes", 4, 4)
        for number, value in classes.items():
            table.update(_U32(number), _U32(value))

    def set_programs(self, name: str, programs: tuple[str, ...]) -> None:
        """Load programs that uprobes tail-call, and put them into a program array."""
        table = self._map(name, 4, 4)
        for index, program in enumerate(programs):
            loaded = self._bpf.load_func(program.encode(), self._bcc.BPF.KPROBE)
            table.update(_U32(index), _U32(loaded.fd))

    def set_role(self, pid: int, role: int) -> None:
        """Trace a process and whatever it forks."""
        self._roles.update(_U32(pid), _U32(role))

    def targets(self) -> list[int]:
        """The traced processes, those included that have ended and were not waited for."""
        target = _U32(events.ROLE_TARGET)
        return [_NUMBER.unpack(pid)[0] for pid, role in self._roles.items() if role == target]

    @contextmanager
    def traced_for_a_moment(self, pid: int) -> Generator[None, None, None]:
        """Trace a process, and forget its launches and all hits at the end. Those of its launches
        that are in the ring by then are to be skipped.
        """
        self.set_role(pid, events.ROLE_TARGET)
        try:
            yield
        finally:
            self._roles.delete([_U32(pid)])
            key_size, layout = _OPEN_GPU_MAPS["gpu_launches"]
            launches = self._map("gpu_launches", key_size, layout.size)
            launches.delete(launches.keys())
            none = bytes(_COUNT.size * self._possible_cpus)
            hits = self._map("event_hits", 4, len(none))
            for index in range(len(EVENT_NAMES)):
                hits.update(_U32(index), none)

    def set_daemon(self, pid: int, tids: tuple[int, ...]) -> None:
        """Trace a running daemon and its threads, some of which are asleep in system calls."""
        self.set_role(pid, events.ROLE_DAEMON)
        threads = self._map("threads", 4, events.THREAD.size)
        for tid in tids:
            thread = events.THREAD.pack(pid=pid, tid=tid, role=events.ROLE_DAEMON)
            threads.update(_U32(tid), thread)

    def flush_open(self, spool: dict[str, int]) -> None:
        """Write what is in progress to the spool. Raises OSError if the disk is full."""
        for name, (key_size, layout) in self._open_maps.items():
            values = (value for _, value in self._map(name, key_size, layout.size).items())
            _write(spool[open_file(layout)], b"".join(values))

    def flush_touches(self, spool: dict[str, int], before_ns: int | None = None) -> None:
        """Move touches to the spool: all, or those whose bucket ended before a time, which no
        program updates any more. Raises OSError if the disk is full.
        """
        ended = dict(self._touches.items())
        if before_ns is not None:
            current = before_ns // events.TOUCH_BUCKET_NS
            ended = {key: value for key, value in ended.items() if _bucket_of(key) < current}
        self._touches.delete(list(ended))
        _write(spool[TOUCH_FILES[0]], b"".join(ended))
        _write(spool[TOUCH_FILES[1]], b"".join(ended.values()))

    def hits(self) -> list[dict[str, Any]]:
        """How often each event was seen: rows of event and hits."""
        counts = self._counters("event_hits", len(EVENT_NAMES))
        return [{"event": name, "hits": sum(seen)} for name, seen in zip(EVENT_NAMES, counts)]

    def losses(self) -> list[dict[str, Any]]:
        """What the programs counted as lost: rows of probe, cause, count, and count per CPU."""
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
        """How often a backup program ran where its primary did not, by the primary's name."""
        return dict(zip(PAIRS, map(sum, self._counters("stood_in", len(PAIRS)))))

    def _counters(self, name: str, length: int) -> list[list[int]]:
        """An array of per-CPU counters: for each index the count on every CPU."""
        table = self._map(name, 4, _COUNT.size * self._possible_cpus)
        values = (table.lookup(_U32(index)) or b"" for index in range(length))
        return [[count for (count,) in _COUNT.iter_unpack(value)] for value in values]

    def _map(self, name: str, key_size: int, value_size: int) -> Map:
        return Map(self._bcc.lib, map_fd(self._bcc, self._bpf, name), key_size, value_size)


def _bucket_of(key: bytes) -> int:
    (bucket,) = events.TOUCH_KEY.read(key, "bucket")
    return int(bucket)


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _possible_cpus() -> int:
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
        return int(file.read().strip().replace(",", "-").split("-")[-1]) + 1
