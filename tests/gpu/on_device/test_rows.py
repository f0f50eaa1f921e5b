"""Rows survive a step that is cut off, and stand in one table."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvmprof.tests.gpu.on_device.rows import Report, Row, read_rows, table


def test_rows_are_written_as_they_come(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("cold", tmp_path / "rows")
    report.fact("loaded", "in 2 s")
    report.equal("kernels", 7, 7)
    report.equal("copies", 7, 8)
    assert read_rows(report.file) == [
        Row("cold", "loaded", "", "in 2 s", None),
        Row("cold", "kernels", "7", "7", good=True),
        Row("cold", "copies", "7", "8", good=False),
    ]
    printed = "cold: loaded: in 2 s\ncold: kernels: 7 ok\ncold: copies: 8 NO\n"
    assert capsys.readouterr().out == printed


def test_a_row_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    report = Report("cold", tmp_path / "rows")
    report.fact("loaded", "in 2 s")
    with report.file.open("a") as file:
        file.write('{"step": "cold", "che')
    assert read_rows(report.file) == [Row("cold", "loaded", "", "in 2 s", None)]


def test_no_rows_without_a_file(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "none") == []


def test_the_table_wraps_what_is_long() -> None:
    rows = [
        Row("facts", "CUPTI", "", f"{'a' * 40} {'b' * 40}", None),
        Row("cold", "x", "1", "2", good=False),
    ]
    assert table(rows).splitlines() == [
        f"step   check  expected  found{' ' * 35}".rstrip(),
        f"facts  CUPTI            {'a' * 40}",
        f"{' ' * 24}{'b' * 40}",
        f"cold   x      1         2{' ' * 39}  NO",
    ]
