"""Reads who imports whom: docs/draw_architecture.py draws it, tests/test_layering.py holds it.

Only statements count, wherever they stand in a file: an import inside a function or under
TYPE_CHECKING is one like any other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FLOORS = ("commands", "probes", "profiler", "reports", "runners")
ROOT_FILES = ("__init__", "__main__", "cli", "errors", "phases")

# Floors whose rooms are directories or single files; the other floors are one room each.
_FLOORS_WITH_ROOMS = ("profiler", "reports")
# The one file of profiler/record that others may import: the names of what the recorder writes.
_ROOM_OF_ITS_OWN = ("profiler", "record", "names")
_PACKAGE_VALUES = {"__version__", "open_run", "phase"}
# "from PACKAGE import NAME" imports a module from these, and a value from all others.
_PACKAGES = {"cvmprof", "cvmprof.profiler", "cvmprof.profiler.record", "cvmprof.reports"}


@dataclass(frozen=True)
class Import:
    """One import: by which room, at which file and line, of which absolute module."""

    room: str
    place: str
    module: str

    @property
    def top(self) -> str:
        return self.module.split(".")[0]


def room_of(module: str) -> str:
    """The room of a module of ours, such as "profiler/kernel"; "" is the package and its values."""
    names = module.split(".")[1:]
    if not names or names[0] in _PACKAGE_VALUES:
        return ""
    if tuple(names[:3]) == _ROOM_OF_ITS_OWN:
        return "/".join(_ROOM_OF_ITS_OWN)
    return "/".join(names[: 2 if names[0] in _FLOORS_WITH_ROOMS else 1])


def imports_of(path: Path, root: Path) -> list[Import]:
    """Every import of one file."""
    module = _module_of(path, root)
    is_package = path.name == "__init__.py" and path.parent != root
    return [
        Import(room_of(module), f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)}", target)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for target in _targets(node, module, is_package)
    ]


def sources(root: Path) -> list[Path]:
    """Every Python file of the package itself."""
    at_root = [root / f"{name}.py" for name in ROOT_FILES]
    in_floors = [path for floor in FLOORS for path in sorted((root / floor).rglob("*.py"))]
    return [path for path in at_root if path.exists()] + in_floors


def arrows(root: Path) -> dict[str, set[str]]:
    """The rooms that each room imports, itself and the package's values apart."""
    rooms: dict[str, set[str]] = {}
    for path in sources(root):
        imported = rooms.setdefault(room_of(_module_of(path, root)), set())
        for each in imports_of(path, root):
            if each.top == "cvmprof" and room_of(each.module) not in ("", each.room):
                imported.add(room_of(each.module))
    return rooms


def _module_of(path: Path, root: Path) -> str:
    names = ("cvmprof", *path.relative_to(root).with_suffix("").parts)
    return ".".join(names[:-1] if names[-1] == "__init__" and len(names) > 2 else names)


def _targets(node: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """The absolute names of what one statement imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = module.split(".")
            parents = parents[: len(parents) - node.level + is_package]
            base = ".".join([*parents, *([base] if base else [])])
        for alias in node.names:
            yield f"{base}.{alias.name}" if base in _PACKAGES else base
