"""Files on FUSE that the kernel reads past the daemon (FUSE passthrough)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from cvmprof.probes.kernel import running_kernel
from cvmprof.profiler.attribution.causes import operation_classes
from cvmprof.runners.lab.cold import cached_bytes, cold

from .conftest import Trace, operations_on

SIZE = 8 * (1 << 20) + 1009
PAGE = 4096
READS, FAULTS = 13, 11
#: far enough apart, and from the beginning, that no readahead brings others; the first by pread,
#: the rest by a mapping
STEP = SIZE // (READS + FAULTS + 1) // PAGE * PAGE
OFFSETS = [STEP * at for at in range(1, READS + FAULTS + 1)]
WORKLOAD = """
import mmap, os, sys
path, reads, faults, step = sys.argv[1], *map(int, sys.argv[2:])
descriptor = os.open(path, os.O_RDONLY)
for index in range(1, reads + 1):
    assert len(os.pread(descriptor, 4096, index * step)) == 4096
mapped = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
mapped.madvise(mmap.MADV_RANDOM)
for index in range(reads + 1, reads + faults + 1):
    mapped[index * step]
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Path]:
    """A file on FUSE that is read from another one, whose pages are on disk alone."""
    if "FUSE_FILE_PASSTHROUGH" not in running_kernel().offsets:
        pytest.skip("this kernel has no FUSE passthrough (CONFIG_FUSE_PASSTHROUGH, 6.9)")
    backing, mountpoint = tmp_path / "backing.bin", tmp_path / "mnt"
    mountpoint.mkdir()
    backing.write_bytes(os.urandom(SIZE))
    for _ in range(50):  # not those that are still on their way to the kernel's lists
        cold([backing])
        if not cached_bytes(backing):
            break
    else:
        pytest.skip(f"the pages of {backing} cannot be dropped here: it is in memory only")
    server = Path(__file__).with_name("passthrough.py")
    command = [sys.executable, "-I", str(server), str(mountpoint), str(backing)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"mounted\n"
        try:
            yield mountpoint / "model.bin"
        finally:
            subprocess.run(["umount", mountpoint], check=True)


def test_reads_and_faults_belong_to_the_file_on_fuse(served: Path, trace: Trace) -> None:
    run = trace(WORKLOAD, served, READS, FAULTS, STEP, options=("--every-read",))
    done = operations_on(run, served)
    read, faults = done.filter(kind="read"), done.filter(kind="fault")
    assert read["offset_bytes"].to_list() == OFFSETS[:READS]
    assert faults["offset_bytes"].to_list() == OFFSETS[READS:]
    assert read["passthrough"].all() and faults["passthrough"].all()
    assert read["result"].to_list() == [PAGE] * READS
    assert run.tables["fuse_requests"].filter(opcode=15).is_empty()


def test_their_disk_is_named(served: Path, trace: Trace) -> None:
    run = trace(WORKLOAD, served, READS, FAULTS, STEP, options=("--every-read",))
    done = operations_on(run, served).filter(pl.col("kind").is_in(["read", "fault"]))
    classes = operation_classes(run.tables["segments"], done)
    named = classes["class"].to_list()
    assert set(named) <= {"passthrough", "page cache"}  # a disk may answer before anybody sleeps
    assert named.count("passthrough") > (READS + FAULTS) // 2
    inside = run.tables["segments"].join(done, on="op_id", how="semi")
    assert set(inside["cause"]) <= {"disk", "copy", "runqueue"}
    assert run.tables["touches"]["pages_inserted"].sum() == READS + FAULTS
