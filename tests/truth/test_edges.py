"""Where the kernel reports no end, or another one: pinned pages, signals, killed requests."""

from __future__ import annotations

import subprocess
from pathlib import Path

import polars as pl

from .conftest import READ_ALL, Trace, Truth, operations_on, pinned, reads_of

PINNED = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>
int main(int argc, char **argv) {
    static char to[64 * 4096];
    int fd = open(argv[1], O_RDONLY);
    char *from = mmap(0, sizeof(to), PROT_READ, MAP_PRIVATE, fd, 0);
    struct iovec local = {to, sizeof(to)}, remote = {from, sizeof(to)};
    if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) != sizeof(to))
        return 1;
    usleep(300000);
    return to[0] != from[0];
}
"""
FUTURE = r"""
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
int main(int argc, char **argv) {
    int fd = open(argv[1], O_RDONLY);
    if (mlockall(MCL_FUTURE))
        return 1;
    mmap(0, 4 << 20, PROT_READ, MAP_PRIVATE, fd, 0);
    usleep(300000);
    return 0;
}
"""
SIGNALLED = r"""
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static void handler(int number) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    long end = until.tv_sec * 1000 + until.tv_nsec / 1000000 + 200;
    do
        clock_gettime(CLOCK_MONOTONIC, &until);
    while (until.tv_sec * 1000 + until.tv_nsec / 1000000 < end);
}
int main(int argc, char **argv) {
    int fd = open(argv[1], O_RDONLY);
    volatile char *from = mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    struct itimerval soon = {.it_value = {.tv_usec = 3000}};
    signal(SIGALRM, handler);
    setitimer(ITIMER_REAL, &soon, 0);
    return from[0] + 1 < -1000;
}
"""
COMPAT = r"""
int main(void) {
    for (int number = 0; number < 101; number++)
        __asm__ volatile("int $0x80" : : "a"(17), "b"(0), "c"(0), "d"(4096) : "memory");
    return 0;
}
"""


def compiled(directory: Path, text: str) -> Path:
    source, program = directory / "program.c", directory / "program"
    source.write_text(text)
    subprocess.run(["cc", "-O1", "-o", program, source], check=True)
    return program


EXECUTE = "import os, sys\nos.execv(sys.argv[1], sys.argv[1:])"


def test_pages_pinned_by_a_system_call_are_one_fault_that_ends_with_it(
    truth: Truth, trace: Trace, tmp_path: Path
) -> None:
    path = truth.path("model.bin")
    truth.cool()
    run = trace(EXECUTE, compiled(tmp_path, PINNED), path)
    fault = operations_on(run, path).filter(kind="fault").sort("start_ns").head(1)
    assert (fault["end_ns"] - fault["start_ns"]).item() < 200_000_000  # it sleeps 300 ms after
    assert fault["size_bytes"].item() > 4096
    assert reads_of(run)["op_id"].null_count() == 0
    assert run.tables["losses"].is_empty()


def test_pages_locked_by_a_mapping_end_with_its_system_call(
    truth: Truth, trace: Trace, tmp_path: Path
) -> None:
    path = truth.path("model.bin")
    truth.cool()
    run = trace(EXECUTE, compiled(tmp_path, FUTURE), path)
    faults = operations_on(run, path).filter(kind="fault")
    assert faults["end_ns"].null_count() == 0
    assert (faults["end_ns"] - faults["start_ns"]).max() < 280_000_000  # type: ignore[operator]
    assert reads_of(run)["op_id"].null_count() == 0
    assert run.tables["losses"].is_empty()


def test_a_signal_handler_between_a_faults_tries_is_not_the_fault(
    truth: Truth, trace: Trace, tmp_path: Path
) -> None:
    path = truth.path("model.bin")
    truth.cool()
    run = trace(EXECUTE, compiled(tmp_path, SIGNALLED), path)
    faults = operations_on(run, path).filter(kind="fault")
    took_ns = (faults["end_ns"] - faults["start_ns"]).sum()
    assert faults.height >= 1
    assert took_ns < 150_000_000  # the handler takes 200 ms


def test_32_bit_system_calls_are_not_read_as_others(trace: Trace, tmp_path: Path) -> None:
    run = trace(EXECUTE, compiled(tmp_path, COMPAT), options=("--all-files", "--every-read"))
    calls = run.tables["operations"].filter(kind="read", result=-38)
    assert calls.is_empty()


def test_a_long_read_is_spread_over_its_granules(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "long.bin"
    path.write_bytes(bytes(20_000_000))
    run = trace(READ_ALL, 32 << 20, path, options=("--all-files",))
    own = run.tables["files"].filter(path=str(path))
    touches = run.tables["touches"].join(own, on="file_id", how="semi")
    touched = touches.group_by("granule").agg(pl.col("bytes_read").sum())
    touched = touched.filter(pl.col("bytes_read") > 0).sort("granule")
    assert touched["granule"].to_list() == list(range(20))
    assert touched["bytes_read"].to_list() == [1 << 20] * 19 + [20_000_000 - 19 * (1 << 20)]


def test_preadv2_at_the_files_position(truth: Truth, trace: Trace) -> None:
    path = truth.path("twin-a.bin")
    program = """
import ctypes, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
os.lseek(fd, 8192, os.SEEK_SET)
class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
room = ctypes.create_string_buffer(1009)
vector = Vector(ctypes.addressof(room), 1009)
libc = ctypes.CDLL(None, use_errno=True)
assert libc.preadv2(fd, ctypes.byref(vector), 1, ctypes.c_long(-1), 0) == 1009
"""
    with pinned(path):
        run = trace(program, path, options=("--every-read",))
    read = operations_on(run, path).filter(kind="read")
    assert read.select("offset_bytes", "size_bytes", "result").rows() == [(8192, 1009, 1009)]
