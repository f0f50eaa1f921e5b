"""Patterns of access: what programs of known behaviour did, against the server's log."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from cvmprof.profiler.run.opened import Run
from cvmprof.reports.findings.rules import findings
from cvmprof.reports.material import gather
from cvmprof.reports.numbers.patterns import Patterns
from cvmprof.reports.numbers.statistics import Statistics, compute
from cvmprof.runners.lab.lab import mount

from .conftest import LATENCY_S, READ_AT_ONCE, Trace, Truth, hits_on, pinned, served_lab

MIB = 1 << 20
FILES = 300
FILE_BYTES = 16
MODEL_BYTES = 8 * MIB + 1009
PAGES = -(-MODEL_BYTES // 4096)
CHUNKS = 9
_MEMORY = Path("/sys/fs/cgroup/memory")

READ_WHOLE = "import sys; open(sys.argv[1], 'rb').read()"
IMPORT_ALL = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
for number in range(int(sys.argv[2])):
    importlib.import_module(f"m{number}")
"""
MAPPED_AT_RANDOM = """
import mmap, os, sys
view = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
view.madvise(mmap.MADV_RANDOM)
for offset in range(0, len(view), 4096):
    view[offset]
"""
#: reads a file in pieces of a page: with O_DIRECT in its order, or from its end to its begin
PAGE_BY_PAGE = """
import mmap, os, sys
how = sys.argv[2]
descriptor = os.open(sys.argv[1], os.O_RDONLY | (os.O_DIRECT if how == "direct" else 0))
page = mmap.mmap(-1, 4096)
offsets = range(0, 8 << 20, 4096)
for offset in offsets if how == "direct" else reversed(offsets):
    assert os.preadv(descriptor, [page], offset) == 4096
"""
#: joins a cgroup, then reads a file three times
READ_THRICE = """
import os, sys
if len(sys.argv) > 2:
    open(os.path.join(sys.argv[2], "cgroup.procs"), "w").write("0")
for _ in range(3):
    descriptor = os.open(sys.argv[1], os.O_RDONLY)
    while os.read(descriptor, 65536):
        pass
    os.close(descriptor)
"""
#: a thread for each MiB; they read through one open file, or each through its own
THREADS = """
import os, sys, threading
path, own, count = sys.argv[1], sys.argv[2] == "own", int(sys.argv[3])
shared, begin = os.open(path, os.O_RDONLY), threading.Barrier(count)

def read(number):
    descriptor = os.open(path, os.O_RDONLY) if own else shared
    begin.wait()
    assert len(os.pread(descriptor, 4096, number << 20)) == 4096

threads = [threading.Thread(target=read, args=(number,)) for number in range(count)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
#: 3 reads that supply 4 KiB, 5 of no byte, 7 at the end, and one that fails
EMPTY_READS = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_RDONLY)
for _ in range(3): assert len(os.read(descriptor, 4096)) == 4096
for _ in range(5): os.read(descriptor, 0)
os.lseek(descriptor, 0, os.SEEK_END)
for _ in range(7): assert os.read(descriptor, 4096) == b""
try:
    os.pread(descriptor, 4096, -1)
except OSError:
    pass
"""
#: looks for names that are not there, each once, and for one that is
LOOK_FOR = """
import os, sys
for number in range(int(sys.argv[2])):
    assert not os.path.exists(os.path.join(sys.argv[1], f"absent-{os.getpid()}-{number}"))
assert os.path.exists(os.path.join(sys.argv[1], "m0.py"))
"""
#: stops the client for a time, and reads meanwhile; prints when it was told to stop and to go on
READ_STOPPED = """
import json, os, signal, sys, time
client, times = int(os.getxattr(sys.argv[1], "user.pid")), [time.monotonic_ns()]
os.kill(client, signal.SIGSTOP)
if not os.fork():
    time.sleep(0.3)
    times.append(time.monotonic_ns())
    os.kill(client, signal.SIGCONT)
    json.dump([client, *times], open(sys.argv[2], "w"))
    os._exit(0)
open(os.path.join(sys.argv[1], "model.bin"), "rb").read()
os.wait()
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Truth]:
    """A lab with many small modules and a file of several chunks."""
    root = tmp_path_factory.mktemp("patterns")
    modules = {f"m{number}.py": f"x = {number:011}\n" for number in range(FILES)}
    files = {name: text.replace(" 0", " 1").encode() for name, text in modules.items()}
    assert {len(data) for data in files.values()} == {FILE_BYTES}
    files["model.bin"] = random.Random(20261128).randbytes(MODEL_BYTES)
    with served_lab(root, files, LATENCY_S) as lab:
        yield Truth(lab, mount(lab), root)


def statistics(run: Run) -> Statistics:
    return compute(gather(run))


def patterns(run: Run) -> Patterns:
    return statistics(run).patterns


def headlines(run: Run) -> list[str]:
    return [finding.headline for finding in findings(statistics(run))]


def headline(run: Run, start: str) -> str:
    """Return the one headline that begins so."""
    (found,) = [each for each in headlines(run) if each.startswith(start)]
    return found


def test_a_cold_read_says_nothing_of_the_page_cache(library: Truth, trace: Trace) -> None:
    path = library.path("model.bin")
    library.cool()
    run = trace(READ_WHOLE, path)
    cached = patterns(run).page_cache
    assert (cached.used_bytes, cached.kept_bytes, cached.again_bytes) == (MODEL_BYTES, 0, 0)
    assert hits_on(run, path)["empty"].sum() == 1  # the read that finds the end
    assert "page cache" not in statistics(run).bytes.by_source
    assert not [each for each in headlines(run) if "page cache" in each]


def test_a_warm_read_used_the_page_cache_alone(library: Truth, trace: Trace) -> None:
    path = library.path("model.bin")
    with pinned(path):
        run = trace(READ_WHOLE, path)
    assert patterns(run).page_cache.kept_bytes == MODEL_BYTES
    assert statistics(run).bytes.by_source == {"page cache": MODEL_BYTES}
    assert headline(run, "No READ reached cvmfs2") == (
        "No READ reached cvmfs2: the kernel's page cache held all 8.00 MiB that the command read "
        "or mapped."
    )


def test_reads_that_supply_nothing_are_no_hits(library: Truth, trace: Trace) -> None:
    path = library.path("model.bin")
    with pinned(path):
        run = trace(EMPTY_READS, path)
    hits = hits_on(run, path)
    assert (hits["count"].sum(), hits["empty"].sum(), hits["bytes"].sum()) == (3, 12, 3 * 4096)


def test_small_files_are_told_by_their_number(library: Truth, trace: Trace) -> None:
    before = library.cool()
    run = trace(IMPORT_ALL, library.mountpoint, FILES)
    served = library.served_hashes(before)
    files = patterns(run).whole_files
    assert files.count == len(served) == FILES
    assert (files.bytes, files.median_bytes) == (FILES * FILE_BYTES, FILE_BYTES)
    assert files.mean_at_once == 1.0
    assert FILES * LATENCY_S * 1e9 < files.held.wall_ns < statistics(run).command_time.wall_ns
    said = headline(run, "300 files of 16 B (median) were fetched one at a time: ")
    assert re.fullmatch(r".*: [\d.]+ m?s of [\d.]+ s\.", said)
    assert patterns(run).reading.small.count == 0


def test_a_client_that_was_stopped_is_told(library: Truth, trace: Trace, tmp_path: Path) -> None:
    """What waited for it says nothing of its server."""
    library.cool()
    times = tmp_path / "times.json"
    run = trace(READ_STOPPED, library.mountpoint, times)
    client, told, goes_on = json.loads(times.read_text())
    (stop,) = run.tables["incidents"].filter(kind="stop").to_dicts()
    assert stop["pid"] == client and told <= stop["time_ns"]
    lasted_ns = int(str(stop["detail"]).split()[-2]) * 1_000_000
    assert goes_on - stop["time_ns"] - 1_000_000 <= lasted_ns
    assert headline(run, "A client was stopped ").endswith(" after the start.")


def test_names_that_are_not_there_are_told_from_those_that_are(
    library: Truth, trace: Trace
) -> None:
    """The clients answer a lookup of an absent name without an error, with node 0."""
    library.cool()
    run = trace(LOOK_FOR, library.mountpoint, 150)
    asked = patterns(run).names
    assert asked.not_found == 150 <= asked.lookups <= 150 + 10


def test_single_pages_in_order_are_told(library: Truth, trace: Trace) -> None:
    path = library.path("model.bin")
    before = library.cool()
    run = trace(MAPPED_AT_RANDOM, path)
    assert len(library.served_hashes(before)) == CHUNKS
    small = patterns(run).reading.small
    assert (small.count, small.bytes) == (PAGES, PAGES * 4096)
    assert (small.ordered, small.by_fault) == (PAGES - 1, PAGES)
    assert headline(run, f"{PAGES:,} requests of 4.00 KiB each took ").endswith(" apiece.")


@pytest.mark.parametrize(
    ("how", "meaning"),
    [("direct", "They bypassed the kernel's page cache "), ("back", "They go backwards through ")],
)
def test_pages_that_are_read_past_the_page_cache_or_backwards(
    library: Truth, trace: Trace, how: str, meaning: str
) -> None:
    path = library.path("model.bin")
    library.cool()
    with pinned(path):  # its chunks come to the client's cache, so that requests are what costs
        pass
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    run = trace(PAGE_BY_PAGE, path, how)
    small = patterns(run).reading.small
    assert (small.count, small.files, small.by_fault) == (2048, 1, 0)
    assert (small.ordered, small.backwards) == ((2047, 0) if how == "direct" else (0, 2047))
    assert (small.inserted_bytes == 0) is (how == "direct")
    of_pages = " requests of 4.00 KiB each took "
    (found,) = (each for each in findings(statistics(run)) if of_pages in each.headline)
    assert found.meaning.startswith(meaning)


def test_what_a_memory_limit_drops_is_read_again(library: Truth, trace: Trace) -> None:
    path = library.path("model.bin")
    before = library.cool()
    with limited_memory(path.stat().st_size) as group:
        run = trace(READ_THRICE, path, group)
    assert len(library.served_hashes(before)) == CHUNKS  # the client's cache kept them
    again = patterns(run).reading.again
    assert again.asked_bytes - again.again_bytes == PAGES * 4096
    assert again.again_bytes > PAGES * 4096
    assert again.path == str(path)
    assert again.inserted_bytes == again.asked_bytes


def test_what_stays_in_memory_is_not_read_again(library: Truth, trace: Trace) -> None:
    path = library.path("model.bin")
    library.cool()
    run = trace(READ_THRICE, path)
    found = patterns(run)
    assert (found.reading.again.asked_bytes, found.reading.again.again_bytes) == (PAGES * 4096, 0)
    assert found.page_cache.used_bytes == 3 * MODEL_BYTES
    assert found.page_cache.kept_bytes == 0
    assert headline(run, "67 % of 24.0 MiB that the command read or mapped was in the kernel's")
    assert not [each for each in headlines(run) if "brought before" in each]


def test_processes_that_read_one_file(library: Truth, trace: Trace) -> None:
    path = library.path("model.bin")
    before = library.cool()
    run = trace(READ_AT_ONCE, *[path] * 6)
    served = library.served_hashes(before)
    assert len(served) == len(set(served)) == CHUNKS
    shared = patterns(run).shared
    assert (shared.processes, shared.read_bytes) == (6, 6 * MODEL_BYTES)
    assert shared.path == str(path)
    assert shared.asked_bytes == PAGES * 4096
    assert headline(run, "6 processes read the same file, and waited for that ")


@pytest.mark.parametrize("how", ["shared", "own"])
def test_threads_with_one_open_file_and_with_their_own(
    library: Truth, trace: Trace, how: str
) -> None:
    path = library.path("model.bin")
    before = library.cool()
    run = trace(THREADS, path, how, CHUNKS - 1)
    chunks = len(library.served_hashes(before))
    found = statistics(run)
    told = [each for each in headlines(run) if "threads read through one open file" in each]
    if how == "own":
        assert (found.patterns.one_handle, told) == (None, [])
        assert found.fetches.most_at_once > 1
        return
    handle = found.patterns.one_handle
    assert handle is not None
    assert (handle.path, handle.threads, handle.fetches) == (str(path), CHUNKS - 1, chunks)
    assert handle.mean_at_once == 1.0
    assert told[0].startswith(
        f"{CHUNKS - 1} threads read through one open file, for which cvmfs2 fetched {chunks} "
        "chunks one at a time: "
    )


@contextlib.contextmanager
def limited_memory(limit_bytes: int) -> Generator[Path]:
    """A cgroup with a limit of its memory, page cache included."""
    group = _MEMORY / f"cvmprof-test-{os.getpid()}"
    if not (_MEMORY / "memory.limit_in_bytes").exists():
        pytest.skip("this machine has no memory controller of cgroup v1")
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit_bytes))
        yield group
    finally:
        group.rmdir()
