"""Every kind of operation, by a program of known behaviour, with exact counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cvmprof.profiler.run.opened import Run

from .conftest import (
    CHUNK_BYTES,
    MODEL_BYTES,
    Trace,
    Truth,
    hits_on,
    operations_on,
    pinned,
    reads_of,
)

PAGES = -(-MODEL_BYTES // 4096)
PRIME = 101

READERS = {
    "pread": "for n in range(101): os.pread(fd, 1009, n * 65537)",
    "readv": "for n in range(101): os.readv(fd, [bytearray(509), bytearray(500)])",
    "preadv": "for n in range(101): os.preadv(fd, [bytearray(509), bytearray(500)], n * 65537)",
    "sendfile": (
        "out = os.memfd_create('x')\nfor n in range(101): os.sendfile(out, fd, n * 65537, 1009)"
    ),
    "splice": (
        "r, w = os.pipe()\n"
        "for n in range(101):\n  os.splice(fd, w, 1009, n * 65537); os.read(r, 4096)"
    ),
}
KIND = {"sendfile": "splice", "splice": "splice"}

RANDOM_FAULTS = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
view = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
view.madvise(mmap.MADV_RANDOM)
for number in range(101):
    view[number * 40 * 4096]
"""
POPULATE = """
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE | mmap.MAP_POPULATE, prot=mmap.PROT_READ)
"""
MLOCK = """
import ctypes, mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
size = 4 << 20
place = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_PRIVATE, fd, 0)
assert libc.mlock(place, size) == 0, ctypes.get_errno()
"""
ADVISE = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
os.posix_fadvise(fd, 0, 1 << 20, os.POSIX_FADV_WILLNEED)
"""


def _readahead_bytes(path: Path) -> int:
    """The most that advice makes the kernel read ahead on the file's mount."""
    device = os.stat(path).st_dev
    setting = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    return int(setting.read_text()) * 1024


def _queued_by(run: Run, path: Path, kind: str) -> int:
    """READs that operations of a kind on the file queued."""
    chosen = operations_on(run, path).filter(kind=kind)
    return reads_of(run).join(chosen, on="op_id", how="semi").height


@pytest.mark.parametrize("call", READERS)
def test_reads_of_every_kind(truth: Truth, trace: Trace, call: str) -> None:
    path = truth.path("model.bin")
    truth.cool()
    program = f"import os, sys\nfd = os.open(sys.argv[1], os.O_RDONLY)\n{READERS[call]}"
    run = trace(program, path)
    kind = KIND.get(call, "read")
    whole = operations_on(run, path).filter(kind=kind)
    hits = hits_on(run, path).filter(kind=kind)
    assert whole.height + hits["count"].sum() == PRIME
    assert int(whole["result"].sum()) + int(hits["bytes"].sum()) == PRIME * 1009
    assert reads_of(run)["op_id"].null_count() == 0
    stride = 1009 if call == "readv" else 65537
    assert set(whole["offset_bytes"]) <= {number * stride for number in range(101)}


def test_copy_file_range(truth: Truth, trace: Trace, tmp_path: Path) -> None:
    path, target = truth.path("twin-a.bin"), tmp_path / "copy"
    truth.cool()
    program = """
import errno, os, sys
source, target = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
try:
    os.copy_file_range(source, target, 1009, 4096)
except OSError as error:
    print(error.errno)
"""
    run = trace(program, path, target)
    copies = operations_on(run, path).filter(kind="splice")
    assert copies.height == 1  # across file systems the kernel refuses (EXDEV) or copies
    assert copies["result"].item() in (1009, -18)
    assert copies["offset_bytes"].item() == 4096


def test_each_first_touch_of_a_page_is_one_fault_and_one_read(truth: Truth, trace: Trace) -> None:
    path = truth.path("model.bin")
    truth.cool()
    run = trace(RANDOM_FAULTS, path)
    faults = operations_on(run, path).filter(kind="fault").sort("start_ns")
    assert faults["offset_bytes"].to_list() == [number * 40 * 4096 for number in range(PRIME)]
    reads = reads_of(run).join(faults, on="op_id", how="semi")
    assert reads.height == PRIME
    assert reads["size_bytes"].to_list() == [4096] * PRIME
    assert faults["end_ns"].null_count() == 0
    assert faults["result"].to_list() == [0] * PRIME


def test_touching_again_is_no_operation(truth: Truth, trace: Trace) -> None:
    path = truth.path("model.bin")
    with pinned(path):
        run = trace(RANDOM_FAULTS, path)
    assert operations_on(run, path).filter(kind="fault").is_empty()
    assert reads_of(run).is_empty()
    # the kernel maps cached pages 16 at a time around the address, past the fault handler
    assert run.tables["touches"]["pages_mapped"].sum() == PRIME * 16


def test_map_populate_is_one_operation_that_reads_the_file(truth: Truth, trace: Trace) -> None:
    path = truth.path("model.bin")
    truth.cool()
    run = trace(POPULATE, path)
    populated = operations_on(run, path).filter(kind="populate")
    assert populated.height == 1
    assert (populated["offset_bytes"].item(), populated["size_bytes"].item()) == (0, MODEL_BYTES)
    assert operations_on(run, path).filter(kind="fault").is_empty()
    assert reads_of(run)["size_bytes"].sum() == PAGES * 4096
    assert _queued_by(run, path, "populate") == reads_of(run).height


def test_mlock_is_one_operation_that_reads_its_range(truth: Truth, trace: Trace) -> None:
    path = truth.path("model.bin")
    truth.cool()
    run = trace(MLOCK, path)
    assert operations_on(run, path).filter(kind="populate").height == 1
    assert operations_on(run, path).filter(kind="fault").is_empty()
    assert reads_of(run)["size_bytes"].sum() >= 4 << 20
    assert _queued_by(run, path, "populate") == reads_of(run).height


def test_advice_is_one_operation_that_queues_reads(truth: Truth, trace: Trace) -> None:
    path = truth.path("model.bin")
    truth.cool()
    run = trace(ADVISE, path)
    advised = operations_on(run, path).filter(kind="advise")
    assert advised.height == 1
    assert (advised["offset_bytes"].item(), advised["size_bytes"].item()) == (0, CHUNK_BYTES)
    assert reads_of(run)["size_bytes"].sum() == min(CHUNK_BYTES, _readahead_bytes(path))
    assert _queued_by(run, path, "advise") == reads_of(run).height


def test_open_and_metadata(truth: Truth, trace: Trace) -> None:
    path = truth.path("twin-a.bin")
    truth.cool()
    program = """
import os, sys
for _ in range(7):
    os.close(os.open(sys.argv[1], os.O_RDONLY))
os.getxattr(sys.argv[1], "user.chunks")
"""
    run = trace(program, path)
    opens = operations_on(run, path).filter(kind="open")
    assert opens.height == 7
    requests = run.tables["fuse_requests"]
    assert requests.filter(opcode=14).height == 7  # OPEN
    assert requests.filter(opcode=22).height == 1  # GETXATTR
    named = requests.filter(opcode=22).join(run.tables["operations"], on="op_id")
    assert named["kind"].to_list() == ["metadata"]


def test_pages_inserted_are_the_files(truth: Truth, trace: Trace) -> None:
    path = truth.path("model.bin")
    truth.cool()
    run = trace(POPULATE, path)
    assert os.stat(path).st_size == MODEL_BYTES
    assert run.tables["touches"]["pages_inserted"].sum() == PAGES
