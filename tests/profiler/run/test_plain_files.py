"""Only plain files of a run are opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cvmprof.profiler.run.plain_files import open_plain


def test_a_plain_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    file = open_plain(tmp_path / "a")
    assert file is not None
    with file:
        assert file.readall() == b"text"


@pytest.mark.parametrize("kind", ["nothing", "fifo", "directory", "link"])
def test_what_is_none(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "a"
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "directory":
        place.mkdir()
    elif kind == "link":
        (tmp_path / "b").write_text("text")
        place.symlink_to(tmp_path / "b")
    assert open_plain(place) is None
