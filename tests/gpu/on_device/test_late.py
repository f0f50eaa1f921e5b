"""Delays of the server against gaps of the device."""

from __future__ import annotations

from pathlib import Path

from cvmprof.runners.lab.lab import Access
from cvmprof.tests.gpu.on_device.activity import Gap
from cvmprof.tests.gpu.on_device.late import keep_accesses, matches


def delayed(last_byte_ns: int) -> Access:
    return Access(
        1,
        "/cvmfs/x/data/ab/cdP",
        200,
        1,
        last_byte_ns - 500,
        last_byte_ns - 1,
        last_byte_ns,
        "delay",
    )


GAPS = [Gap(0, 100, 200), Gap(0, 300, 400), Gap(0, 500, 600)]


def test_each_gap_holds_the_delay_of_its_place() -> None:
    assert matches(GAPS, [delayed(350), delayed(150), delayed(599)]) == 3


def test_a_gap_for_something_else_does_not_match() -> None:
    assert matches(GAPS, [delayed(150), delayed(450), delayed(550)]) == 2
    assert matches(GAPS[1:], [delayed(150), delayed(350), delayed(550)]) == 0


def test_accesses_before_are_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("a\nb\nc\n")
    keep_accesses(tmp_path / "kept", log, skip=1)
    assert (tmp_path / "kept").read_text() == "b\nc\n"
