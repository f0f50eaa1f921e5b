"""What is observed of GPUs: the CUDA driver's functions by what they do, and the names of records.

All users of CUDA call libcuda: the runtime, ONNX Runtime, torch, triton, cupy and jax. So only its
functions are watched, and nothing is counted twice. Standard library only.
"""

from __future__ import annotations

import re

#: how a recording may observe GPUs: as can be, by CUPTI, by calls of the driver, not at all
GPU_CHOICES = ("auto", "cupti", "api", "off")

#: what a device does: kernels and whole graphs run; copies are named from the host's side
DEVICE_KINDS = ("kernel", "graph", "copy_in", "copy_out", "copy_device", "memset")
#: what a call of the driver does for its caller
CALL_KINDS = ("launch", "copy", "memset", "synchronize", "load", "allocate", "context")
#: calls that give the device work
SUBMITTING_KINDS = ("launch", "copy", "memset")
#: calls that are too many to be recorded one by one where each costs an interrupt: they are counted
COUNTED_KINDS = ("launch", "memset")
#: kinds of a record of the injection library: an operation of a device, or a call
GPU_RECORD_KINDS = ("none", *DEVICE_KINDS, "call")

#: the driver's functions that are recorded, without the suffixes of versions: kind by name; those
#: that are counted come first
DRIVER_FUNCTIONS = {
    "cuLaunchKernel": "launch",
    "cuLaunchKernelEx": "launch",
    "cuLaunchCooperativeKernel": "launch",
    "cuLaunchHostFunc": "launch",
    "cuGraphLaunch": "launch",
    "cuMemsetD8": "memset",
    "cuMemsetD8Async": "memset",
    "cuMemsetD16": "memset",
    "cuMemsetD16Async": "memset",
    "cuMemsetD32": "memset",
    "cuMemsetD32Async": "memset",
    "cuMemsetD2D8": "memset",
    "cuMemsetD2D8Async": "memset",
    "cuMemsetD2D32": "memset",
    "cuMemsetD2D32Async": "memset",
    "cuMemcpy": "copy",
    "cuMemcpyAsync": "copy",
    "cuMemcpyPeer": "copy",
    "cuMemcpyPeerAsync": "copy",
    "cuMemcpyHtoD": "copy",
    "cuMemcpyHtoDAsync": "copy",
    "cuMemcpyDtoH": "copy",
    "cuMemcpyDtoHAsync": "copy",
    "cuMemcpyDtoD": "copy",
    "cuMemcpyDtoDAsync": "copy",
    "cuMemcpyHtoA": "copy",
    "cuMemcpyAtoH": "copy",
    "cuMemcpy2D": "copy",
    "cuMemcpy2DUnaligned": "copy",
    "cuMemcpy2DAsync": "copy",
    "cuMemcpy3D": "copy",
    "cuMemcpy3DAsync": "copy",
    "cuMemcpyBatchAsync": "copy",
    "cuMemPrefetchAsync": "copy",
    "cuCtxSynchronize": "synchronize",
    "cuStreamSynchronize": "synchronize",
    "cuEventSynchronize": "synchronize",
    "cuModuleLoad": "load",
    "cuModuleLoadData": "load",
    "cuModuleLoadDataEx": "load",
    "cuModuleLoadFatBinary": "load",
    "cuLibraryLoadData": "load",
    "cuLibraryLoadFromFile": "load",
    "cuLinkComplete": "load",
    "cuKernelGetFunction": "load",
    "cuGraphInstantiate": "load",
    "cuGraphInstantiateWithParams": "load",
    "cuMemAlloc": "allocate",
    "cuMemAllocHost": "allocate",
    "cuMemAllocManaged": "allocate",
    "cuMemFree": "allocate",
    "cuMemFreeHost": "allocate",
    "cuMemHostAlloc": "allocate",
    "cuMemHostRegister": "allocate",
    "cuMemHostUnregister": "allocate",
    "cuMemCreate": "allocate",
    "cuMemMap": "allocate",
    "cuInit": "context",
    "cuCtxCreate": "context",
    "cuCtxDestroy": "context",
    "cuDevicePrimaryCtxRetain": "context",
    "cuDevicePrimaryCtxRelease": "context",
    "cuDevicePrimaryCtxReset": "context",
}

