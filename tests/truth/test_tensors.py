"""Chunks that the server holds back come out as the tensors that were waited for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cvmprof.reports.findings.rules import findings
from cvmprof.reports.material import gather
from cvmprof.reports.numbers.statistics import compute
from cvmprof.runners.lab.lab import Lab, Rule, Shaping, mount, order
from cvmprof.tests.models import WRITERS

from .conftest import Truth, served_lab, traced

#: reads the model's header as a loader does, then touches every page of its data, in order
LOAD = """
import mmap, os, sys
model, data = sys.argv[1:]
with open(model, "rb", buffering=0) as file:
    file.read(4096)
descriptor = os.open(data, os.O_RDONLY)
view = mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
for offset in range(0, len(view), 4096):
    view[offset]
"""
LAYERS = 12
LAYER_SHAPE = (700, 512)  # 1.4 MiB of float32
#: how much later than the others the first, the second, the third of the slow chunks come
DELAYS_S = (0.6, 0.7, 0.5)
#: a request may begin so much before the chunk for which it waits
READAHEAD_BYTES = 256 << 10


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Truth]:
    """A mounted lab with a directory for each format."""
    root = tmp_path_factory.mktemp("tensors")
    generator = np.random.default_rng(20261128)
    for format_name, (name, write) in WRITERS.items():
        directory = root / "source" / format_name.replace(" ", "-")
        directory.mkdir(parents=True)
        shape = LAYER_SHAPE
        write(directory / name, {
            f"layers.{n}.weight": generator.random(shape, np.float32) for n in range(LAYERS)
        })  # fmt: skip
    with served_lab(root, root / "source") as lab:
        yield Truth(lab, mount(lab), root)


def chunk_starts(path: Path) -> list[tuple[str, int]]:
    """The chunks of a file as the client lists them: hash and offset."""
    lines = os.getxattr(path, "user.chunk_list").decode().split("\n")[1:]
    fields = (line.split(",") for line in lines if line)
    return [(object_hash[:40], int(offset)) for object_hash, offset, _ in fields]


def held_back(lab: Lab, hashes: list[str]) -> None:
    """Delay these objects."""
    rules = tuple(
        Rule("delay", f"/data/{each[:2]}/{each[2:]}", delay_s=delay_s)
        for each, delay_s in zip(hashes, DELAYS_S, strict=True)
    )
    order(lab, Shaping(rules=rules))


def holder(tensors: pl.DataFrame, offset: int) -> str | None:
    """The tensor that holds a byte and much before it."""
    begin, size = pl.col("offset_bytes"), pl.col("size_bytes")
    inside = tensors.filter((begin + READAHEAD_BYTES < offset) & (begin + size > offset))
    return inside["name"].item() if inside.height else None


@pytest.mark.parametrize("format_name", list(WRITERS))
def test_the_tensors_of_slow_chunks_are_the_latest(
    models: Truth, tmp_path: Path, format_name: str
) -> None:
    directory = models.mountpoint / format_name.replace(" ", "-")
    model = directory / WRITERS[format_name][0]
    data = model.with_name("model.onnx.data") if format_name == "onnx with data" else model
    order(models.lab, Shaping())
    first = traced(tmp_path / "first.cvmprof", LOAD, model, data).tables
    file_id = first["files"].filter(path=str(data))["file_id"].item()
    tensors = first["tensors"].filter(file_id=file_id)
    assert sorted(tensors["name"]) == sorted(f"layers.{n}.weight" for n in range(LAYERS))

    held = [(each, holder(tensors, offset)) for each, offset in chunk_starts(data)]
    usable = [(each, name) for each, name in held if name]
    chosen = [usable[at] for at in (1, len(usable) // 2, len(usable) - 1)]
    models.cool()
    held_back(models.lab, [each for each, _ in chosen])
    run = traced(tmp_path / "run.cvmprof", LOAD, model, data)

    statistics = compute(gather(run))
    latest = statistics.tensors.latest
    names = [name for _, name in chosen]
    assert [each.name for each in latest[:3]] == [names[1], names[0], names[2]]
    for tensor, delay_s in zip(latest, (0.7, 0.6, 0.5), strict=False):
        assert delay_s * 1e9 <= tensor.wait_ns < (delay_s + 0.25) * 1e9
        assert tensor.path == str(data)
    assert statistics.tensors.wait_ns <= statistics.duration_ns
    (finding,) = [each for each in findings(statistics) if "late" in each.headline]
    assert finding.meaning.startswith(f"Latest: {names[1]} waited 7")
    assert run.tables["losses"].is_empty()
    assert run.tables["incidents"].filter(pl.col("kind").is_in(["unnamed", "unasked"])).is_empty()


def test_naming_tensors_leaves_no_trace_in_the_run(models: Truth, tmp_path: Path) -> None:
    """The command opened the model and read nothing: so nothing was fetched, and the counters of
    the client agree.
    """
    model = models.mountpoint / "gguf" / "model.gguf"
    order(models.lab, Shaping())
    models.cool()
    run = traced(tmp_path / "run.cvmprof", "import os, sys; os.open(sys.argv[1], 0)", model)
    assert run.tables["tensors"].height == LAYERS
    assert run.tables["fetches"].filter(object_kind="chunk").is_empty()
    assert run.tables["fuse_requests"].filter(opcode=15).is_empty()
    compared = run.tables["reconciliation"].drop_nulls("difference")
    assert compared.filter(pl.col("quantity") != "chunks")["difference"].to_list() == [0, 0]
    assert run.tables["operations"]["kind"].unique().to_list() == ["open"]
