"""What the file system shows of GPUs, in trees made up here."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvmprof.probes.gpus import Gpus, cupti_path, driver_version, found_gpus, other_gpus

PROPRIETARY = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build"


def tree(root: Path, **files: str) -> Path:
    """Files below a directory, by their paths with ``__`` for ``/``."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def card(root: Path, number: int, vendor: str, address: str) -> None:
    """A graphics card, whose directory is a link to its place on the bus, as in sysfs."""
    device = root / "sys/devices/pci0000:00" / address
    device.mkdir(parents=True)
    (device / "vendor").write_text(f"{vendor}\n")
    directory = root / "sys/class/drm" / f"card{number}"
    directory.mkdir(parents=True)
    (directory / "device").symlink_to(device)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (f"{PROPRIETARY}\nGCC version:  gcc version 12.2.0\n", "550.54.14"),
        (f"{OPEN}\n", "580.65.06"),
        ("something else\n", "unknown"),
    ],
)
def test_the_driver_says_its_version(tmp_path: Path, text: str, version: str) -> None:
    assert driver_version(tree(tmp_path, proc__driver__nvidia__version=text)) == version


def test_a_machine_without_anything(tmp_path: Path) -> None:
    found = found_gpus({}, tmp_path)
    assert (found.driver, found.devices, found.libcuda, found.others) == (None, (), None, ())
    assert found.as_json() == Gpus(cupti=found.cupti).as_json() | {"devices": ()}


def test_cards_of_amd_and_intel_are_named_unless_part_of_the_processor(tmp_path: Path) -> None:
    card(tmp_path, 0, "0x8086", "0000:00:02.0")
    card(tmp_path, 1, "0x1002", "0000:03:00.0")
    card(tmp_path, 2, "0x10de", "0000:04:00.0")
    card(tmp_path, 3, "0x8086", "0000:05:00.0")
    assert other_gpus(tmp_path) == ("AMD GPU card1", "Intel GPU card3")


def test_a_compute_device_of_amd_without_a_card_is_named(tmp_path: Path) -> None:
    assert other_gpus(tree(tmp_path, dev__kfd="")) == ("AMD GPU /dev/kfd",)


def test_libcuda_is_found_by_the_variable_before_the_system(tmp_path: Path) -> None:
    root = tree(tmp_path / "root", **{"usr__lib64__libcuda.so.1": ""})
    own = tree(tmp_path / "own", **{"libcuda.so.1": ""})
    assert found_gpus({}, root).libcuda == str(root / "usr/lib64/libcuda.so.1")
    variables = {"LD_LIBRARY_PATH": f"/nowhere::{own}"}
    assert found_gpus(variables, root).libcuda == str(own / "libcuda.so.1")


def test_cupti_is_the_newest_of_the_active_environment_before_a_toolkit(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "root",
        **{"usr__local__cuda-13.0__extras__CUPTI__lib64__libcupti.so.13": ""},
    )
    toolkit = str(root / "usr/local/cuda-13.0/extras/CUPTI/lib64/libcupti.so.13")
    assert cupti_path({}, root) == toolkit
    site = "lib__python3.12__site-packages__nvidia__cu13__lib"
    wheels = {f"{site}__libcupti.so.{version}": "" for version in ("9", "13", "13.0.85")}
    environment = tree(tmp_path / "environment", **wheels)
    active = {"VIRTUAL_ENV": str(environment)}
    found = cupti_path(active, root)
    assert found == str(environment / site.replace("__", "/") / "libcupti.so.13.0.85")
