"""Files that the command's user may have written: only what a recording holds is read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cvmprof.probes.events import GPU_RECORD
from cvmprof.profiler.run import gpu_files
from cvmprof.profiler.run.gpu_files import gpu_processes
from cvmprof.tests.profiler.conftest import record


def write(place: Path, stem: str, records: int, tail: bytes = b"") -> Path:
    path = place / f"{stem}.records"
    path.write_bytes(record(GPU_RECORD, start_ns=1).tobytes() * records + tail)
    return path


def counts(place: Path) -> list[int]:
    return [each.records.height for each in gpu_processes(place)]


def test_each_process_has_its_records_and_lines(tmp_path: Path) -> None:
    write(tmp_path, "7-1", 2)
    (tmp_path / "7-1.lines").write_text('{"kind": "end"}\nnonsense\n{"kind": "torn"')
    write(tmp_path, "8-1", 3)
    (tmp_path / "9-1.lines").write_text('{"kind": "trouble"}\n')
    (tmp_path / "other").write_text("x")
    seven, eight = gpu_processes(tmp_path)
    assert (seven.records.height, seven.lines) == (2, ({"kind": "end"},))
    assert (eight.records.height, eight.lines) == (3, ())
    assert seven.of("end") == [{"kind": "end"}]
    assert seven.of("name") == []


def test_a_torn_record_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, "7-1", 2, tail=b"x" * (GPU_RECORD.size - 1))
    assert counts(tmp_path) == [2]


def test_no_directory_is_no_process(tmp_path: Path) -> None:
    assert gpu_processes(tmp_path / "none") == []


def test_what_is_no_plain_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "1-1.records")
    (tmp_path / "2-1.records").mkdir()
    (tmp_path / "3-1.records").symlink_to(write(tmp_path, "4-1", 5))
    os.mkfifo(tmp_path / "4-1.lines")
    assert counts(tmp_path) == [0, 0, 0, 5]


def test_no_more_is_read_than_a_recording_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_files, "MOST_PROCESSES", 2)
    monkeypatch.setattr(gpu_files, "MOST_RECORDS", 5)
    monkeypatch.setattr(gpu_files, "MOST_LINE_BYTES", 40)
    for stem in ("1-1", "2-1", "3-1"):
        write(tmp_path, stem, 4)
        (tmp_path / f"{stem}.lines").write_text('{"kind": "end"}\n{"kind": "end"}\n')
    one, two = gpu_processes(tmp_path)
    assert [(each.records.height, each.unread, len(each.lines)) for each in (one, two)] == [
        (4, 0, 2), (1, 3, 0),
    ]  # fmt: skip


def test_what_is_nested_too_deeply_is_no_line(tmp_path: Path) -> None:
    write(tmp_path, "7-1", 1)
    (tmp_path / "7-1.lines").write_text("[" * 100_000 + "\n" + '{"kind": "end"}\n')
    assert gpu_processes(tmp_path)[0].lines == ({"kind": "end"},)
