"""Files written by the formats' own libraries: the bytes at each named range are the tensor's."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import gguf as gguf_library
import numpy as np
import pytest
from onnx import TensorProto, helper

from cvmprof.profiler.model.gguf import TENSOR_TYPES
from cvmprof.profiler.model.onnx import DATA_TYPES
from cvmprof.profiler.model.reader import answer
from cvmprof.runners.model import build_model, lay_out, plan_dimensions
from cvmprof.tests.models import WRITERS, Arrays, write_onnx_with_data

onnx_library: Any = import_module("onnx")  # its functions are partly untyped
ARRAYS: Arrays = {
    "layers.0.weight": np.arange(1009 * 7, dtype=np.float32).reshape(1009, 7),
    "layers.0.bias": np.arange(13, dtype=np.float16),
    "größe/ß": np.arange(24, dtype=np.int64).reshape(2, 3, 4),
    "steps": np.arange(5, dtype=np.int32),
}
DTYPES = {
    "safetensors": ["F32", "F16", "I64", "I32"],
    "onnx": ["FLOAT", "FLOAT16", "INT64", "INT32"],
    "onnx with data": ["FLOAT", "FLOAT16", "INT64", "INT32"],
    "gguf": ["F32", "F16", "I64", "I32"],
}


def rows_of(path: Path) -> dict[str, list[Any]]:
    """The rows of a model without remarks, by name."""
    found = answer(str(path), 1000)
    assert found["remarks"] == []
    (file,) = found["files"]
    return {row[0]: row[1:] for row in file["tensors"]}


@pytest.mark.parametrize("format_name", list(WRITERS))
@pytest.mark.parametrize("named", [True, False])
def test_every_tensor_where_its_library_wrote_it(
    tmp_path: Path, format_name: str, named: bool
) -> None:
    name, write = WRITERS[format_name]
    path = tmp_path / name
    holder = write(path, ARRAYS)
    if not named:
        path = path.rename(tmp_path / "0123abcd")  # as caches name what they hold
        holder = path if holder.suffix != ".data" else holder
    rows = rows_of(path)
    assert sorted(rows) == sorted(ARRAYS)
    data = holder.read_bytes()
    for (tensor, array), dtype in zip(ARRAYS.items(), DTYPES[format_name], strict=True):
        offset, size, found_dtype, shape = rows[tensor]
        assert data[offset : offset + size] == array.tobytes()
        assert found_dtype == dtype
        assert shape == list(array.shape if format_name != "gguf" else array.shape[::-1])


def test_the_lab_model(tmp_path: Path) -> None:
    """Its constants lie in the model, packed or raw, its weights in the other file."""
    model = build_model(tmp_path, 4 << 20)
    found = answer(str(model), 1000)
    own, external = found["files"]
    assert (own["path"], external["path"]) == (str(model), f"{model}.data")
    expected = [
        [weight.name, weight.offset_bytes, weight.size_bytes, "FLOAT", list(weight.shape)]
        for weight in lay_out(plan_dimensions(4 << 20))
    ]
    assert external["tensors"] == expected
    data = model.read_bytes()
    one = next(row for row in own["tensors"] if row[0] == "one")
    assert data[one[1] : one[1] + one[2]] == np.float32(1).tobytes()
    assert {row[0] for row in own["tensors"]} == {
        "one", "half", "root_two", "attention_scale", "split_shape", "join_shape",
    }  # fmt: skip


def test_onnx_data_in_a_file_for_each_tensor(tmp_path: Path) -> None:
    write_onnx_with_data(tmp_path / "first.onnx", ARRAYS)
    model = onnx_library.load(tmp_path / "first.onnx")
    onnx_library.save(
        model,
        tmp_path / "model.onnx",
        save_as_external_data=True,
        all_tensors_to_one_file=False,
        size_threshold=0,
    )
    found = answer(str(tmp_path / "model.onnx"), 1000)
    assert found["remarks"] == []
    held = {file["tensors"][0][0]: file for file in found["files"]}
    assert sorted(held) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        assert Path(held[name]["path"]).read_bytes() == array.tobytes()
        assert held[name]["tensors"][0][1:3] == [0, array.nbytes]


def test_external_data_is_found_where_links_lead(tmp_path: Path) -> None:
    holder = write_onnx_with_data(tmp_path / "model.onnx", ARRAYS)
    (tmp_path / "blobs").mkdir()
    blob = holder.rename(tmp_path / "blobs" / "0123")
    holder.symlink_to(blob)
    (file,) = answer(str(tmp_path / "model.onnx"), 1000)["files"]
    assert file["path"] == str(blob)


def test_external_data_without_a_length_has_that_of_its_shape(tmp_path: Path) -> None:
    tensor = TensorProto(name="nibbles", data_type=TensorProto.INT4, dims=[3, 5])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights")
    graph = helper.make_graph([], "graph", [], [], [tensor])
    (tmp_path / "model.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    (tmp_path / "weights").write_bytes(bytes(20))
    assert rows_of(tmp_path / "model.onnx") == {"nibbles": [0, 8, "INT4", [3, 5]]}


def test_quantised_gguf_tensors_have_the_size_of_their_blocks(tmp_path: Path) -> None:
    raw = np.arange(4 * 36, dtype=np.uint8).reshape(2, 72)
    writer = gguf_library.GGUFWriter(tmp_path / "m.gguf", "llama")
    for kind, name in ((gguf_library.GGMLQuantizationType.Q4_0, "q4"),):
        writer.add_tensor(name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    offset, size, dtype, shape = rows_of(tmp_path / "m.gguf")["q4"]
    assert (size, dtype, shape) == (144, "Q4_0", [128, 2])
    assert (tmp_path / "m.gguf").read_bytes()[offset : offset + size] == raw.tobytes()


def test_a_gguf_file_of_the_other_byte_order(tmp_path: Path) -> None:
    endian = gguf_library.GGUFEndian.BIG
    writer = gguf_library.GGUFWriter(tmp_path / "m.gguf", "llama", endianess=endian)
    writer.add_tensor("weight", np.arange(64, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    offset, size, dtype, shape = rows_of(tmp_path / "m.gguf")["weight"]
    assert (size, dtype, shape) == (256, "F32", [64])
    swapped = np.arange(64, dtype=np.float32).astype(">f4").tobytes()
    assert (tmp_path / "m.gguf").read_bytes()[offset : offset + size] == swapped


def test_the_types_are_those_of_the_libraries() -> None:
    sizes: dict[Any, tuple[int, int]] = gguf_library.GGML_QUANT_SIZES
    theirs = {int(kind): (kind.name, *sizes[kind]) for kind in sizes}
    # another version of the library may know fewer types, or more
    assert len(theirs) > 25
    for number, known in TENSOR_TYPES.items():
        assert theirs.get(number, known) == known
    numbered: Callable[[], list[tuple[str, int]]] = TensorProto.DataType.items
    for name, number in numbered():
        if number < len(DATA_TYPES):
            assert DATA_TYPES[number][0] == name
    for number in range(1, 17):
        if DATA_TYPES[number][1]:
            dtype = helper.tensor_dtype_to_np_dtype(number)
            assert DATA_TYPES[number][1] == dtype.itemsize * 8
