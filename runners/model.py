"""Builds the model that is loaded: a transformer in ONNX with its weights in an external file.

``NAME.onnx`` holds the graph, ``NAME.onnx.data`` every weight as little-endian float32, each
tensor at a multiple of the page size, so that ONNX Runtime maps it and reads it by page faults. The
weights are pseudo-random: the same arguments give the same data file, byte for byte, on any
machine. They are written piece by piece, so memory does not grow with the model.

Input ``tokens``: int64 [batch, sequence]; output ``logits``: float32 [batch, sequence, vocabulary].
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ..errors import CvmprofError, MissingDependency

try:
    import numpy as np
    import numpy.typing as npt
    from onnx import NodeProto, TensorProto, helper
except ImportError as error:
    raise MissingDependency(
        f"building a model needs the Python package {error.name}",
        "pip install 'cvmprof[cpu]'",
    ) from error

PAGE_BYTES = 4096
DEFAULT_SIZE_BYTES = 256 << 20
SMALLEST_SIZE_BYTES = 1 << 20
OPSET = 17  # the first with LayerNormalization

_FLOAT_BYTES = 4
_HEAD_WIDTH = 64
_PIECE_BYTES = 1 << 20
_MANTISSA_BITS = 23
_WEIGHT_SPREAD = 0.04  # weights are uniform in ±half of it


@dataclass(frozen=True)
class Dimensions:
    """The sizes of a transformer; the widths are counts of float32 values."""

    layers: int
    width: int
    heads: int
    vocabulary: int


@dataclass(frozen=True)
class Weight:
    """One tensor of the external file."""

    name: str
    shape: tuple[int, ...]
    offset_bytes: int

    @property
    def size_bytes(self) -> int:
        """Return the tensor's length in the external file."""
        return math.prod(self.shape) * _FLOAT_BYTES


