"""Runs an ONNX model in ONNX Runtime: one phase ``load``, then one phase ``run`` for each run."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from ..errors import CvmprofError, MissingDependency
from ..phases import phase

try:
    import numpy as np
    import numpy.typing as npt

    # ONNX Runtime has no types: it is imported as Any; _Session declares the part used here.
    onnxruntime: Any = import_module("onnxruntime")
    _native = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
except ImportError as error:
    raise MissingDependency(
        f"running a model needs the Python package {error.name}",
        "pip install 'cvmprof[cpu]', or 'cvmprof[gpu]' on a machine with CUDA",
    ) from error

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_TOKEN_INPUTS = ("tokens", "input_ids")
_TYPES = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
}

_ERRORS = tuple(
    each
    for each in vars(_native).values()
    if isinstance(each, type) and issubclass(each, Exception)
)

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class ModelRun:
    """The result of running a model, and how long it took."""

    provider: str
    """The execution provider of ONNX Runtime that ran it."""
    load_ns: int
    run_ns: tuple[int, ...]
    checksum: str
    """SHA-256 of the first run's outputs: equal for equal files on one machine."""


class _Tensor(Protocol):
    name: str
    type: str
    shape: Sequence[int | str | None]


class _Session(Protocol):
    def get_inputs(self) -> Sequence[_Tensor]: ...
    def get_outputs(self) -> Sequence[_Tensor]: ...
    def get_providers(self) -> Sequence[str]: ...
    def run(self, output_names: None, input_feed: dict[str, Array]) -> Sequence[Array]: ...


def run_model(
    path: Path,
    runs: int = 3,
    threads: int = 0,
    provider: str = "cpu",
    dimension: int = 32,
) -> ModelRun:
    """Load the model at ``path`` and run it ``runs`` times on the same made-up inputs.

    ``threads`` is the number of threads within an operator, 0 for ONNX Runtime's choice.
    ``provider`` is ``cpu``, ``cuda``, or ``auto``: CUDA if ONNX Runtime has it.
    ``dimension`` replaces the dimensions that the model leaves open, except the first, the batch,
    which is 1. Raises CvmprofError if the model cannot be loaded or run.
    """
    if not path.is_file():
        raise CvmprofError(f"there is no model {path}", "name an existing .onnx file")
    providers = _providers(provider)
    begun_ns = time.monotonic_ns()
    with phase("load"):
        session = _loaded(path, threads, providers)
    load_ns = time.monotonic_ns() - begun_ns
    outputs, run_ns = _timed_runs(path, session, _made_up_inputs(session, dimension), runs)
    return ModelRun(session.get_providers()[0], load_ns, run_ns, _checksum(outputs))


def _providers(choice: str) -> list[str]:
    offered = cast("list[str]", onnxruntime.get_available_providers())
    if choice == "cuda" and _CUDA not in offered:
        raise MissingDependency(
            "this ONNX Runtime has no CUDA provider",
            "pip install 'cvmprof[gpu]', or run on the CPU",
        )
    return [_CUDA, _CPU] if choice != "cpu" and _CUDA in offered else [_CPU]


def _loaded(path: Path, threads: int, providers: list[str]) -> _Session:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except _ERRORS as error:
        raise _refusal(path, "load", error) from error
    return cast("_Session", session)


def _timed_runs(
    path: Path, session: _Session, feed: dict[str, Array], runs: int
) -> tuple[Sequence[Array], tuple[int, ...]]:
    """Run ``runs`` times; return the first run's outputs and the time of each."""
    outputs: Sequence[Array] = ()
    run_ns: list[int] = []
    for _ in range(runs):
        begun_ns = time.monotonic_ns()
        try:
            with phase("run"):
                results = session.run(None, feed)
        except _ERRORS as error:
            raise _refusal(path, "run", error) from error
        run_ns.append(time.monotonic_ns() - begun_ns)
        outputs = outputs or results
    return outputs, tuple(run_ns)


def _refusal(path: Path, action: str, error: Exception) -> CvmprofError:
    reason = " ".join(str(error).split())
    return CvmprofError(
        f"ONNX Runtime cannot {action} {path}: {reason[:300]}",
        "check that the model and its external data file are complete and fit this ONNX Runtime",
    )


def _made_up_inputs(session: _Session, dimension: int) -> dict[str, Array]:
    """Return inputs that depend on the model's signature alone.

    Tokens are spread evenly over the vocabulary (the first output's last dimension), so that the
    whole embedding is read; every other input is all ones.
    """
    last = session.get_outputs()[0].shape[-1]
    vocabulary = last if isinstance(last, int) else 2
    feed: dict[str, Array] = {}
    for tensor in session.get_inputs():
        shape = _closed(tensor.shape, dimension)
        feed[tensor.name] = np.ones(shape, dtype=_TYPES.get(tensor.type, np.float32))
        if tensor.name in _TOKEN_INPUTS:
            spread = np.linspace(0, vocabulary - 1, num=math.prod(shape))
            feed[tensor.name] = spread.reshape(shape).astype(_TYPES[tensor.type])
    return feed


def _closed(shape: Sequence[int | str | None], dimension: int) -> list[int]:
    """Replace an open first dimension, the batch, by 1 and any other open one by ``dimension``."""
    return [
        each if isinstance(each, int) else 1 if axis == 0 else dimension
        for axis, each in enumerate(shape)
    ]


def _checksum(outputs: Sequence[Array]) -> str:
    digest = hashlib.sha256()
    for output in outputs:
        digest.update(np.ascontiguousarray(output).tobytes())
    return digest.hexdigest()
