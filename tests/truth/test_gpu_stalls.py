"""Stalls of a stand-in GPU lead to the chunks that the server was ordered to send late."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cvmprof.profiler.run.opened import Run
from cvmprof.reports.material import gather
from cvmprof.reports.numbers.stalls import stalls
from cvmprof.runners.lab.lab import Rule, Shaping, mount, order
from cvmprof.tests.gpu.stand_ins import StandIns, compile_stand_ins, read_log
from cvmprof.tests.models import WRITERS

from .conftest import Trace, Truth, served_lab, traced
from .tensors import LOAD, chunks_of_tensors, model_and_data, published_models

__all__ = ["published_models"]

MIB = 1 << 20
LAYERS, LATE = 12, (3, 6, 10)
DELAY_S = 0.5
KERNEL_US = 3000
#: a busy machine may take a thread off its CPU in a probe
PRECISION_NS = 5_000_000

DRIVER = """
import ctypes, os, sys
cuda = ctypes.CDLL("libcuda.so.1")

def call(name, *arguments):
    assert getattr(cuda, name)(*arguments) == 0, name

def pointer(kind=ctypes.c_void_p):
    value = kind()
    return value, ctypes.byref(value)

context, to_context = pointer()
module, to_module = pointer()
kernel, to_kernel = pointer()
memory, to_memory = pointer(ctypes.c_uint64)
call("cuInit", 0)
call("cuDevicePrimaryCtxRetain", to_context, 0)
call("cuCtxSetCurrent", context)
call("cuModuleLoadData", to_module, b"code")
call("cuModuleGetFunction", to_kernel, module, b"layer")
call("cuMemAlloc_v2", to_memory, ctypes.c_size_t(1 << 26))

def compute(address, size):
    call("cuMemcpyHtoD_v2", memory, ctypes.c_void_p(address), ctypes.c_size_t(size))
    call("cuLaunchKernel", kernel, KERNEL_US, 1, 1, 1, 1, 1, 0, None, None, None)
    call("cuStreamSynchronize", None)
""".replace("KERNEL_US", str(KERNEL_US))

#: copies each range of a mapped file to the device, and computes with it
FROM_A_MAPPING = (
    DRIVER
    + """
import mmap
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
start = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
for offset, size in zip(map(int, sys.argv[2::2]), map(int, sys.argv[3::2])):
    compute(start + offset, size)
"""
)
#: another process reads each range, by a thread of its own, when it is asked, and sends it. Read
#: ahead, a late chunk would hold nothing up where this process lacks a CPU for as long.
FROM_A_LOADER = (
    DRIVER
    + """
import threading
ranges = list(zip(map(int, sys.argv[2::2]), map(int, sys.argv[3::2])))
incoming, outgoing = os.pipe()
asked, asking = os.pipe()
loader = os.fork()
if not loader:
    def load():
        with open(sys.argv[1], "rb", buffering=0) as file, open(outgoing, "wb", buffering=0) as out:
            for offset, size in ranges:
                os.read(asked, 1)
                file.seek(offset)
                out.write(file.read(size)[:1])
    thread = threading.Thread(target=load)
    thread.start()
    thread.join()
    os._exit(0)
buffer = ctypes.create_string_buffer(1 << 20)
for _ in ranges:
    os.write(asking, b"?")
    os.read(incoming, 1)
    compute(ctypes.addressof(buffer), 1 << 20)
os.waitpid(loader, 0)
"""
)


@dataclass(frozen=True)
class Late:
    """A mounted lab whose server sends the chunks `LATE` late; ``chunks``: hash, offset, size."""

    truth: Truth
    chunks: list[tuple[str, int, int]]

    @property
    def ranges(self) -> list[int]:
        """Offset and size of each chunk."""
        return [number for _, offset, size in self.chunks for number in (offset, size)]

    @property
    def late(self) -> list[str]:
        """The hashes of what comes late."""
        return [self.chunks[number][0] for number in LATE]


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Late]:
    root = tmp_path_factory.mktemp("late-chunks")
    with served_lab(root, {"model": os.urandom(LAYERS * MIB)}, 0.005) as lab:
        truth = Truth(lab, mount(lab), root)
        listed = os.getxattr(truth.path("model"), "user.chunk_list").decode().splitlines()[1:]
        fields = [line.split(",") for line in listed]
        chunks = [(name, int(offset), int(size)) for name, offset, size, *_ in fields]
        assert len(chunks) == LAYERS
        late = Late(truth, chunks)
        paths = "|".join(f"/{re.escape(name[:2])}/{name[2:]}" for name in late.late)
        order(lab, Shaping(0.005, rules=(Rule("delay", paths, delay_s=DELAY_S),)))
        yield late


@pytest.fixture(scope="module")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> StandIns:
    return compile_stand_ins(tmp_path_factory.mktemp("stand-ins"))


@pytest.fixture
def log(tmp_path: Path, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the driver's stand-in logs."""
    for name, value in stand_ins.environment(tmp_path / "log").items():
        monkeypatch.setenv(name, value)
    return tmp_path / "log"


