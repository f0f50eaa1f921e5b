"""Which files are asked for tensors, and what is said where that ends early."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from cvmprof.profiler.finalise import finalise
from cvmprof.profiler.run.spool import Spool
from cvmprof.profiler.session import helper, tensors
from cvmprof.profiler.session.attributes import collect
from cvmprof.tests.models import write_gguf, write_safetensors

from .test_attributes import EXT4_MAGIC, FUSE_MAGIC, lines, used

if TYPE_CHECKING:
    from tests.profiler.conftest import SpoolWriter

ARRAYS = {f"layers.{n}": np.full(8, n, np.float32) for n in range(3)}


def place(path: Path, size: int | None = None, *, is_superblock: bool = False) -> dict[str, Any]:
    size_bytes = path.stat().st_size if size is None else size
    where = {"path": str(path), "mountpoint": str(path.parent)}
    return {**where, "size_bytes": size_bytes, "is_superblock": is_superblock}


def collected(
    writer: SpoolWriter, *places: dict[str, Any], silent: tuple[Path, ...] = ()
) -> list[dict[str, Any]]:
    """The lines of files that hold tensors."""
    notes: list[tuple[str, dict[str, Any]]] = []

    def note(kind: str, **values: Any) -> None:
        writer.journal(kind, 7, **values)
        notes.append((kind, values))

    schema = {
        "path": pl.String, "mountpoint": pl.String, "size_bytes": pl.Int64,
        "is_superblock": pl.Boolean,
    }  # fmt: skip
    frame = pl.DataFrame(places, schema=schema)
    tensors.collect_tensors(writer.run, frame, list(map(str, silent)), note)
    assert {kind for kind, _ in notes} <= {"reader", "incident"}
    return Spool(writer.run).tensor_lines()


def details(writer: SpoolWriter) -> list[str]:
    """What was noted as wrong."""
    if not (writer.run / "journal.jsonl").exists():
        return []
    return [line["detail"] for line in lines(writer.run, "incident")]


def test_models_by_name_and_large_files_by_their_first_bytes(
    spool_writer: SpoolWriter, tmp_path: Path
) -> None:
    named = write_safetensors(tmp_path / "named.safetensors", ARRAYS)
    blob = write_gguf(tmp_path / "blob", {"w": np.zeros(1 << 18, np.float32)})
    small = write_gguf(tmp_path / "small", ARRAYS)
    other = tmp_path / "other"
    other.write_bytes(bytes(2 << 20))
    found = collected(spool_writer, *(place(each) for each in (other, blob, small, named, named)))
    assert [(line["path"], len(line["tensors"])) for line in found] == [
        (str(named), 3), (str(blob), 1),
    ]  # fmt: skip
    device = os.stat(named).st_dev
    assert found[0]["device"] == f"{os.major(device)}:{os.minor(device)}"
    assert details(spool_writer) == []
    assert len(lines(spool_writer.run, "reader")) == 1


def test_places_of_mounts_and_files_without_a_path_are_not_asked(
    spool_writer: SpoolWriter, tmp_path: Path
) -> None:
    model = write_safetensors(tmp_path / "m.safetensors", ARRAYS)
    unknown = {"path": None, "size_bytes": 1 << 30, "is_superblock": False}
    assert collected(spool_writer, place(model, is_superblock=True), unknown) == []


def test_files_of_a_mount_that_did_not_answer_are_left_alone(
    spool_writer: SpoolWriter, tmp_path: Path
) -> None:
    model = write_safetensors(tmp_path / "m.safetensors", ARRAYS)
    assert collected(spool_writer, place(model), silent=(tmp_path,)) == []
    assert details(spool_writer) == ["1 files were not read: their mount is silent"]
    assert lines(spool_writer.run, "reader") == []


@pytest.mark.parametrize(("all_files", "kept"), [(False, 0), (True, 3)])
def test_other_file_systems_only_with_all_files(
    spool_writer: SpoolWriter, tmp_path: Path, all_files: bool, kept: int
) -> None:
    write_safetensors(tmp_path / "m.safetensors", ARRAYS)
    spool_writer.journal("start", 1000, schema_version=1, options={"all_files": all_files})
    used(spool_writer, tmp_path, "m.safetensors", EXT4_MAGIC, 1)
    collect(spool_writer.run)
    assert sum(len(line["tensors"]) for line in Spool(spool_writer.run).tensor_lines()) == kept


def test_remarks_become_incidents_of_a_run(spool_writer: SpoolWriter, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGML")
    spool_writer.begin()
    used(spool_writer, tmp_path, "m.gguf", FUSE_MAGIC, 1)
    spool_writer.end(2000)
    collect(spool_writer.run)
    run = finalise(spool_writer.run)
    incidents = run.tables["incidents"].filter(kind="unnamed")
    assert incidents["detail"].to_list() == [f"{tmp_path}/m.gguf: does not begin with GGUF"]
    assert run.tables["tensors"].height == 0


def test_limits_of_files_tensors_and_remarks(
    spool_writer: SpoolWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [write_safetensors(tmp_path / f"{n}.safetensors", ARRAYS) for n in range(4)]
    monkeypatch.setattr(tensors, "MAX_TENSORS", 5)
    monkeypatch.setattr(tensors, "MAX_FILES", 3)
    found = collected(spool_writer, *map(place, models))
    assert [len(line["tensors"]) for line in found] == [3, 2]
    assert details(spool_writer) == [
        "only 3 of 4 files were looked at",
        f"{models[1]}: only the first 5 tensors of the run are kept",
        "1 files were not looked at: enough were read",
    ]
    monkeypatch.setattr(tensors, "MAX_REMARKS", 1)
    collected(spool_writer, *map(place, models))
    assert details(spool_writer)[3:] == [
        "only 3 of 4 files were looked at", "2 more remarks on tensors are left out",
    ]  # fmt: skip


def test_no_time_is_left(
    spool_writer: SpoolWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_safetensors(tmp_path / "m.safetensors", ARRAYS)
    monkeypatch.setattr(tensors, "TOTAL_TIMEOUT_S", -1.0)
    assert collected(spool_writer, place(model)) == []
    assert details(spool_writer) == ["1 files were not looked at: enough were read"]


#: answers one request, then no more
SILENT = """
import json, signal, sys
print(flush=True)
print(json.dumps({**json.loads(sys.stdin.readline()), "files": [], "remarks": []}), flush=True)
sys.stdin.readline()
signal.pause()
"""
#: dies in the middle of its answer
DYING = """
import os, sys
print(flush=True)
sys.stdin.readline()
os.write(1, b'{"path": "/a')
"""


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (SILENT, ["1", "3", "5", "2 files were not looked at: 3 helpers did not answer"]),
        (DYING, ["0", "1", "2", "5 files were not looked at: 3 helpers did not answer"]),
    ],
)
def test_helpers_that_are_lost(
    spool_writer: SpoolWriter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    expected: list[str],
) -> None:
    """Each loses one file, and the next one goes on behind it."""
    (tmp_path / "lost.py").write_text(program)
    monkeypatch.setattr(tensors, "READER", (str(tmp_path / "lost.py"),))
    monkeypatch.setattr(helper, "TIMEOUT_S", 0.5)
    paths = [tmp_path / f"{n}.onnx" for n in range(8)]
    assert collected(spool_writer, *(place(path, 1) for path in paths)) == []
    lost = [f"{tmp_path}/{number}.onnx: no answer within 2 s" for number in expected[:-1]]
    assert details(spool_writer) == [*lost, expected[-1]]
    assert len(lines(spool_writer.run, "reader")) == 3


def test_the_reader_imports_the_standard_library_only() -> None:
    program = (
        "import sys, cvmprof.profiler.model.reader\n"
        "tops = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(tops & {'numpy', 'polars', 'onnx', 'gguf', 'click'}))"
    )
    command = [sys.executable, "-I", "-c", program]
    assert subprocess.run(command, check=True, capture_output=True).stdout == b"[]\n"
