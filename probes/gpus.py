"""The GPUs of this machine, and what is there to observe them, as the file system shows it.

What only NVIDIA's library knows is asked for elsewhere, and put in beside. Standard library only.
"""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .gpu import LIBRARY_DIRECTORIES

#: PCI vendors of GPUs that are not recorded
_OTHER_VENDORS = {"0x1002": "AMD", "0x8086": "Intel"}
#: where Intel's processors have their own GPU: not what models run on
_INTEGRATED = "0000:00:02.0"
_DRIVER_VERSION = re.compile(r"NVRM version:.*?\s(\d+\.[\d.]+)\s")
#: CUPTI in a Python environment, by CUDA's version, and in a toolkit
_CUPTI_WHEELS = ("nvidia/cu*/lib/libcupti.so.*", "nvidia/cuda_cupti/lib/libcupti.so.*")
_CUPTI_TOOLKITS = (
    "/usr/local/cuda*/extras/CUPTI/lib64/libcupti.so.*",
    "/usr/local/cuda*/lib64/libcupti.so.*",
)


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU: its number on the machine, and what NVML says of it.

    ``is_divided``: into MIG instances, which are not sampled apart.
    """

    index: int
    uuid: str
    name: str | None = None
    memory_bytes: int | None = None
    is_divided: bool = False


@dataclass(frozen=True)
class Gpus:
    """What is known of this machine's GPUs.

    ``driver``: version of NVIDIA's driver, None without one. ``libcuda`` and ``cupti``: paths, None
    where none was found. ``unsampled``: why NVIDIA's GPUs cannot be sampled, None if they can.
    ``others``: GPUs that are not recorded, in words.
    """

    driver: str | None = None
    devices: tuple[Gpu, ...] = ()
    libcuda: str | None = None
    cupti: str | None = None
    unsampled: str | None = None
    others: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def found_gpus(environment: Mapping[str, str], root: Path = Path("/")) -> Gpus:
    """What the file system shows; an environment says where libraries are searched."""
    return Gpus(
        driver=driver_version(root),
        libcuda=library_path("libcuda.so.1", environment, root),
        cupti=cupti_path(environment, root),
        others=other_gpus(root),
    )


def driver_version(root: Path = Path("/")) -> str | None:
    """The version of NVIDIA's loaded driver; None if there is none."""
    try:
        text = (root / "proc/driver/nvidia/version").read_text("ascii", "replace")
    except OSError:
        return None
    found = _DRIVER_VERSION.search(text)
    return found.group(1) if found else "unknown"


def other_gpus(root: Path = Path("/")) -> tuple[str, ...]:
    """GPUs of AMD, and of Intel where they are cards of their own, such as ``AMD GPU card1``."""
    found = list[str]()
    for vendor in sorted(root.glob("sys/class/drm/card*/device/vendor")):
        device = vendor.parent
        try:
            maker = _OTHER_VENDORS.get(vendor.read_text("ascii", "replace").strip())
        except OSError:
            continue
        if maker and os.path.basename(os.path.realpath(device)) != _INTEGRATED:
            found.append(f"{maker} GPU {device.parent.name}")
    if not found and (root / "dev/kfd").exists():
        found.append("AMD GPU /dev/kfd")
    return tuple(dict.fromkeys(found))


def library_path(name: str, environment: Mapping[str, str], root: Path = Path("/")) -> str | None:
    """Where the loader would find a library, as far as it does not take its cache; else None."""
    directories = environment.get("LD_LIBRARY_PATH", "").split(":")
    standard = (str(root / each.lstrip("/")) for each in LIBRARY_DIRECTORIES)
    paths = (os.path.join(each, name) for each in (*directories, *standard) if each)
    return next((path for path in paths if os.path.isfile(path)), None)


def cupti_path(environment: Mapping[str, str], root: Path = Path("/")) -> str | None:
    """The newest CUPTI of the Python environments, else of the toolkits, else of the loader."""
    sites = (*sys.path, *_site_packages(environment))
    patterns = (os.path.join(site, wheel) for site in sites if site for wheel in _CUPTI_WHEELS)
    in_toolkits = (str(root / each.lstrip("/")) for each in _CUPTI_TOOLKITS)
    for pattern in (*patterns, *in_toolkits):
        if paths := glob.glob(pattern):
            return max(paths, key=_version)
    names = ("libcupti.so.13", "libcupti.so.12", "libcupti.so")
    return next(filter(None, (library_path(each, environment, root) for each in names)), None)


def _site_packages(environment: Mapping[str, str]) -> Iterable[str]:
    """Of the environment that the user has activated."""
    prefixes = (environment.get(each, "") for each in ("VIRTUAL_ENV", "CONDA_PREFIX"))
    for prefix in filter(None, prefixes):
        yield from glob.glob(os.path.join(prefix, "lib/python3*/site-packages"))


def _version(path: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", path.rpartition("libcupti.so")[2])))
