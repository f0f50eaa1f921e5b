"""Runs an ONNX model in ONNX Runtime: one phase ``load``, then one phase ``run`` for each run.

Which provider ran it is what ONNX Runtime says after the load, not what was asked for.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from importlib import import_module
from io import StringIO
from pathlib import Path
from statistics import median
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

_TENSORRT = "TensorrtExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
#: the provider that is asked for, and what ONNX Runtime may use where it cannot run a node
_PROVIDERS = {"tensorrt": (_TENSORRT, _CUDA, _CPU), "cuda": (_CUDA, _CPU), "cpu": (_CPU,)}
_WAYS_OUT = {
    "tensorrt": "install TensorRT and pip install 'cvmprof[gpu]', or choose --provider cuda",
    "cuda": "pip install 'cvmprof[gpu]' without the package onnxruntime, or run on the CPU",
}
_WARNING, _FATAL = 2, 4  # of what severity ONNX Runtime prints messages; the first is its default
#: records which provider gets which node; older versions of ONNX Runtime take no notice
_RECORD_NODES = "session.record_ep_graph_assignment_info"
_TOKEN_INPUTS = ("tokens", "input_ids")
_TYPES = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
}

_ERRORS: tuple[type[Exception], ...] = tuple(
    each
    for each in vars(_native).values()
    if isinstance(each, type) and issubclass(each, Exception)
)
#: with those that its Python part and its providers for GPUs raise
_ALL_ERRORS: tuple[type[Exception], ...] = (*_ERRORS, RuntimeError, ValueError)

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class ModelRun:
    """The result of running a model, and how long it took.

    ``provider``: the execution provider of ONNX Runtime that ran it. ``nodes``: how many nodes of
    its graph each provider got; None where this ONNX Runtime does not say. ``unused``: why CUDA
    was not taken, if the choice was ``auto``. ``checksum``: SHA-256 of the first run's outputs,
    equal for equal files on one machine and provider.
    """

    provider: str
    nodes: dict[str, int] | None
    unused: str | None
    load_ns: int
    run_ns: tuple[int, ...]
    checksum: str

    @property
    def steady_ns(self) -> int | None:
        """The median of all runs but the first; None where there was only one."""
        return round(median(self.run_ns[1:])) if len(self.run_ns) > 1 else None


class _Tensor(Protocol):
    name: str
    type: str
    shape: Sequence[int | str | None]


class _Binding(Protocol):
    def bind_ortvalue_input(self, name: str, ortvalue: object) -> None: ...
    def bind_output(self, name: str, device_type: str, device_id: int) -> None: ...
    def synchronize_outputs(self) -> None: ...
    def copy_outputs_to_cpu(self) -> Sequence[Array]: ...


class _Session(Protocol):
    def get_inputs(self) -> Sequence[_Tensor]: ...
    def get_outputs(self) -> Sequence[_Tensor]: ...
    def get_providers(self) -> Sequence[str]: ...
    def io_binding(self) -> _Binding: ...
    def run_with_iobinding(self, iobinding: _Binding) -> None: ...


def run_model(
    path: Path,
    runs: int = 3,
    threads: int = 0,
    provider: str = "cpu",
    dimension: int = 32,
) -> ModelRun:
    """Load the model at ``path`` and run it ``runs`` times on the same made-up inputs.

    ``threads`` is the number of threads within an operator, 0 for ONNX Runtime's choice.
    ``provider`` is ``cpu``, ``cuda``, ``tensorrt`` or ``auto``: CUDA where it works, else the CPU.
    ``dimension`` replaces the dimensions that the model leaves open, except the first, the batch,
    which is 1. Inputs and outputs stay on the device.

    Raises MissingDependency if the provider that is asked for cannot run the model, CvmprofError
    if the model cannot be loaded or run.
    """
    if not path.is_file():
        raise CvmprofError(f"there is no model {path}", "name an existing .onnx file")
    begun_ns = time.monotonic_ns()
    with phase("load"):
        loaded = _loaded(path, threads, provider)
    load_ns = time.monotonic_ns() - begun_ns
    outputs, run_ns = _timed_runs(path, loaded, _made_up_inputs(loaded.session, dimension), runs)
    name = loaded.session.get_providers()[0]
    return ModelRun(name, loaded.nodes, loaded.unused, load_ns, run_ns, _checksum(outputs))


@dataclass(frozen=True)
class _Loaded:
    """A session, the device of its inputs and outputs, and what `ModelRun` says of it."""

    session: _Session
    device: str
    nodes: dict[str, int] | None
    unused: str | None = None


def _loaded(path: Path, threads: int, choice: str) -> _Loaded:
    if choice != "auto":
        return _loaded_by(path, threads, choice)
    try:
        with _quiet():
            return _loaded_by(path, threads, "cuda")
    except MissingDependency as lack:
        return replace(_loaded_by(path, threads, "cpu"), unused=lack.fact)


@contextmanager
def _quiet() -> Generator[None]:
    """ONNX Runtime prints no errors: they are expected."""
    onnxruntime.set_default_logger_severity(_FATAL)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(_WARNING)


def _loaded_by(path: Path, threads: int, choice: str) -> _Loaded:
    """Raises MissingDependency if a GPU is asked for and cannot run the model."""
    if choice != "cpu":
        return _loaded_on_gpu(path, threads, choice)
    try:
        session = _session(path, threads, _PROVIDERS[choice])
    except _ERRORS as error:
        raise _refusal(path, "load", error) from error
    return _Loaded(session, "cpu", _nodes(session))


def _loaded_on_gpu(path: Path, threads: int, choice: str) -> _Loaded:
    wanted = _PROVIDERS[choice][0]
    unfound = _made_ready(choice)
    try:
        session = _session(path, threads, _PROVIDERS[choice])
    except _ALL_ERRORS as error:
        fact = f"ONNX Runtime cannot load {path} by {wanted}: {_one_line(error)}"
        raise _missing(choice, fact, "see if it loads with --provider cpu; if so, ") from error
    if session.get_providers()[0] != wanted:
        raise _missing(choice, f"ONNX Runtime could not load its {wanted}{unfound}")
    nodes = _nodes(session)
    if nodes is not None and wanted not in nodes:
        raise _missing(choice, f"{wanted} can run no node of {path}")
    return _Loaded(session, "cuda", nodes)


def _made_ready(choice: str) -> str:
    """Load CUDA's libraries from the Python environment, where ONNX Runtime can; return what it
    says of those that it does not find.

    Raises MissingDependency if this ONNX Runtime is not made for the provider.
    """
    wanted = _PROVIDERS[choice][0]
    if wanted not in onnxruntime.get_available_providers():
        raise _missing(choice, f"this ONNX Runtime has no {wanted}")
    if not hasattr(onnxruntime, "preload_dlls"):
        return ""
    with redirect_stdout(StringIO()) as said:
        onnxruntime.preload_dlls()
    lines = said.getvalue().splitlines()
    return f": {lines[0]}" if lines else ""


def _session(path: Path, threads: int, providers: Sequence[str]) -> _Session:
    """Without the fallback by which ONNX Runtime would run on the CPU what a GPU cannot load."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry(_RECORD_NODES, "1")
    session = onnxruntime.InferenceSession(
        str(path), options, providers=list(providers), enable_fallback=0
    )
    return cast("_Session", session)


