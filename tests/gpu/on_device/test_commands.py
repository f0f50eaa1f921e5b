"""Steps are cut off alone, and a rehearsal comes to its last line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from cvmprof.tests.gpu.on_device.commands import trouble_of
from cvmprof.tests.gpu.on_device.rows import Row, read_rows

_COMMAND = Path(__file__).parent


def rehearse(out: Path, *words: str) -> list[Row]:
    command = [sys.executable, str(_COMMAND), "measure", "--rehearse", "--out", str(out), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    rows = read_rows(out / "rows.jsonl")
    wrong = [row for row in rows if row.good is False]
    assert (done.returncode, wrong) == (0, []), done.stdout[-8000:] + done.stderr[-2000:]
    return rows


def found(rows: list[Row], step: str, check: str) -> str:
    return next(row.found for row in rows if (row.step, row.check) == (step, check))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[BinaryIO]:
    with (tmp_path / "log").open("wb") as file:
        yield file


def test_a_command_that_ends_well_is_no_trouble(log: BinaryIO) -> None:
    assert trouble_of(["echo", "well"], 10, log) is None
    assert Path(log.name).read_text() == "well\n"


def test_a_command_that_fails_is_reported_by_its_status(log: BinaryIO) -> None:
    assert trouble_of(["sh", "-c", "echo bad >&2; exit 3"], 10, log) == "by 3"
    assert Path(log.name).read_text() == "bad\n"


def test_a_command_that_hangs_is_ended_with_all_it_started(log: BinaryIO) -> None:
    read, write = os.pipe()
    hanging = ["sh", "-c", f"exec 9>/proc/{os.getpid()}/fd/{write}; sleep 600 & wait"]
    assert trouble_of(hanging, 0.5, log) == "not within 0.5 s"
    os.close(write)
    assert os.read(read, 1) == b""  # nobody holds it open any more
    os.close(read)


def test_a_rehearsal(tmp_path: Path) -> None:
    steps = ("facts", "library", "model", "cold", "warm", "twin", "late", "api", "beside")
    rows = rehearse(tmp_path, *steps)
    assert {row.step for row in rows} == {*steps}
    assert found(rows, "cold", "kernels").startswith("36, ")
    assert found(rows, "cold", "bytes copied") == "6,291,456"
    assert found(rows, "twin", "kernels, torch's and ours") == "36"
    assert found(rows, "late", "the worst gaps hold the delays") == "3, in order"
    assert found(rows, "api", "launch, cupti's and ours") == "36"
    assert {path.name for path in tmp_path.iterdir()} == {
        "api.tar.xz", "beside.tar.xz", "cold.tar.xz", "facts.json", "late.tar.xz", "log.txt",
        "rows.jsonl", "warm.tar.xz",
    }  # fmt: skip


def test_a_rehearsal_where_nothing_can_be_recorded(tmp_path: Path) -> None:
    rows = rehearse(tmp_path, "--without-recorder", "library", "model", "cold")
    assert found(rows, "cold", "recorded") == "library alone"
    assert found(rows, "cold", "kernels").startswith("36, ")
