"""Damaged and malicious model files: one remark each, and what is sound is kept."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from cvmprof.profiler.model import reader
from cvmprof.profiler.model.reader import answer
from cvmprof.tests.models import WRITERS

SOUND = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


def written(path: Path, header: bytes, data: bytes = bytes(64), length: int | None = None) -> Path:
    """A safetensors file with any header."""
    size = len(header) if length is None else length
    path.write_bytes(struct.pack("<Q", size) + header + data)
    return path


def names(found: dict[str, Any]) -> list[str]:
    return [row[0] for file in found["files"] for row in file["tensors"]]


@pytest.mark.parametrize(
    ("header", "length", "remark"),
    [
        (b"{}", 1 << 63, f"ends before byte {(1 << 63) + 8:,}, which its header needs"),
        (b"{", None, "has a header that is not JSON"),
        (b"\xff\xfe{}", None, "has a header that is not JSON"),
        (b'{"a":' * 100_000, None, "has a header that is not JSON"),
        (b"[1]", None, "has a header that is not a JSON object"),
        (b'{"a": ' + b"9" * 5000 + b"}", None, "has a header that is not JSON"),
    ],
)
def test_headers_that_cannot_be_read(
    tmp_path: Path, header: bytes, length: int | None, remark: str
) -> None:
    path = written(tmp_path / "m.safetensors", header, length=length)
    found = answer(str(path), 100)
    assert (found["files"], found["remarks"]) == ([], [remark])
    # without the name of a model it is none
    assert answer(str(path.rename(tmp_path / "data")), 100)["remarks"] == []


@pytest.mark.parametrize(
    "entry",
    [
        7, None, [], {}, {**SOUND, "dtype": 1}, {**SOUND, "shape": "4"}, {**SOUND, "shape": [-4]},
        {**SOUND, "shape": [1.5]}, {**SOUND, "shape": [True]}, {**SOUND, "data_offsets": [0]},
        {**SOUND, "data_offsets": [-8, 16]}, {**SOUND, "data_offsets": [16, 0]},
        {**SOUND, "data_offsets": [0, 1 << 70]}, {**SOUND, "shape": [1] * 1000},
        {**SOUND, "shape": [1 << 63]},
    ],
)  # fmt: skip
def test_a_damaged_entry_is_left_out_alone(tmp_path: Path, entry: object) -> None:
    header = {"__metadata__": {"a": "b"}, "bad": entry, "good": SOUND}
    path = written(tmp_path / "m.safetensors", json.dumps(header).encode())
    found = answer(str(path), 100)
    assert found["remarks"] == ["damaged entries, left out: 1"]
    assert names(found) == ["good"]


def test_tensors_beyond_the_end_are_left_out(tmp_path: Path) -> None:
    header = {"in": {**SOUND, "data_offsets": [48, 64]}, "out": {**SOUND, "data_offsets": [49, 65]}}
    found = answer(str(written(tmp_path / "m.safetensors", json.dumps(header).encode())), 100)
    assert names(found) == ["in"]
    remark = "tensors beyond the end of their file, left out: 1"
    assert found["remarks"] == [remark]


def test_names_that_occur_twice_and_ranges_that_overlap_are_kept(tmp_path: Path) -> None:
    entries = [("a", 0, 16), ("a", 16, 32), ("b", 24, 40), ("tied", 24, 40)]
    texts = (f'"{n}": {json.dumps({**SOUND, "data_offsets": [x, y]})}' for n, x, y in entries)
    header = f"{{{', '.join(texts)}}}".encode()
    found = answer(str(written(tmp_path / "m.safetensors", header)), 100)
    assert names(found) == ["a", "a", "b", "tied"]
    assert found["remarks"] == [
        "names of several tensors: 1", "tensors that overlap others: 1",
    ]  # fmt: skip


def test_names_are_cut_and_escaped(tmp_path: Path) -> None:
    header = json.dumps({"\ud800" + "x" * 5000: {**SOUND, "dtype": "T" * 100}}).encode()
    (file,) = answer(str(written(tmp_path / "m.safetensors", header)), 100)["files"]
    (row,) = file["tensors"]
    assert row[0] == "\\ud800" + "x" * 999
    assert row[3] == "T" * 40
    json.dumps(row).encode("utf-8")


def test_no_more_tensors_than_asked_for(tmp_path: Path) -> None:
    header = json.dumps({str(number): SOUND for number in range(10)}).encode()
    path = written(tmp_path / "m.safetensors", header)
    assert answer(str(path), 10)["remarks"] == []
    found = answer(str(path), 9)
    assert len(names(found)) == 9
    assert found["remarks"] == ["only the first 9 tensors are kept"]


def model_of(*tensors: TensorProto) -> bytes:
    graph = helper.make_graph([], "graph", [], [], tensors)
    return bytes(helper.make_model(graph).SerializeToString())


def external(name: str, **entries: object) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "a/../../secret", "", "a\0b"])
def test_external_data_outside_the_directory_is_left_out(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    (tmp_path / "models").mkdir()
    path = tmp_path / "models" / "m.onnx"
    path.write_bytes(model_of(external("w", location=location)))
    found = answer(str(path), 100)
    remark = "tensors outside the model's directory, left out: 1"
    assert (found["files"], found["remarks"]) == ([], [remark])


def test_external_data_that_is_missing_a_device_or_the_model_itself(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    os.mkfifo(tmp_path / "fifo")
    path.write_bytes(model_of(
        external("gone", location="gone"), external("fifo", location="fifo"),
        external("self", location="m.onnx", offset=3, length=5),
        external("word", location="m.onnx", offset="three"),
        external("before", location="m.onnx", offset=-3),
    ))  # fmt: skip
    found = answer(str(path), 100)
    assert [(file["path"], file["tensors"]) for file in found["files"]] == [
        (str(path), [["self", 3, 5, "FLOAT", [4]]])
    ]
    assert found["remarks"] == [
        "damaged entries, left out: 2",
        "data in a file that is not there: gone",
        "tensors beyond the end of their file, left out: 1",
    ]


def test_an_onnx_file_that_was_cut_off_keeps_the_tensors_before(tmp_path: Path) -> None:
    arrays = {f"w{n}": np.zeros(1000, np.float32) for n in range(3)}
    path = tmp_path / "m.onnx"
    WRITERS["onnx"][1](path, arrays)
    whole = path.read_bytes()
    assert len(whole) > 12_000
    # the graph, whose length says that it goes on, is the last field but one
    path.write_bytes(whole[:9000])
    (remark,) = answer(str(path), 100)["remarks"]
    assert remark.startswith("has a field that ends at byte 12,")


@pytest.mark.parametrize(
    ("data", "remark"),
    [
        (b"", "has no graph"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is not protobuf at byte 0"),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "is not protobuf at byte 1"),
        (b"\x3a\x04\x2a\x7f\x08\x01", "has a field that ends at byte 131, beyond its message"),
        (b"\x08\x07\x3a\x00", None),
    ],
)
def test_bytes_that_are_not_a_model(tmp_path: Path, data: bytes, remark: str | None) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    found = answer(str(path), 100)
    assert (found["files"], found["remarks"]) == ([], [remark] if remark else [])


def gguf_header(tensors: int, pairs: int, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs) + rest


def pair(key: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value


def entry(name: bytes, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    dims = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return struct.pack("<Q", len(name)) + name + dims + struct.pack("<IQ", kind, offset)


NESTED = struct.pack("<IQ", 9, 1) * 6
ENDLESS = struct.pack("<IQ", 8, 1 << 63)


@pytest.mark.parametrize(
    ("data", "remark"),
    [
        (b"GGML" + bytes(32), "does not begin with GGUF"),
        (gguf_header(0, 0, version=1), "is of GGUF version 1, not 2 or 3"),
        (gguf_header(1 << 63, 0), "ends before byte 32, which its header needs"),
        (gguf_header(0, 1 << 63), "ends before byte 32, which its header needs"),
        (gguf_header(0, 1, pair(b"a", 9, NESTED)), "has metadata of an unknown type before"),
        (gguf_header(0, 1, pair(b"a", 99, b"")), "has metadata of an unknown type before"),
        (gguf_header(0, 1, pair(b"a", 9, ENDLESS)), "ends before byte"),
        (gguf_header(0, 1, pair(b"a", 9, struct.pack("<IQ", 0, 1 << 62))), "ends before byte"),
        (gguf_header(0, 1, pair(b"general.alignment", 4, bytes(4))), "aligns its data to 0"),
        (gguf_header(1, 0, struct.pack("<QI", 0, 1 << 31)), "has a tensor of 2,147,483,648"),
        (gguf_header(1, 0, struct.pack("<Q", 1 << 63)), "ends before byte"),
    ],
)
def test_gguf_headers_that_cannot_be_read(tmp_path: Path, data: bytes, remark: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    found = answer(str(path), 100)
    (said,) = found["remarks"]
    assert found["files"] == []
    assert said.startswith(remark)


def test_a_gguf_type_that_nobody_knows_reaches_to_the_next_tensor(tmp_path: Path) -> None:
    rest = (
        pair(b"general.alignment", 4, struct.pack("<I", 64))
        + entry(b"last", (8,), 0, 128)
        + entry(b"new", (5,), 77, 64)
        + entry(b"huge", (1 << 63, 1 << 63), 0, 0)
        + entry(b"far", (8,), 0, (1 << 64) - 32)
    )
    header = gguf_header(4, 1, rest)
    start = -(-len(header) // 64) * 64
    path = tmp_path / "m.gguf"
    path.write_bytes(header.ljust(start + 160, b"\0"))
    found = answer(str(path), 100)
    assert [row for file in found["files"] for row in file["tensors"]] == [
        ["new", start + 64, 64, "type 77", [5]], ["last", start + 128, 32, "F32", [8]],
    ]  # fmt: skip
    assert found["remarks"] == ["damaged entries, left out: 2"]


def test_a_header_that_takes_long_ends_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "READ_TIMEOUT_S", 0.05)
    path = tmp_path / "m.gguf"
    strings = struct.pack("<IQ", 8, 1 << 62) + bytes(20_000_000)
    path.write_bytes(gguf_header(0, 1, pair(b"a", 9, strings)))
    (remark,) = answer(str(path), 100)["remarks"]
    assert remark == "has a header that takes longer than 0.05 s to read"


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.onnx")
    (tmp_path / "m.gguf").mkdir()
    for name in ("m.onnx", "m.gguf"):
        found = answer(str(tmp_path / name), 100)
        assert (found["files"], found["remarks"]) == ([], [])
    found = answer(str(tmp_path / "gone.onnx"), 100)
    assert found["remarks"] == ["cannot be read: No such file or directory"]