#: which argument, from 1, says how many bytes a call moves; the others point to a description
BYTES_ARGUMENTS = {
    **{f"cuMemcpy{way}{when}": 3 for way in ("", "HtoD", "DtoH", "DtoD") for when in ("", "Async")},
    "cuMemcpyHtoA": 4,
    "cuMemcpyAtoH": 4,
    "cuMemPrefetchAsync": 2,
}

#: functions of the CUDA runtime, in the same way. Where it calls the driver, CUPTI reports only the
#: runtime's function, and that one has the correlation of the device's operations.
RUNTIME_FUNCTIONS = {
    "cudaLaunchKernel": "launch",
    "cudaLaunchKernelExC": "launch",
    "cudaLaunchCooperativeKernel": "launch",
    "cudaLaunchHostFunc": "launch",
    "cudaGraphLaunch": "launch",
    "cudaMemcpy": "copy",
    "cudaMemcpyAsync": "copy",
    "cudaMemcpyPeer": "copy",
    "cudaMemcpyPeerAsync": "copy",
    "cudaMemcpy2D": "copy",
    "cudaMemcpy2DAsync": "copy",
    "cudaMemcpy3D": "copy",
    "cudaMemcpy3DAsync": "copy",
    "cudaMemcpyToSymbol": "copy",
    "cudaMemcpyToSymbolAsync": "copy",
    "cudaMemcpyFromSymbol": "copy",
    "cudaMemcpyFromSymbolAsync": "copy",
    "cudaMemcpyBatchAsync": "copy",
    "cudaMemPrefetchAsync": "copy",
    "cudaMemset": "memset",
    "cudaMemsetAsync": "memset",
    "cudaMemset2D": "memset",
    "cudaMemset2DAsync": "memset",
    "cudaDeviceSynchronize": "synchronize",
    "cudaStreamSynchronize": "synchronize",
    "cudaEventSynchronize": "synchronize",
    "cudaGraphInstantiate": "load",
    "cudaGraphInstantiateWithParams": "load",
    "cudaGraphInstantiateWithFlags": "load",
    "cudaLibraryLoadData": "load",
    "cudaLibraryLoadFromFile": "load",
    "cudaMalloc": "allocate",
    "cudaMallocHost": "allocate",
    "cudaMallocManaged": "allocate",
    "cudaFree": "allocate",
    "cudaFreeHost": "allocate",
    "cudaHostAlloc": "allocate",
    "cudaHostRegister": "allocate",
    "cudaHostUnregister": "allocate",
    "cudaInitDevice": "context",
    "cudaSetDevice": "context",
    "cudaDeviceReset": "context",
}

#: where the driver's library may be, beside the loader's cache; the last is where the driver of
#: Windows is mounted in its Linux subsystem
LIBRARY_DIRECTORIES = (
    "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib",
    "/usr/local/cuda/compat", "/usr/lib/wsl/lib",
)  # fmt: skip

_SUFFIXES = re.compile(r"(_v\d+|_ptsz|_ptds)*$")


def base_name(function: str) -> str:
    """A function's name without the suffixes of its version and of its default stream.

    The driver has ``cuMemcpyHtoD_v2_ptds``, the runtime ``cudaMemcpy_ptds_v7000``.
    """
    return _SUFFIXES.sub("", function)


def call_kind(function: str) -> str | None:
    """What a call of the driver or of the runtime does, by any of its names; None where it is not
    recorded.
    """
    name = base_name(function)
    return DRIVER_FUNCTIONS.get(name) or RUNTIME_FUNCTIONS.get(name)
