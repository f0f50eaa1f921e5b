"""docs/architecture.md is current, and the paths that the documents name exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cvmprof.docs.draw_architecture import PAGE, drawn, graph

PATH = re.compile(r"`((?:[\w.*-]+/)+(?:[\w.*-]+)?|[\w-]+\.(?:py|cfg|toml))`")
#: what this tree does not hold: the virtual environment, and names to be filled in
ELSEWHERE = re.compile(r"^\.venv/|NAME")


def test_the_page_is_current(repository_root: Path) -> None:
    text = PAGE.read_text()
    assert text == drawn(text, repository_root), "make docs"


def test_an_arrow_that_follows_from_others_is_left_out() -> None:
    lines = graph({"cli": {"probes", "commands"}, "commands": {"probes"}, "probes": {"errors"}})
    arrows = [line.strip() for line in lines.splitlines() if "-->" in line]
    assert arrows == ["cli --> commands", "commands --> probes"]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_every_path_that_a_document_names_exists(repository_root: Path, name: str) -> None:
    text = re.sub(r"<!-- files: .*?-->.*", "", (repository_root / name).read_text(), flags=re.S)
    paths = {path for path in PATH.findall(text) if not ELSEWHERE.search(path)}
    assert len(paths) > 3
    assert sorted(path for path in paths if not any(repository_root.glob(path))) == []
