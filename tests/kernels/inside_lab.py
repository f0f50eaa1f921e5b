"""The lab in a guest, whose own files are in memory."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from cvmprof.runners.lab.lab import Lab, mount, serve, stop
from cvmprof.runners.lab.mounting import MountOptions


@contextmanager
def mounted(published: Path) -> Generator[tuple[Lab, Path]]:
    """Serves a copy of a repository and mounts it with the lab's client: the lab, and where."""
    lab = Lab(Path("/run/lab"))
    shutil.copytree(published, lab.root, dirs_exist_ok=True)
    serve(lab)
    try:
        yield lab, mount(lab, options=MountOptions(client="lab"))
    finally:
        stop(lab, force=True)
