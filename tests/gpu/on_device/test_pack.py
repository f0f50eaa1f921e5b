"""What travels is counted before it does."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cvmprof.tests.gpu.on_device.carried import PACKED
from cvmprof.tests.gpu.on_device.pack import travelling_bytes


def test_files_that_are_not_ignored_travel_and_the_packed_one(tmp_path: Path) -> None:
    for name, size in {"tracked": 100, "new": 20, "ignored.so": 4000, str(PACKED): 7000}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes(size))
    (tmp_path / ".gitignore").write_text("*.so\n.venv/\n")
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    subprocess.run(["git", "-C", str(tmp_path), "add", "tracked"], check=True)
    assert travelling_bytes(tmp_path) == 7000 + 100 + 20 + len("*.so\n.venv/\n")
