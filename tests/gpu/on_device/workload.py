"""What is recorded: a program that loads a model to a device and computes with it.

    python3 workload.py TO FRAMEWORK ACTION …

``load MODEL STEPS [TRACE]``  loads all tensors to the device, then computes; TRACE gets what
                              torch's own profiler saw of both
``layers MODEL``              loads one tensor after the other, and computes with each
``loop LAYERS SIDE STEPS``    computes with tensors that are made on the device
``launches RATE SECONDS``     launches small kernels at an even rate; for the driver only

FRAMEWORK is torch, or driver: the CUDA driver by ctypes, which the stand-ins of the tests replace.
TO is a file that gets a JSON object of what it measured itself. Nothing of cvmprof is imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import struct
import sys
import time
from collections.abc import Callable, Generator, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

BATCH = 64
DEVICE = "cuda:0"


class Torch:
    """Computes with torch, on the first device."""

    def __init__(self) -> None:
        self.torch: Any = import_module("torch")
        self.torch.cuda.init()

    def load(self, path: str) -> list[Any]:
        return list(import_module("safetensors.torch").load_file(path, device=DEVICE).values())

    def tensors(self, path: str) -> Iterator[Any]:
        with import_module("safetensors").safe_open(path, framework="pt", device=DEVICE) as file:
            for number in range(len(file.keys())):
                yield file.get_tensor(f"layer.{number}")

    def made(self, layers: int, side: int) -> list[Any]:
        return [self._filled(side, side) for _ in range(layers)]

    def step(self, weights: list[Any]) -> None:
        side = weights[0].shape[0]
        x = self._filled(BATCH, side)
        for weight in weights:
            x = self.torch.relu(x @ weight).clamp(max=1)

    def wait(self) -> None:
        self.torch.cuda.synchronize()

    @contextlib.contextmanager
    def profiled(self, trace: str) -> Generator[None]:
        torch_profiler = import_module("torch.profiler")
        activities = [torch_profiler.ProfilerActivity.CUDA]
        with torch_profiler.profile(activities=activities) as profiler:
            yield
        profiler.export_chrome_trace(trace)

    def _filled(self, rows: int, columns: int) -> Any:
        dtype = self.torch.bfloat16
        return self.torch.full((rows, columns), 0.001, device=DEVICE, dtype=dtype)


#: a kernel that does nothing, for any device from compute capability 7.5 on
PTX = b"""
.version 7.0
.target sm_75
.address_size 64
.visible .entry nothing() { ret; }
"""
KERNEL_US = 100


class Driver:
    """Calls the CUDA driver. A kernel does nothing; a stand-in of it takes 1 µs for each block."""

    def __init__(self) -> None:
        self.cuda = ctypes.CDLL("libcuda.so.1")
        context, module, self.kernel = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuInit", 0)
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        self._call("cuCtxSetCurrent", context)
        self._call("cuModuleLoadData", ctypes.byref(module), PTX)
        self._call("cuModuleGetFunction", ctypes.byref(self.kernel), module, b"nothing")

    def load(self, path: str) -> list[int]:
        return list(self.tensors(path))

    def tensors(self, path: str) -> Iterator[int]:
        with open(path, "rb") as file:
            mapped = mmap.mmap(
                file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
            )
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        (length,) = struct.unpack("<Q", mapped[:8])
        for entry in json.loads(mapped[8 : 8 + length]).values():
            start, end = entry["data_offsets"]
            tensor = ctypes.c_uint64()
            self._call("cuMemAlloc_v2", ctypes.byref(tensor), ctypes.c_size_t(end - start))
            source = ctypes.c_void_p(address + 8 + length + start)
            self._call("cuMemcpyHtoD_v2", tensor, source, ctypes.c_size_t(end - start))
            yield tensor.value

    def made(self, layers: int, side: int) -> list[int]:
        return [side] * layers

    def step(self, weights: list[int]) -> None:
        for _ in weights:
            self.launch(KERNEL_US)

    def launch(self, blocks: int) -> None:
        shape = (blocks, 1, 1, 32, 1, 1)
        self._call("cuLaunchKernel", self.kernel, *shape, 0, None, None, None)

    def wait(self) -> None:
        self._call("cuCtxSynchronize")

    def profiled(self, trace: str) -> contextlib.AbstractContextManager[None]:
        raise SystemExit("the driver has no profiler of its own")

    def _call(self, name: str, *arguments: Any) -> None:
        result = getattr(self.cuda, name)(*arguments)
        if result:
            raise SystemExit(f"{name} returned {result}")


Framework = Torch | Driver
FRAMEWORKS: dict[str, Callable[[], Framework]] = {"torch": Torch, "driver": Driver}


def load(framework: Framework, model: str, steps: str, trace: str = "") -> dict[str, float]:
    """Loads everything, then computes."""
    with framework.profiled(trace) if trace else contextlib.nullcontext():
        began = time.monotonic()
        weights: list[Any] = framework.load(model)
        framework.wait()
        loaded = time.monotonic()
        for _ in range(int(steps)):
            framework.step(weights)
        framework.wait()
    return {"load_s": loaded - began, "steps_s": time.monotonic() - loaded}


def layers(framework: Framework, model: str) -> dict[str, float]:
    """Needs one tensor after the other, as they come. What a first use loads is loaded before."""
    framework.step(framework.made(1, _side(model)))
    framework.wait()
    began = time.monotonic()
    for weight in framework.tensors(model):
        framework.step([weight])
        framework.wait()
    return {"layers_s": time.monotonic() - began}


def loop(framework: Framework, layers: str, side: str, steps: str) -> dict[str, float]:
    """Steps after one that warms up."""
    weights: list[Any] = framework.made(int(layers), int(side))
    framework.step(weights)
    framework.wait()
    began = time.monotonic()
    for _ in range(int(steps)):
        framework.step(weights)
    framework.wait()
    return {"loop_s": time.monotonic() - began}


def launches(framework: Framework, rate: str, seconds: str) -> dict[str, float]:
    """Launches at times that do not depend on how long a launch takes."""
    assert isinstance(framework, Driver)
    count, interval_ns = round(float(rate) * float(seconds)), 1e9 / float(rate)
    began_ns, inside_ns = time.perf_counter_ns(), 0
    for number in range(count):
        while time.perf_counter_ns() < began_ns + number * interval_ns:
            pass
        entered_ns = time.perf_counter_ns()
        framework.launch(1)
        inside_ns += time.perf_counter_ns() - entered_ns
    took_ns = time.perf_counter_ns() - began_ns
    framework.wait()
    return {"launches": count, "took_s": took_ns / 1e9, "launch_ns": inside_ns / count}


def _side(model: str) -> int:
    with open(model, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entry = next(iter(json.loads(file.read(length)).values()))
    return int(entry["shape"][0])


ACTIONS: dict[str, Callable[..., dict[str, float]]] = {
    "load": load, "layers": layers, "loop": loop, "launches": launches,
}  # fmt: skip


def main(to: str, framework: str, action: str, *arguments: str) -> None:
    """Does it."""
    measured = ACTIONS[action](FRAMEWORKS[framework](), *arguments)
    Path(to).write_text(json.dumps(measured))


if __name__ == "__main__":
    main(*sys.argv[1:])
