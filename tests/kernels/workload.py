"""The conformance workload: files of a lab read, mapped and read ahead, in prime numbers.

Standard library only: the part that is traced runs under any Python. Readahead is off where single
pages are counted, so that each page is one FUSE request on every kernel.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

PAGE_BYTES = 4096
CHUNK_BYTES = 256 * 1024
#: chunks of each file
CHUNKS = {"read.bin": 13, "mapped.bin": 11, "ahead.bin": 7, "aio.bin": 3, "uring.bin": 3}
FETCHES = sum(CHUNKS.values())
COLD_READS, WARM_READS, FAULTS = 101, 97, 89
READ_BYTES = 65536
#: reads by io_submit, at once, and by io_uring, one by one: without preemption a return probe has
#: as many instances as there are CPUs
ASYNCHRONOUS = {"aio.bin": 7, "uring.bin": 5}


def pages_of(name: str, count: int) -> list[int]:
    """Which pages of a file are touched: distinct ones, in every chunk."""
    total = CHUNKS[name] * CHUNK_BYTES // PAGE_BYTES
    return [index * total // count for index in range(count)]


def run(mountpoint: Path) -> None:
    """Does it."""
    _read(mountpoint / "read.bin")
    _map(mountpoint / "mapped.bin")
    _read_ahead(mountpoint / "ahead.bin")
    for name, count in ASYNCHRONOUS.items():
        _read_asynchronously(mountpoint / name, count)


def _read(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
    pages = pages_of(path.name, COLD_READS)
    for page in pages + pages[:WARM_READS]:
        os.pread(descriptor, PAGE_BYTES, page * PAGE_BYTES)
    os.close(descriptor)


def _map(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    mapped.madvise(mmap.MADV_RANDOM)
    for page in pages_of(path.name, FAULTS):
        mapped[page * PAGE_BYTES]
    mapped.close()


def _read_ahead(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    reads = CHUNKS[path.name] * CHUNK_BYTES // READ_BYTES
    for _ in range(reads):  # not beyond the end: older kernels ask the daemon for that as well
        os.read(descriptor, READ_BYTES)
    os.close(descriptor)


def _read_asynchronously(path: Path, count: int) -> None:
    reader = Path(__file__).with_name("asynchronous.py")
    offsets = (str(PAGE_BYTES * page) for page in pages_of(path.name, count))
    way = "aio" if path.stem == "aio" else "single"
    command = [sys.executable, "-I", str(reader), way, str(path), *offsets]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
