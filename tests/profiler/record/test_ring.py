"""Draining: a real ring that is filled meanwhile, and rings made by hand for what is rare."""

from __future__ import annotations

import errno
import mmap
import os
import platform
import resource
import struct
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmprof.probes import syscalls
from cvmprof.probes.events import PAGE, Field, Layout
from cvmprof.profiler.record import maps
from cvmprof.profiler.record.maps import Map, map_fd
from cvmprof.profiler.record.ring import Ring

from .conftest import HERE, Stopping

CALLS = 100_003
BATCH = 10_007  # fits into the ring, whose end it passes several times
GETPPID = {"x86_64": 110, "aarch64": 173}[platform.machine()]
RING_PAGES = 128
FIELDS = (
    Field("serial", "u64", "which call"),
    Field("twice", "u64", "twice that"),
    Field("pid", "u32", "who"),
    Field("reserved", "u32", "zero"),
)
NUMBER = Layout("number", "A numbered call.", FIELDS, RING_PAGES)
RECORD = struct.Struct("<II QQII")


# --- the kernel's ---------------------------------------------------------------------------------


@pytest.fixture
def numbers(bcc: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The program that numbers calls, attached."""
    pages = getattr(request, "param", RING_PAGES)
    text = NUMBER.c_struct() + (HERE / "numbers.bpf.c").read_text()
    flags = [f"-DRING_PAGES={pages}", f"-DSYSTEM_CALL={GETPPID}"]
    bpf = bcc.BPF(text=f"#include <linux/types.h>\n{text}".encode(), cflags=flags)
    bpf.attach_raw_tracepoint(tp=b"sys_enter", fn_name=b"on_enter")
    yield bpf
    bpf.cleanup()


def drained(ring: Ring) -> int:
    """Bytes that one drain moved."""
    span = ring.drain()
    return 0 if span is None else len(span)


def test_every_record_of_a_storm_arrives_in_order(
    bcc: Any,
    numbers: Any,
    build: Callable[..., Path],
    stopping: Callable[..., Stopping],
    tmp_path: Path,
) -> None:
    spool = tmp_path / "number.ring"
    wanted = Map(bcc.lib, map_fd(bcc, numbers, "wanted"), 4, 4)
    assert BATCH * NUMBER.stride < RING_PAGES * PAGE < CALLS * NUMBER.stride
    with spool.open("wb", buffering=0) as file:
        ring = Ring(map_fd(bcc, numbers, "number_ring"), NUMBER, file.fileno())
        storm = stopping(build("storm.c", "storm"), "getppid", CALLS, BATCH)
        assert wanted.update(bytes(4), struct.pack("<I", storm.pid))
        for _ in range(-(-CALLS // BATCH)):
            storm.start()
            while not storm.has_stopped():
                drained(ring)
            drained(ring)
        assert drained(ring) == 0
        assert len(ring) == 0
    found = list(RECORD.iter_unpack(spool.read_bytes()))
    assert [record[2] for record in found] == list(range(CALLS))
    assert {(record[0], record[4]) for record in found} == {(24, storm.pid)}
    assert all(record[3] == 2 * record[2] for record in found)
    assert (ring.spooled, ring.dropped, ring.failure) == (CALLS, 0, None)


@pytest.mark.parametrize("numbers", [1], indirect=True)
def test_a_program_learns_that_the_ring_is_full(
    bcc: Any,
    numbers: Any,
    build: Callable[..., Path],
    stopping: Callable[..., Stopping],
    tmp_path: Path,
) -> None:
    small = Layout("number", "", FIELDS, 1)
    storm = stopping(build("storm.c", "storm"), "getppid", 1009, 1009)
    Map(bcc.lib, map_fd(bcc, numbers, "wanted"), 4, 4).update(
        bytes(4), struct.pack("<I", storm.pid)
    )
    assert storm.go_on()
    with (tmp_path / "ring").open("w+b", buffering=0) as file:
        ring = Ring(map_fd(bcc, numbers, "number_ring"), small, file.fileno())
        ring.drain()
        found = list(RECORD.iter_unpack((tmp_path / "ring").read_bytes()))
    lost = Map(bcc.lib, map_fd(bcc, numbers, "counts"), 4, 8).lookup(struct.pack("<I", 1))
    assert lost is not None
    assert 0 < len(found) <= PAGE // NUMBER.stride
    assert len(found) + struct.unpack("<Q", lost)[0] == 1009
    assert [record[2] for record in found] == list(range(len(found)))


def test_maps_are_written_read_and_emptied(bcc: Any, numbers: Any) -> None:
    pairs = Map(bcc.lib, map_fd(bcc, numbers, "pairs"), 8, 4)
    contents = {struct.pack("<Q", key): struct.pack("<I", 3 * key) for key in range(1, 6)}
    assert all(pairs.update(key, value) for key, value in contents.items())
    assert dict(pairs.items()) == contents
    assert sorted(pairs.keys()) == sorted(contents)
    assert not pairs.update(struct.pack("<Q", 6), bytes(4))  # it holds five
    key = struct.pack("<Q", 2)
    assert pairs.lookup(key) == struct.pack("<I", 6)
    assert pairs.update(key, struct.pack("<I", 7))
    assert pairs.lookup(key) == struct.pack("<I", 7)
    pairs.delete([key, key])
    assert pairs.lookup(key) is None
    assert set(pairs.keys()) == set(contents) - {key}
    pairs.delete(pairs.keys())
    assert list(pairs.items()) == []


def test_reading_and_emptying_a_map_is_not_preempted(
    bcc: Any, numbers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As little as may be at once: others wait for it."""
    pairs, seen = Map(bcc.lib, map_fd(bcc, numbers, "pairs"), 8, 4), list[int]()

    def lookup(key: bytes) -> None:
        seen.append(os.sched_getscheduler(0))

    assert all(pairs.update(struct.pack("<Q", key), bytes(4)) for key in range(5))
    monkeypatch.setattr(maps, "_BATCH", 2)
    monkeypatch.setattr(pairs, "lookup", lookup)
    assert list(pairs.items()) == []
    assert seen == [os.SCHED_FIFO] * 5
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    pairs.delete(pairs.keys())
    assert pairs.keys() == []
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_who_may_not_keep_the_cpu_reads_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with maps.unpreempted():
        assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_the_call_that_is_counted_is_not_one_that_matters() -> None:
    assert GETPPID not in syscalls.class_table()


# --- made by hand ---------------------------------------------------------------------------------

SMALL = Layout("small", "", (Field("serial", "u64", ""), Field("twice", "u64", "")), 1)
STRIDE = 24


class MadeRing:
    """A file that looks as a kernel's ring does when it is mapped, and its producer."""

    def __init__(self, start: int = 0) -> None:
        self.descriptor = os.memfd_create("ring")
        os.ftruncate(self.descriptor, 4 * PAGE)
        self._pages = mmap.mmap(self.descriptor, 4 * PAGE)
        self.produced = self.position = 0
        struct.pack_into("<Q", self._pages, 0, start)
        struct.pack_into("<Q", self._pages, PAGE, start)
        self._start = start

    @property
    def consumed_bytes(self) -> int:
        return int(struct.unpack_from("<Q", self._pages, 0)[0]) - self._start

    @property
    def has_room(self) -> bool:
        return self.produced * STRIDE - self.consumed_bytes + STRIDE < PAGE

    def produce(self, busy: bool = False) -> None:
        """Writes the next record as the kernel does: both copies, then the position."""
        number = self.produced
        record = struct.pack("<IIQQ", 16 | busy << 31, 0, number, 2 * number)
        self._write(self._start + number * STRIDE, record)
        self.produced += 1
        struct.pack_into("<Q", self._pages, PAGE, self._start + self.produced * STRIDE)

    def commit(self, number: int) -> None:
        """Clears a record's busy bit."""
        self._write(self._start + number * STRIDE, struct.pack("<I", 16))

    def _write(self, position: int, data: bytes) -> None:
        for offset, byte in enumerate(data):
            place = (position + offset) % PAGE
            self._pages[2 * PAGE + place] = self._pages[3 * PAGE + place] = byte


def serials(spool: Path) -> list[int]:
    """The records that were spooled, each held to be whole."""
    found = list(struct.iter_unpack("<IIQQ", spool.read_bytes()))
    assert all((record[0], record[3]) == (16, 2 * record[2]) for record in found)
    return [record[2] for record in found]


@contextmanager
def spooling(path: Path, made: MadeRing) -> Generator[Ring]:
    with path.open("wb", buffering=0) as file:
        yield Ring(made.descriptor, SMALL, file.fileno())
    os.close(made.descriptor)


def test_an_empty_ring_gives_nothing(tmp_path: Path) -> None:
    with spooling(tmp_path / "ring", MadeRing()) as ring:
        assert ring.drain() is None
        assert len(ring) == 0


@pytest.mark.parametrize("start", [0, PAGE - 8, PAGE - 16, 7 * PAGE - 24, (1 << 40) + 4088])
def test_a_span_across_the_rings_end_is_one(tmp_path: Path, start: int) -> None:
    made = MadeRing(start)
    with spooling(tmp_path / "ring", made) as ring:
        for _ in range(170):  # all but full
            assert made.has_room
            made.produce()
        assert not made.has_room
        span = ring.drain()
        assert span is not None
        assert len(span) == 170 * STRIDE
        assert ring.drain() is None
    assert serials(tmp_path / "ring") == list(range(170))
    assert made.consumed_bytes == 170 * STRIDE


def test_a_record_still_being_written_ends_the_span(tmp_path: Path) -> None:
    made = MadeRing()
    with spooling(tmp_path / "ring", made) as ring:
        for busy in (False, False, True, False):
            made.produce(busy)
        assert drained(ring) == 2 * STRIDE
        assert ring.drain() is None
        assert len(ring) == 2 * STRIDE
        made.commit(2)
        assert drained(ring) == 2 * STRIDE
    assert serials(tmp_path / "ring") == [0, 1, 2, 3]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["produce", "busy", "commit", "drain"]), max_size=400))
