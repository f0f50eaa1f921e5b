"""Models in every format whose tensors can be named, in a lab, and the tensors of their chunks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cvmprof.runners.lab.lab import mount
from cvmprof.tests.models import WRITERS

from .conftest import Truth, served_lab

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
#: a request may begin so much before the chunk for which it waits
READAHEAD_BYTES = 256 << 10


@pytest.fixture(scope="module", name="models")
def published_models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Truth]:
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


def holder(tensors: pl.DataFrame, offset: int) -> str | None:
    """The tensor that holds a byte and much before it."""
    begin, size = pl.col("offset_bytes"), pl.col("size_bytes")
    inside = tensors.filter((begin + READAHEAD_BYTES < offset) & (begin + size > offset))
    return inside["name"].item() if inside.height else None


def model_and_data(models: Truth, format_name: str) -> tuple[Path, Path]:
    """The file of a model, and the one that holds its tensors."""
    model = models.mountpoint / format_name.replace(" ", "-") / WRITERS[format_name][0]
    is_apart = format_name == "onnx with data"
    return model, model.with_name("model.onnx.data") if is_apart else model


def chunks_of_tensors(data: Path, tensors: pl.DataFrame) -> list[tuple[str, str]]:
    """Three chunks of a file, each with the tensor that holds its beginning and much before it."""
    held = [(each, holder(tensors, offset)) for each, offset in chunk_starts(data)]
    usable = [(each, name) for each, name in held if name]
    return [usable[at] for at in (1, len(usable) // 2, len(usable) - 1)]