def _nodes(session: _Session) -> dict[str, int] | None:
    """How many nodes each provider got, as ONNX Runtime 1.24 and newer say."""
    parts: Any = getattr(session, "get_provider_graph_assignment_info", None)
    if parts is None:
        return None
    counts = Counter[str]()
    for part in parts():
        counts[str(part.ep_name)] += len(part.get_nodes())
    return dict(counts)


def _missing(choice: str, fact: str, before: str = "") -> MissingDependency:
    return MissingDependency(fact, before + _WAYS_OUT[choice])


def _timed_runs(
    path: Path, loaded: _Loaded, feed: dict[str, Array], runs: int
) -> tuple[Sequence[Array], tuple[int, ...]]:
    """Run ``runs`` times; return the first run's outputs and the time of each."""
    outputs: Sequence[Array] = ()
    run_ns: list[int] = []
    try:
        binding = _bound(loaded, feed)
        for _ in range(runs):
            begun_ns = time.monotonic_ns()
            with phase("run"):
                loaded.session.run_with_iobinding(binding)
                binding.synchronize_outputs()
            run_ns.append(time.monotonic_ns() - begun_ns)
            outputs = outputs or binding.copy_outputs_to_cpu()
    except _ALL_ERRORS as error:
        raise _refusal(path, "run", error) from error
    return outputs, tuple(run_ns)


def _bound(loaded: _Loaded, feed: dict[str, Array]) -> _Binding:
    """The inputs on the device, once for all runs, and outputs that stay there."""
    binding = loaded.session.io_binding()
    for name, array in feed.items():
        value = onnxruntime.OrtValue.ortvalue_from_numpy(array, loaded.device, 0)
        binding.bind_ortvalue_input(name, value)
    for output in loaded.session.get_outputs():
        binding.bind_output(output.name, loaded.device, 0)
    return binding


def _refusal(path: Path, action: str, error: Exception) -> CvmprofError:
    return CvmprofError(
        f"ONNX Runtime cannot {action} {path}: {_one_line(error)}",
        "check that the model and its external data file are complete and fit this ONNX Runtime",
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


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
