"""Runs on their way home: each in one file that is small enough."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

from .rows import Report
from .site import Site

#: files that may come back are no larger
MOST_BYTES = 16 << 20
#: compressing more would take too long
_MOST_RAW_BYTES = 256 << 20


def bring(site: Site, report: Report, run: Path) -> None:
    """Pack a run, whole or cut off, into one file. One that is too large is left out."""
    raw = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    if raw > _MOST_RAW_BYTES:
        report.check("brought back", "≤ 256 MiB unpacked", f"no: {raw >> 20} MiB", good=False)
        return
    name = f"{run.stem}.tar.xz"
    with tarfile.open(site.work / name, "w:xz", preset=3) as tar:
        tar.add(run, arcname=run.name)
    size = (site.work / name).stat().st_size
    found = f"{size / 2**20:.1f} MiB of {raw / 2**20:.1f}"
    report.check("brought back", f"≤ {MOST_BYTES >> 20} MiB", found, good=size <= MOST_BYTES)
    if size <= MOST_BYTES:
        shutil.move(site.work / name, site.out / name)