def test_whatever_the_order_each_record_is_spooled_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    spool = tmp_path_factory.mktemp("steps") / "ring"
    made, open_records = MadeRing(5 * PAGE - 40), list[int]()
    with spooling(spool, made) as ring:
        for step in steps:
            if step in ("produce", "busy") and made.has_room:
                if step == "busy":
                    open_records.append(made.produced)
                made.produce(step == "busy")
            elif step == "commit" and open_records:
                made.commit(open_records.pop())
            elif step == "drain":
                ring.drain()
        ring.drain()
        finished = min(open_records, default=made.produced)
        assert ring.spooled == finished
    assert serials(spool) == list(range(finished))


def test_a_full_disk_is_told_and_what_it_cost(tmp_path: Path) -> None:
    made = MadeRing()
    with open("/dev/full", "wb", buffering=0) as full:
        ring = Ring(made.descriptor, SMALL, full.fileno())
        for produced in (101, 7):
            for _ in range(produced):
                made.produce()
            assert drained(ring) == produced * STRIDE  # the ring must not fill up as well
    assert ring.failure is not None
    assert ring.failure.errno == errno.ENOSPC
    assert (ring.spooled, ring.dropped, len(ring)) == (0, 108, 0)
    os.close(made.descriptor)


@contextmanager
def files_of_at_most(size_bytes: int) -> Generator[None]:
    """A disk that takes so much of a file and no more: Python ignores SIGXFSZ."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("room", "kept"), [(10 * STRIDE + 5, 10), (10 * STRIDE, 10), (5, 0)])
def test_what_was_written_before_the_disk_was_full_is_not_lost(
    tmp_path: Path, room: int, kept: int
) -> None:
    made, spool = MadeRing(), tmp_path / "ring"
    with spooling(spool, made) as ring:
        for _ in range(17):
            made.produce()
        with files_of_at_most(room):
            ring.drain()
        assert ring.failure is not None
        assert ring.failure.errno == errno.EFBIG
        assert (ring.spooled, ring.dropped) == (kept, 17 - kept)
        made.produce()
        ring.drain()  # there is room again, but a record behind a torn one could not be read
        assert (ring.spooled, ring.dropped) == (kept, 18 - kept)
    assert spool.stat().st_size == room


def test_writes_that_take_a_part_are_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, write = MadeRing(), os.write
    with spooling(tmp_path / "ring", made) as ring:
        for _ in range(101):
            made.produce()

        def write_a_part(descriptor: int, data: memoryview) -> int:
            return write(descriptor, data[:1009])

        monkeypatch.setattr(os, "write", write_a_part)
        ring.drain()
    assert serials(tmp_path / "ring") == list(range(101))
    assert (ring.spooled, ring.dropped, ring.failure) == (101, 0, None)