def build_model(
    directory: Path,
    size_bytes: int = DEFAULT_SIZE_BYTES,
    seed: int = 0,
    layers: int = 4,
    entropy: float = 1.0,
    name: str = "model",
) -> Path:
    """Write ``directory/NAME.onnx`` and ``NAME.onnx.data``; return the path of the first.

    The external file is exactly ``size_bytes`` long, rounded down to whole pages. ``entropy`` is
    the share of each weight's 23 mantissa bits that is random, 0 to 1: the lower, the better the
    file compresses. Raises CvmprofError if no model has this size and number of layers.
    """
    dimensions = plan_dimensions(size_bytes, layers)
    weights = lay_out(dimensions)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.onnx"
    graph = _serialized_model(dimensions, weights, f"{name}.onnx.data")
    with open(directory / f"{name}.onnx.data", "wb") as file:
        for number, weight in enumerate(weights):
            file.seek(weight.offset_bytes)
            _write_values(file, weight, seed, number, entropy)
        file.truncate(size_bytes // PAGE_BYTES * PAGE_BYTES)
    path.write_bytes(graph)
    return path


def plan_dimensions(size_bytes: int, layers: int = 4) -> Dimensions:
    """Return a transformer whose weights fill ``size_bytes`` up to a few pages.

    The layers get three quarters, as far as the width's step of 64 allows, the embedding and the
    output projection the rest.
    """
    if size_bytes < SMALLEST_SIZE_BYTES or layers < 1:
        raise CvmprofError(
            f"cannot build a model of {size_bytes} bytes with {layers} layers",
            f"ask for at least {SMALLEST_SIZE_BYTES} bytes and one layer",
        )
    ideal = math.isqrt(size_bytes * 3 // 4 // (12 * layers * _FLOAT_BYTES))
    width = ideal // _HEAD_WIDTH * _HEAD_WIDTH
    if width == 0:
        raise CvmprofError(
            f"{layers} layers do not fit in a model of {size_bytes} bytes",
            "ask for fewer layers or a larger model",
        )
    rest = size_bytes // PAGE_BYTES * PAGE_BYTES - _end_of(_layer_weights(layers, width))
    rows_per_page = max(1, PAGE_BYTES // (width * _FLOAT_BYTES))
    vocabulary = rest // (2 * width * _FLOAT_BYTES) // rows_per_page * rows_per_page
    while _end_of(_all_weights(Dimensions(layers, width, 0, vocabulary))) > size_bytes:
        vocabulary -= rows_per_page
    return Dimensions(layers, width, width // _HEAD_WIDTH, vocabulary)


def lay_out(dimensions: Dimensions) -> tuple[Weight, ...]:
    """Return the external file's tensors in file order, each beginning on a page."""
    weights: list[Weight] = []
    offset_bytes = 0
    for name, shape in _all_weights(dimensions):
        weights.append(Weight(name, shape, offset_bytes))
        offset_bytes = _page_end(offset_bytes + weights[-1].size_bytes)
    return tuple(weights)


_Shapes = list[tuple[str, tuple[int, ...]]]


def _all_weights(dimensions: Dimensions) -> _Shapes:
    width, vocabulary = dimensions.width, dimensions.vocabulary
    return [
        ("embedding", (vocabulary, width)),
        *_layer_weights(dimensions.layers, width),
        ("final.gamma", (width,)),
        ("final.beta", (width,)),
        ("projection", (width, vocabulary)),
    ]


def _layer_weights(layers: int, width: int) -> _Shapes:
    shapes: _Shapes = []
    for layer in range(layers):
        prefix = f"layer{layer}."
        for norm in ("attention", "feed"):
            shapes += [(f"{prefix}{norm}.gamma", (width,)), (f"{prefix}{norm}.beta", (width,))]
        shapes += [(f"{prefix}{each}", (width, width)) for each in ("query", "key", "value", "out")]
        shapes += [(f"{prefix}up", (width, 4 * width)), (f"{prefix}down", (4 * width, width))]
    return shapes


def _end_of(shapes: _Shapes) -> int:
    """Return how many bytes these tensors take, each rounded up to whole pages."""
    return sum(_page_end(math.prod(shape) * _FLOAT_BYTES) for _, shape in shapes)


def _page_end(offset_bytes: int) -> int:
    return -(-offset_bytes // PAGE_BYTES) * PAGE_BYTES


# --- the values ---------------------------------------------------------------------------------


def _write_values(file: IO[bytes], weight: Weight, seed: int, number: int, entropy: float) -> None:
    if weight.name.endswith(".gamma"):
        file.write(_ones(weight.size_bytes))
        return
    for piece in _random_pieces(weight.size_bytes, seed, number, entropy):
        file.write(piece)


def _ones(size_bytes: int) -> bytes:
    return np.ones(size_bytes // _FLOAT_BYTES, dtype="<f4").tobytes()


def _random_pieces(size_bytes: int, seed: int, number: int, entropy: float) -> Iterator[bytes]:
    """Yield a tensor's bytes; only one piece is in memory at a time.

    Made from the raw output of a generator whose stream NumPy promises to keep, by operations that
    IEEE 754 defines to the last bit.
    """
    generator = np.random.PCG64(np.random.SeedSequence((seed, number)))
    for start in range(0, size_bytes, _PIECE_BYTES):
        count = min(_PIECE_BYTES, size_bytes - start) // _FLOAT_BYTES
        raw = generator.random_raw(-(-count // 2)).astype("<u8", copy=False).view("<u4")[:count]
        yield _weights_from(raw, entropy).tobytes()


def _weights_from(raw: npt.NDArray[np.uint32], entropy: float) -> npt.NDArray[np.float32]:
    """Turn each 32 random bits into a value in ±spread/2 with a mantissa random by ``entropy``."""
    random_bits = round(_MANTISSA_BITS * min(max(entropy, 0.0), 1.0))
    mask = (1 << _MANTISSA_BITS) - (1 << (_MANTISSA_BITS - random_bits))
    one_to_two = ((raw & np.uint32(mask)) | np.uint32(127 << _MANTISSA_BITS)).view("<f4")
    return (one_to_two - np.float32(1.5)) * np.float32(_WEIGHT_SPREAD)


# --- the graph ----------------------------------------------------------------------------------


class _Graph:
    """Nodes in order; each call appends one and names its output."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Append a node; return the name of its output."""
        name = output or f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def normalized(self, value: str, prefix: str) -> str:
        """Append a layer normalisation over the last axis."""
        gamma, beta = f"{prefix}.gamma", f"{prefix}.beta"
        return self.add("LayerNormalization", value, gamma, beta, axis=-1, epsilon=1e-5)

    def gelu(self, value: str) -> str:
        """Append x · (1 + erf(x/√2)) / 2."""
        bent = self.add("Erf", self.add("Div", value, "root_two"))
        return self.add("Mul", self.add("Mul", value, self.add("Add", bent, "one")), "half")

    def heads(self, value: str, weight: str, order: tuple[int, ...]) -> str:
        """Append a projection split into heads, its axes then put in ``order``."""
        split = self.add("Reshape", self.add("MatMul", value, weight), "split_shape")
        return self.add("Transpose", split, perm=list(order))

    def attention(self, value: str, prefix: str) -> str:
        """Append multi-head attention of the sequence on itself."""
        query = self.heads(value, f"{prefix}query", (0, 2, 1, 3))
        key = self.heads(value, f"{prefix}key", (0, 2, 3, 1))
        values = self.heads(value, f"{prefix}value", (0, 2, 1, 3))
        scores = self.add("Mul", self.add("MatMul", query, key), "attention_scale")
        mixed = self.add("MatMul", self.add("Softmax", scores, axis=-1), values)
        joined = self.add("Transpose", mixed, perm=[0, 2, 1, 3])
        return self.add("MatMul", self.add("Reshape", joined, "join_shape"), f"{prefix}out")

    def layer(self, value: str, prefix: str) -> str:
        """Append one transformer layer with its two residual connections."""
        attended = self.attention(self.normalized(value, f"{prefix}attention"), prefix)
        value = self.add("Add", value, attended)
        raised = self.add("MatMul", self.normalized(value, f"{prefix}feed"), f"{prefix}up")
        fed = self.add("MatMul", self.gelu(raised), f"{prefix}down")
        return self.add("Add", value, fed)


def _serialized_model(dimensions: Dimensions, weights: tuple[Weight, ...], location: str) -> bytes:
    graph = _Graph()
    value = graph.add("Gather", "embedding", "tokens", axis=0)
    for layer in range(dimensions.layers):
        value = graph.layer(value, f"layer{layer}.")
    graph.add("MatMul", graph.normalized(value, "final"), "projection", output="logits")
    shape = ["batch", "sequence"]
    tokens = helper.make_tensor_value_info("tokens", TensorProto.INT64, shape)
    logits = helper.make_tensor_value_info(
        "logits", TensorProto.FLOAT, [*shape, dimensions.vocabulary]
    )
    tensors = [*_constants(dimensions), *(_external(weight, location) for weight in weights)]
    body = helper.make_graph(graph.nodes, "transformer", [tokens], [logits], tensors)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(body, opset_imports=[opset], ir_version=8, producer_name="cvmprof")
    return bytes(model.SerializeToString())


def _external(weight: Weight, location: str) -> TensorProto:
    """Return a tensor whose values lie in the external file."""
    tensor = TensorProto(name=weight.name, data_type=TensorProto.FLOAT, dims=weight.shape)
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": weight.offset_bytes, "length": weight.size_bytes}
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def _constants(dimensions: Dimensions) -> list[TensorProto]:
    """Return the few small values that stay in the graph's own file."""
    head_width = dimensions.width // dimensions.heads
    scalars = {
        "one": 1.0,
        "half": 0.5,
        "root_two": math.sqrt(2.0),
        "attention_scale": 1.0 / math.sqrt(head_width),
    }
    shapes = {
        "split_shape": [0, 0, dimensions.heads, head_width],
        "join_shape": [0, 0, dimensions.width],
    }
    make = helper.make_tensor
    return [
        *(make(name, TensorProto.FLOAT, [], [value]) for name, value in scalars.items()),
        *(make(name, TensorProto.INT64, [len(value)], value) for name, value in shapes.items()),
    ]