def worst(run: Run) -> list[dict[str, Any]]:
    """The three stalls after the first kernel that a chunk held longest, in order of time, each
    with that chunk. On a busy machine others may last longer, for want of a CPU.
    """
    tables = run.tables
    chains = gather(run).stall_chains.with_columns(ns=pl.col("end_ns") - pl.col("start_ns"))
    total = chains.group_by("stall_id").agg(pl.col("ns").sum())
    held = (
        chains.drop_nulls("fetch_id")
        .join(tables.fetches.select("fetch_id", "object_hash"), on="fetch_id")
        .group_by("stall_id", "object_hash")
        .agg(held_ns=pl.col("ns").sum())
        .sort("held_ns")
        .unique("stall_id", keep="last", maintain_order=True)
    )
    stalls = tables.stalls.with_columns(ns=pl.col("end_ns") - pl.col("start_ns"))
    assert stalls.join(total, on="stall_id").filter(pl.col("ns") != pl.col("ns_right")).height == 0
    assert int(chains.filter(cause="unknown")["ns"].sum()) <= 0.02 * int(stalls["ns"].sum())
    between_kernels = stalls.sort("start_ns").tail(-1)
    longest = between_kernels.join(held, on="stall_id").sort("held_ns").tail(len(LATE))
    return longest.sort("start_ns").to_dicts()


def gaps(log: Path) -> set[tuple[int, int]]:
    """The gaps between kernels as the stand-in logged them: start, end.

    A request that reads ahead asks for the beginning of the next chunk too, so a late chunk may
    hold up the kernel before its own.
    """
    kernels = sorted(
        (line["start_ns"], line["end_ns"]) for line in read_log(log) if line["kind"] == "kernel"
    )
    assert len(kernels) == LAYERS
    return {(end, start) for (_, end), (start, _) in pairwise(kernels)}


def test_a_copy_that_faults_in_the_driver_leads_to_the_late_chunk(
    late: Late, log: Path, trace: Trace
) -> None:
    late.truth.cool()
    run = trace(FROM_A_MAPPING, late.truth.path("model"), *late.ranges)
    found = worst(run)
    assert [each["object_hash"] for each in found] == late.late
    assert {(each["start_ns"], each["end_ns"]) for each in found} <= gaps(log)
    for each in found:
        assert each["held_ns"] >= 0.9 * DELAY_S * 1e9
        assert each["source"] == "cupti"


def test_a_chain_over_a_thread_and_a_process_leads_to_the_late_chunk(
    late: Late, log: Path, trace: Trace
) -> None:
    late.truth.cool()
    run = trace(FROM_A_LOADER, late.truth.path("model"), *late.ranges)
    found = worst(run)
    assert [each["object_hash"] for each in found] == late.late
    assert {(each["start_ns"], each["end_ns"]) for each in found} <= gaps(log)
    assert all(each["held_ns"] >= 0.9 * DELAY_S * 1e9 for each in found)


def test_by_calls_alone_the_same_chunks_come_late(late: Late, log: Path, trace: Trace) -> None:
    """From the return of a synchronisation to the next submit. A uprobe is hit before the function
    begins, one on its return after it ended.
    """
    late.truth.cool()
    run = trace(FROM_A_LOADER, late.truth.path("model"), *late.ranges, options=("--gpu", "api"))
    found = worst(run)
    assert [each["object_hash"] for each in found] == late.late
    calls = [line for line in read_log(log) if line["kind"] == "call"]
    waits = [line["end_ns"] for line in calls if line["function"] == "cuStreamSynchronize"]
    copies = [line["start_ns"] for line in calls if line["function"].startswith("cuMemcpyHtoD")]
    for number, each in zip(LATE, found, strict=True):
        assert 0 <= each["start_ns"] - waits[number - 1] <= PRECISION_NS
        assert 0 <= copies[number] - each["end_ns"] <= PRECISION_NS
        assert each["source"] == "cuda_api"


@pytest.mark.parametrize("format_name", list(WRITERS))
def test_the_worst_stalls_name_the_tensors_of_the_late_chunks(
    models: Truth, tmp_path: Path, log: Path, format_name: str
) -> None:
    """Tensor by tensor to the device, a kernel after each: as a model's layers are loaded."""
    model, data = model_and_data(models, format_name)
    order(models.lab, Shaping())
    first = traced(tmp_path / "first.cvmprof", LOAD, model, data).tables
    file_id = first.files.filter(path=str(data))["file_id"].item()
    tensors = first.tensors.filter(file_id=file_id).sort("offset_bytes")
    places = tensors.select("offset_bytes", "size_bytes").rows()
    ranges = [number for place in places for number in place]
    chosen = chunks_of_tensors(data, tensors)
    models.cool()
    paths = "|".join(f"/{name[:2]}/{name[2:]}" for name, _ in chosen)
    order(models.lab, Shaping(rules=(Rule("delay", paths, delay_s=DELAY_S),)))

    read = "import sys; open(sys.argv.pop(1), 'rb').read(4096)\n"  # as a loader reads the header
    run = traced(tmp_path / "run.cvmprof", read + FROM_A_MAPPING, model, data, *ranges)
    longest = stalls(gather(run), LAYERS).longest
    after_start = [each for each in longest if each.stall_id > 0]
    worst = sorted(after_start[: len(chosen)], key=lambda stall: stall.start_ns)
    assert all(each.duration_ns >= DELAY_S * 1e9 for each in worst)
    links = [each.worst_chunk for each in worst]
    found = [
        (link.fetch.object_hash, link.access.part.tensors[0])
        for link in links
        if link and link.fetch and link.access
    ]
    assert found == chosen
