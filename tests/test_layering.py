"""The arrows of docs/architecture.md, held: who may import whom.

Only the parts of a file that import are looked at, wherever they stand in it, so an import inside a
function or under TYPE_CHECKING counts like any other.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOMS = ("commands", "probes", "profiler", "reports", "runners")
ROOT_FILES = ("__init__", "__main__", "cli", "errors", "phases")

# What each part may import of ours. "recorder" is profiler/record, a part of its own.
ALLOWED = {
    "errors": set[str](),
    "phases": set[str](),
    "probes": {"probes", "errors"},
    "recorder": {"recorder", "probes", "errors"},
    "profiler": {"profiler", "recorder", "probes", "phases", "errors"},
    "reports": {"reports", "profiler", "probes", "errors"},
    "runners": {"runners", "phases", "errors"},
    "cli": {
        "commands",
        "reports",
        "profiler",
        "recorder",
        "probes",
        "runners",
        "phases",
        "errors",
        "",
    },
    "commands": {
        "",
        "commands",
        "reports",
        "profiler",
        "recorder",
        "probes",
        "runners",
        "phases",
        "errors",
    },
    "__main__": {"cli"},
    "__init__": {"phases", "profiler"},
}
PACKAGE_VALUES = {"__version__", "open_run", "phase"}
STANDARD_LIBRARY_ONLY = {"errors", "phases", "probes", "recorder", "__init__"}


@dataclass(frozen=True)
class Import:
    """One import: by which part and line, of which absolute module."""

    part: str
    place: str
    module: str

    @property
    def top(self) -> str:
        return self.module.split(".")[0]


def part_of(module: str) -> str:
    """Return the part that a module of ours belongs to: "" for the package and its values."""
    names = module.split(".")[1:]
    if names[:2] == ["profiler", "record"]:
        return "recorder"
    return names[0] if names and names[0] not in PACKAGE_VALUES else ""


def module_of(path: Path, root: Path) -> str:
    names = ("cvmprof", *path.relative_to(root).with_suffix("").parts)
    return ".".join(names[:-1] if names[-1] == "__init__" and len(names) > 2 else names)


def targets(node: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Yield the absolute names of what one statement imports; relative ones resolved."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            kept = module.split(".")
            kept = kept[: len(kept) - node.level + is_package]
            base = ".".join([*kept, *([base] if base else [])])
        # "from .. import errors" names a module, "from ..errors import X" a value in one.
        yield from (f"{base}.{alias.name}" if base.count(".") < 1 else base for alias in node.names)


def imports_of(path: Path, root: Path) -> list[Import]:
    module = module_of(path, root)
    is_package = path.name == "__init__.py" and path.parent != root
    name = module if module != "cvmprof.__init__" else "cvmprof.__init__"
    return [
        Import(part_of(name), f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)}", target)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for target in targets(node, module, is_package)
    ]


def sources(root: Path) -> list[Path]:
    """Return every Python file of the package itself."""
    at_root = [path for path in root.glob("*.py") if path.stem in ROOT_FILES]
    return at_root + [path for room in ROOMS for path in sorted((root / room).rglob("*.py"))]


def forbidden(found: Import) -> str | None:
    """Return why an import breaks the house's rules, or None."""
    if found.top == "cvmprof":
        if part_of(found.module) not in ALLOWED[found.part]:
            return f"{found.place}: {found.part} may not import {found.module}"
    elif found.top == "bcc":
        if found.part != "recorder":
            return f"{found.place}: only profiler/record imports bcc"
    elif found.part in STANDARD_LIBRARY_ONLY and found.top not in sys.stdlib_module_names:
        return f"{found.place}: {found.part} may import the standard library only, not {found.top}"
    return None


def test_every_import_follows_the_arrows(repository_root: Path) -> None:
    files = sources(repository_root)
    assert {"errors.py", "phases.py"} <= {path.name for path in files}
    broken = [forbidden(each) for path in files for each in imports_of(path, repository_root)]
    assert [each for each in broken if each] == []


def test_the_root_holds_no_module_that_the_rules_do_not_know(repository_root: Path) -> None:
    assert {path.stem for path in repository_root.glob("*.py")} <= set(ROOT_FILES)


def test_ours_is_imported_relatively_by_ours(repository_root: Path) -> None:
    absolute = [
        f"{path.relative_to(repository_root)}:{node.lineno}"
        for path in sources(repository_root)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.Import) and any(a.name.startswith("cvmprof") for a in node.names))
        or (isinstance(node, ast.ImportFrom) and not node.level and node.module == "cvmprof")
    ]
    assert absolute == []


@pytest.mark.parametrize(
    ("place", "source", "verdict"),
    [
        ("probes/a.py", "from ..profiler import tables", "may not import cvmprof.profiler"),
        ("probes/a.py", "from ..profiler.tables import X", "may not import cvmprof.profiler"),
        ("probes/a.py", "import polars", "standard library only"),
        ("probes/a.py", "def f():\n    import bcc", "only profiler/record imports bcc"),
        ("probes/a.py", "from .. import reports", "may not import cvmprof.reports"),
        ("probes/a.py", "from ..errors import X\nfrom .b import Y\nimport os", None),
        ("probes/__init__.py", "from ..reports import X", "may not import cvmprof.reports"),
        ("probes/__init__.py", "from .a import X", None),
        ("profiler/a.py", "from bcc import BPF", "only profiler/record imports bcc"),
        ("profiler/a.py", "from .record.drain import X\nimport polars", None),
        ("profiler/record/a.py", "from bcc import BPF\nfrom ...probes.b import X", None),
        ("profiler/record/a.py", "from ..tables import X", "may not import cvmprof.profiler"),
        ("profiler/record/a.py", "import numpy", "standard library only"),
        ("reports/a.py", "from ..runners import model", "may not import cvmprof.runners"),
        ("runners/a.py", "from ..probes import x", "may not import cvmprof.probes"),
        ("runners/lab/a.py", "from ...phases import phase\nfrom ..model import X", None),
        ("runners/lab/a.py", "from cvmprof.profiler.x import Y", "may not import cvmprof.profiler"),
        ("phases.py", "from .errors import X", "may not import cvmprof.errors"),
        ("errors.py", "import click", "standard library only"),
        ("__init__.py", "from .cli import main", "may not import cvmprof.cli"),
        ("cli.py", "from . import __version__\nfrom .reports import x\nimport click", None),
        ("reports/a.py", "from .. import __version__", "may not import cvmprof.__version__"),
    ],
)
def test_the_rules_tell_right_from_wrong(
    tmp_path: Path, place: str, source: str, verdict: str | None
) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    found = [forbidden(each) for each in imports_of(path, tmp_path)]
    if verdict is None:
        assert set(found) == {None}
    else:
        assert any(each and verdict in each for each in found)
