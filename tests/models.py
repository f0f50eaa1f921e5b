"""Model files of each format, written by the formats' own libraries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

onnx: Any = import_module("onnx")  # its functions are partly untyped, as is the next one
safetensors: Any = import_module("safetensors.numpy")

Arrays = Mapping[str, "np.ndarray[Any, Any]"]


def write_safetensors(path: Path, arrays: Arrays) -> Path:
    """Write ``path``; return the file that holds the tensors."""
    safetensors.save_file(dict(arrays), path, {"format": "np"})
    return path


def write_onnx(path: Path, arrays: Arrays) -> Path:
    """Write a model that holds its own tensors."""
    onnx.save(_model(arrays), path)
    return path


def write_onnx_with_data(path: Path, arrays: Arrays) -> Path:
    """Write a model and one file with all of its tensors."""
    onnx.save(
        _model(arrays),
        path,
        save_as_external_data=True,
        location=f"{path.name}.data",
        size_threshold=0,
    )
    return path.with_name(f"{path.name}.data")


def write_gguf(path: Path, arrays: Arrays) -> Path:
    """Write a model with metadata of every kind."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 3)
    writer.add_float32("llama.epsilon", 1e-5)
    writer.add_array("tokenizer.ggml.tokens", ["a", "model", ""] * 100)
    writer.add_array("tokenizer.ggml.scores", [0.5] * 300)
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


WRITERS: dict[str, tuple[str, Callable[[Path, Arrays], Path]]] = {
    "safetensors": ("model.safetensors", write_safetensors),
    "onnx": ("model.onnx", write_onnx),
    "onnx with data": ("model.onnx", write_onnx_with_data),
    "gguf": ("model.gguf", write_gguf),
}


def _model(arrays: Arrays) -> ModelProto:
    tensors = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    node = helper.make_node("Identity", [tensors[0].name], ["y"])
    return helper.make_model(helper.make_graph([node], "graph", [], [output], tensors))
