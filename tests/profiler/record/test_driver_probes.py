"""Which descriptors the probes on a driver's library hold, and when."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cvmprof.probes.catalog import UPROBE_MULTI
from cvmprof.probes.programs import GPU_LAUNCH
from cvmprof.profiler.record.driver_probes import DriverProbes
from cvmprof.profiler.record.uprobe_multi import Link
from cvmprof.tests.gpu.stand_ins import StandIns


class Uprobes:
    """In place of the kernel's: each probe is a descriptor of an empty file in memory."""

    family = UPROBE_MULTI

    def __init__(self) -> None:
        self.attached = 0
        self.refused: int | None = None
        self.meanwhile: Callable[[], None] = lambda: None

    def attach_all(self, program: str, link: Link) -> int:
        assert link.places
        if program != GPU_LAUNCH:
            return os.memfd_create("call")
        if self.attached == self.refused:
            raise OSError("Cannot allocate memory")
        self.meanwhile()
        self.attached += 1
        return os.memfd_create("launch")


def held() -> int:
    """How many probes on launches are attached."""
    return [path.split()[0] for path in open_files()].count("/memfd:launch")


def open_files() -> list[str]:
    """What the descriptors of this process lead to."""
    paths = list[str]()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one of the directory itself
            paths.append(os.readlink(f"/proc/self/fd/{number}"))
    return sorted(paths)


@pytest.fixture
def uprobes() -> Uprobes:
    return Uprobes()


@pytest.fixture
def probes(uprobes: Uprobes) -> Iterator[DriverProbes]:
    accepted: Any = uprobes
    made = DriverProbes(accepted)
    yield made
    made.release_launches()


@pytest.fixture
def drivers(stand_ins: StandIns, tmp_path: Path) -> tuple[str, str]:
    """Two files of the driver."""
    paths = tmp_path / "one.so", tmp_path / "other.so"
    for path in paths:
        shutil.copy(stand_ins.libcuda, path)
    return str(paths[0]), str(paths[1])


def test_launches_are_released_and_probed_again(
    uprobes: Uprobes, probes: DriverProbes, drivers: tuple[str, str]
) -> None:
    one, other = drivers
    assert [row.reason for row in probes.attach(one)] == [None, None]
    assert held() == 1
    probes.release_launches()
    assert held() == 0
    assert [row.reason for row in probes.attach(other)] == [None, None]
    assert held() == 0
    assert probes.probe_launches() is None
    assert held() == 2


def test_if_one_library_is_refused_no_launches_are_probed(
    uprobes: Uprobes, probes: DriverProbes, drivers: tuple[str, str]
) -> None:
    for path in drivers:
        probes.attach(path)
    probes.release_launches()
    uprobes.refused = 3
    assert probes.probe_launches() == "Cannot allocate memory"
    assert uprobes.attached == 3
    assert held() == 0


def test_a_library_that_was_refused_at_first_is_not_tried_again(
    uprobes: Uprobes, probes: DriverProbes, drivers: tuple[str, str]
) -> None:
    one, other = drivers
    probes.attach(one)
    uprobes.refused = 1
    assert [row.reason for row in probes.attach(other)] == [None, "Cannot allocate memory"]
    uprobes.refused = None
    probes.release_launches()
    assert probes.probe_launches() is None
    assert held() == 1
    assert [row.target for row in probes.rows_of_launches("why")] == [one]


def test_a_library_is_probed_once_where_launches_are_probed_again_meanwhile(
    uprobes: Uprobes, probes: DriverProbes, drivers: tuple[str, str]
) -> None:
    """The other thread begins while the kernel attaches."""
    threads: list[threading.Thread] = []

    def begin() -> None:
        uprobes.meanwhile = lambda: None
        threads.append(threading.Thread(target=_release_and_probe, args=(probes,), daemon=True))
        threads[0].start()
        threads[0].join(0.2)

    uprobes.meanwhile = begin
    probes.attach(drivers[0])
    threads[0].join(60)
    assert held() == 1


def _release_and_probe(probes: DriverProbes) -> None:
    probes.release_launches()
    probes.probe_launches()


def test_what_is_no_elf_file_leaves_no_descriptor_open(
    probes: DriverProbes, tmp_path: Path
) -> None:
    text = tmp_path / "libcuda.so.1"
    text.write_text("INPUT(somewhere else)\n" * 9)
    assert {row.reason for row in probes.attach(str(text))} == {
        "not a 64-bit little-endian ELF file"
    }
    assert str(text) not in open_files()
