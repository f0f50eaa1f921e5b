"""What nobody knew of this machine: facts, each found alone."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cvmprof.errors import CvmprofError
from cvmprof.probes import kernel
from cvmprof.probes.conditions import of_this_process

from . import kernel_trial
from .recording import try_recorder
from .rows import Report
from .site import Site

_FUSE = Path("/dev/fuse")
_CUPTIS = (
    "/usr/local/lib/python3*/*-packages/nvidia/*/lib/libcupti.so*",
    f"{sys.prefix}/lib/python3*/site-packages/nvidia/*/lib/libcupti.so*",
    "/usr/local/cuda*/extras/CUPTI/lib64/libcupti.so*",
    "/usr/local/cuda*/lib64/libcupti.so*",
)
_PACKAGES = ("torch", "safetensors", "nvidia-cuda-cupti", "nvidia-ml-py", "onnxruntime", "polars")


def gather(site: Site, report: Report) -> None:
    """Find out each; keep the kernel's facts as `tests/probes/facts` has them."""
    for what, find in _FACTS.items():
        report.fact(what, _found(find))
    text = _found(
        lambda: json.dumps(kernel.saved(kernel.diagnosed_kernel()), indent=1, sort_keys=True)
    )
    (site.out / "facts.json").write_text(text + "\n")
    program = _try_program(report)
    _try_uprobe(report, program)
    try:
        try_recorder(site)
    except CvmprofError as error:
        report.check("the recorder attaches", "yes", f"no: {error.fact}", good=False)
    else:
        report.check("the recorder attaches", "yes", "yes", good=True)


def _try_program(report: Report) -> int | None:
    """The descriptor of a BPF program, if one loads."""
    try:
        program = kernel_trial.load_program()
    except (OSError, LookupError) as error:
        report.check("a BPF program loads", "yes", f"no: {error}", good=False)
        return None
    report.check("a BPF program loads", "yes", "yes", good=True)
    return program


def _try_uprobe(report: Report, program: int | None) -> None:
    for what, used in (("a uprobe that counts", None), ("a uprobe with a program", program)):
        try:
            trial = kernel_trial.try_uprobe(used)
        except (OSError, LookupError) as error:
            report.check(what, "fires", f"no: {error}", good=False)
        else:
            found = f"{trial.hits:,} hits of {trial.calls:,} calls, {trial.hit_ns:,.0f} ns each"
            report.check(what, f"{trial.calls:,} hits", found, good=trial.hits == trial.calls)


def _found(find: Callable[[], object]) -> str:
    try:
        return str(find())
    except Exception as error:  # noqa: BLE001  a fact that cannot be found keeps none of the others
        return f"unknown: {error!r}"


def _python() -> str:
    return f"{platform.python_version()} in {os.path.realpath('/proc/self/exe')}"


def _hindrances() -> str:
    return "; ".join(lack.reason for lack in of_this_process().hindrances()) or "none"


def _btf() -> str:
    return f"{Path('/sys/kernel/btf/vmlinux').stat().st_size:,} bytes"


def _fuse() -> str:
    if not _FUSE.exists():
        subprocess.run(["modprobe", "fuse"], check=False, capture_output=True)
    if not _FUSE.exists():  # the kernel may have it, and nobody made its file
        os.mknod(_FUSE, stat.S_IFCHR | 0o666, os.makedev(10, 229))
    descriptor = os.open(_FUSE, os.O_RDWR)
    os.close(descriptor)
    helper = shutil.which("fusermount3") or shutil.which("fusermount") or "no fusermount"
    return f"/dev/fuse opens; {helper}"


def _cgroups() -> str:
    return "; ".join(Path("/proc/self/cgroup").read_text().split())


def _compilers() -> str:
    found = (shutil.which(name) for name in ("gcc", "g++", "nvcc", "pkg-config", "openssl"))
    return ", ".join(path for path in found if path)


def _libcuda() -> str:
    library = ctypes.CDLL("libcuda.so.1")
    version = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    maps = Path("/proc/self/maps").read_text().split()
    path = next(word for word in maps if "libcuda" in word)
    status = os.stat(path)
    return f"{path}, of user {status.st_uid}, mode {status.st_mode:o}, CUDA {version.value}"


def _cuptis() -> str:
    paths = {path.resolve() for pattern in _CUPTIS for path in Path("/").glob(pattern[1:])}
    return ", ".join(map(str, sorted(paths))) or "none"


def _devices() -> str:
    fields = "--query-gpu=name,driver_version,memory.total,pcie.link.gen.current,mig.mode.current"
    command = ["nvidia-smi", fields, "--format=csv,noheader"]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=20
    ).stdout.strip()


def _nvml() -> str:
    library = ctypes.CDLL("libnvidia-ml.so.1")
    result = library.nvmlInit_v2()
    return f"nvmlInit returned {result}"


def _versions() -> str:
    return ", ".join(map(_version, _PACKAGES))


def _version(name: str) -> str:
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return f"no {name}"


def _variables() -> str:
    prefixes = ("CUDA", "NVIDIA", "LD_", "PYTHON", "TORCH")
    found = (f"{name}={value}" for name, value in os.environ.items() if name.startswith(prefixes))
    return " ".join(sorted(found))


def _memory() -> str:
    return Path("/proc/meminfo").read_text().splitlines()[0].split(":")[1].strip()


_FACTS: dict[str, Callable[[], object]] = {
    "kernel": lambda: f"{platform.release()} {platform.machine()}",
    "C library": lambda: " ".join(platform.libc_ver()),
    "Python": _python,
    "packages": _versions,
    "variables": _variables,
    "CPUs": lambda: len(os.sched_getaffinity(0)),
    "memory": _memory,
    "what prevents recording": _hindrances,
    "BTF": _btf,
    "FUSE": _fuse,
    "cgroups": _cgroups,
    "compilers": _compilers,
    "devices": _devices,
    "libcuda": _libcuda,
    "CUPTI": _cuptis,
    "NVML": _nvml,
}
