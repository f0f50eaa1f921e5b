"""Who imports whom within reports: a layer imports only from those listed before it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

#: modules of one room import each other freely, and so do those of the first layer
LAYERS = (
    {"escape", "palette", "words", "material"}, {"numbers"}, {"findings"}, {"figures"},
    {"page", "terminal"},
)  # fmt: skip
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def imported_rooms(path: Path, reports: Path) -> set[str]:
    """The rooms of reports that a file imports, other than its own."""
    inside = path.relative_to(reports).with_suffix("").parts
    rooms: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == len(inside):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            rooms.update(name.split(".")[0] for name in names)
    return rooms - {inside[0]}


def upward(reports: Path) -> list[str]:
    """The imports of a room that does not stand before the importing one."""
    return [
        f"{path.relative_to(reports)} imports {room}"
        for path in sorted(reports.rglob("*.py"))
        if path.parent != reports or path.stem != "__init__"
        for room in imported_rooms(path, reports)
        if LEVEL[room] >= max(LEVEL[path.relative_to(reports).with_suffix("").parts[0]], 1)
    ]


def test_imports_run_one_way(repository_root: Path) -> None:
    reports = repository_root / "reports"
    rooms = imported_rooms(reports / "findings" / "trust.py", reports)
    assert rooms == {"escape", "numbers", "words"}
    assert upward(reports) == []


@pytest.mark.parametrize(
    ("name", "source", "reported"),
    [
        ("numbers/a.py", "from ..figures.lanes import x", ["numbers/a.py imports figures"]),
        ("material.py", "def f():\n    from .numbers import x", ["material.py imports numbers"]),
        ("findings/a.py", "from .. import page", ["findings/a.py imports page"]),
        ("page/a.py", "from ..terminal.a import x", ["page/a.py imports terminal"]),
        ("page/a.py", "from ..numbers.a import x\nfrom .b import y\nfrom ...probes import z", []),
        ("material.py", "from .words import x\nfrom ..profiler import tables", []),
    ],
)
def test_an_import_upward_is_found(
    tmp_path: Path, name: str, source: str, reported: list[str]
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    assert upward(tmp_path) == reported
