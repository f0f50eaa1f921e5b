"""Runs are packed, if they are small enough."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from cvmprof.tests.gpu.on_device import bringing
from cvmprof.tests.gpu.on_device.rows import Report, read_rows
from cvmprof.tests.gpu.on_device.site import SMALL, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    for name in ("out", "work", "work/cold.cvmprof", "work/cold.cvmprof/spool"):
        (tmp_path / name).mkdir()
    (tmp_path / "work/cold.cvmprof/spool/task.ring").write_bytes(os.urandom(3 << 20))
    return Site(
        tmp_path / "out",
        tmp_path / "work",
        "driver",
        SMALL,
        rehearsal=True,
        has_recorder=True,
        carried=None,
    )


def bring(site: Site) -> tuple[str, bool | None]:
    bringing.bring(site, Report("cold", site.rows), site.run("cold"))
    (row,) = read_rows(site.rows)
    return row.found, row.good


def test_a_run_becomes_one_file(site: Site) -> None:
    assert bring(site) == ("3.0 MiB of 3.0", True)
    with tarfile.open(site.out / "cold.tar.xz") as tar:
        names = [member.name for member in tar if member.isfile()]
    assert names == ["cold.cvmprof/spool/task.ring"]


def test_a_file_that_is_too_large_stays(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bringing, "MOST_BYTES", 3 << 20)
    assert bring(site) == ("3.0 MiB of 3.0", False)
    assert not (site.out / "cold.tar.xz").exists()


def test_a_run_that_would_take_long_is_not_packed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bringing, "_MOST_RAW_BYTES", (3 << 20) - 1)
    assert bring(site) == ("no: 3 MiB", False)
    assert not (site.out / "cold.tar.xz").exists()
