"""The arrows of docs/architecture.md, held: who may import whom."""

from __future__ import annotations

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from cvmprof.docs.imports import ROOT_FILES, Import, arrows, imports_of, room_of, sources

# What a recording's bytes are and where they lie: what every side of profiler/ reads.
RECORDING = {"errors", "probes", "profiler/tables", "profiler/intervals", "profiler/run"}
# What reports/ may use of the floors below: a run's tables and the views of its tiling.
TABLES = {"errors", "probes", "profiler/tables", "profiler/intervals", "profiler/run",
          "profiler/attribution"}  # fmt: skip
MATERIAL = {*TABLES, "reports/escape", "reports/palette", "reports/words", "reports/material"}

# The rooms that each room may import, beside itself. A room that is not named here is refused.
ALLOWED: dict[str, set[str]] = {
    # standard library only
    "errors": set(),
    "phases": set(),
    "probes": {"errors"},
    "profiler/record": {"errors", "probes", "profiler/record/names"},
    "profiler/record/names": {"probes"},
    # floor 2: the recording, the sides of the chain of identity, and what is derived from them
    "profiler": set(),
    "profiler/tables": {"probes"},
    "profiler/intervals": {"profiler/tables"},
    "profiler/run": {"errors", "phases", "probes", "profiler/tables", "profiler/intervals",
                     "profiler/record/names"},
    "profiler/model": set(),
    "profiler/session": {"errors", "phases", "probes", "profiler/tables", "profiler/run",
                         "profiler/model", "profiler/record", "profiler/record/names"},
    "profiler/kernel": RECORDING,
    "profiler/client": {*RECORDING, "profiler/kernel"},
    "profiler/wire": {*RECORDING, "profiler/kernel", "profiler/client"},
    "profiler/device": {*RECORDING, "profiler/kernel"},
    "profiler/sides": {"profiler/kernel", "profiler/client", "profiler/wire", "profiler/device"},
    "profiler/attribution": {*RECORDING, "profiler/sides", "profiler/kernel", "profiler/client",
                             "profiler/wire", "profiler/device"},
    "profiler/health": {*RECORDING, "profiler/sides", "profiler/kernel", "profiler/client",
                        "profiler/wire", "profiler/device", "profiler/attribution"},
    "profiler/logs": {*RECORDING, "profiler/kernel", "profiler/client"},
    "profiler/join": {*RECORDING, "profiler/sides", "profiler/kernel", "profiler/client",
                      "profiler/wire", "profiler/device", "profiler/attribution",
                      "profiler/health"},
    "profiler/finalise": {*RECORDING, "profiler/kernel", "profiler/join", "profiler/session"},
    # floor 3
    "reports": set(),
    "reports/escape": set(),
    "reports/words": set(),
    "reports/palette": {"probes", "profiler/tables"},
    "reports/material": {*TABLES, "reports/palette", "reports/words"},
    "reports/numbers": MATERIAL,
    "reports/findings": {*MATERIAL, "reports/numbers"},
    "reports/figures": {*MATERIAL, "reports/numbers", "reports/findings"},
    "reports/page": {*MATERIAL, "reports/numbers", "reports/findings", "reports/figures"},
    "reports/terminal": {*MATERIAL, "reports/numbers", "reports/findings"},
    # apart
    "runners": {"errors", "phases"},
    # floor 4: only what a command calls, not how it is made
    "commands": {"", "errors", "probes", "runners", "profiler/run", "profiler/record",
                 "profiler/session", "profiler/logs", "profiler/finalise", "reports/material",
                 "reports/numbers", "reports/page", "reports/terminal"},
    "cli": {"", "commands"},
    "__main__": {"cli"},
    "__init__": {"phases", "profiler/run"},
}  # fmt: skip
STANDARD_LIBRARY_ONLY = {
    "errors", "phases", "probes", "profiler/record", "profiler/record/names", "profiler/model",
    "__init__",
}  # fmt: skip


def forbidden(each: Import) -> str | None:
    """Return why an import breaks the rules, or None."""
    if each.top == "cvmprof":
        target = room_of(each.module)
        if target != each.room and target not in ALLOWED[each.room]:
            return f"{each.place}: {each.room} may not import {target or each.module}"
    elif each.top == "bcc":
        if each.room != "profiler/record":
            return f"{each.place}: only profiler/record imports bcc"
    elif each.room in STANDARD_LIBRARY_ONLY and each.top not in sys.stdlib_module_names:
        return f"{each.place}: {each.room} may import the standard library only, not {each.top}"
    return None


def test_every_import_follows_the_arrows(repository_root: Path) -> None:
    files = sources(repository_root)
    assert {"errors.py", "phases.py"} <= {path.name for path in files}
    broken = [forbidden(each) for path in files for each in imports_of(path, repository_root)]
    assert [each for each in broken if each] == []


def test_every_room_has_a_line(repository_root: Path) -> None:
    assert set(arrows(repository_root)) == set(ALLOWED)


def test_the_rules_hold_no_circle() -> None:
    order = list(TopologicalSorter(ALLOWED).static_order())
    assert order.index("probes") < order.index("profiler/kernel") < order.index("cli")


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
        ("probes/a.py", "from ..profiler import tables", "may not import profiler/tables"),
        ("probes/a.py", "from ..profiler.tables import X", "may not import profiler/tables"),
        ("probes/a.py", "import polars", "standard library only"),
        ("probes/a.py", "def f():\n    import bcc", "only profiler/record imports bcc"),
        ("probes/a.py", "from .. import reports", "may not import reports"),
        ("probes/a.py", "from ..errors import X\nfrom .b import Y\nimport os", None),
        ("probes/__init__.py", "from ..reports import X", "may not import reports"),
        ("probes/__init__.py", "from .a import X", None),
        ("profiler/kernel/a.py", "from bcc import BPF", "only profiler/record imports bcc"),
        ("profiler/session/a.py", "from ..record.load import X\nimport polars", None),
        ("profiler/run/a.py", "from ..record.names import X", None),
        ("profiler/run/a.py", "from ..record import names", None),
        ("profiler/run/a.py", "from ..record.ring import X", "may not import profiler/record"),
        ("profiler/kernel/a.py", "from ..client.calls import X", "may not import profiler/client"),
        ("profiler/wire/a.py", "from ..client.calls import X\nfrom ..tables import Y", None),
        ("profiler/client/a.py", "from .. import join", "may not import profiler/join"),
        ("reports/numbers/a.py", "from ..figures.a import X", "may not import reports/figures"),
        ("reports/terminal/a.py", "from ..findings.a import X", None),
        ("profiler/record/a.py", "from bcc import BPF\nfrom ...probes.b import X", None),
        ("profiler/record/a.py", "from ..tables import X", "may not import profiler/tables"),
        ("profiler/record/a.py", "import numpy", "standard library only"),
        ("reports/page/a.py", "from ...runners import model", "may not import runners"),
        ("runners/a.py", "from ..probes import x", "may not import probes"),
        ("runners/lab/a.py", "from ...phases import phase\nfrom ..model import X", None),
        ("runners/lab/a.py", "from cvmprof.profiler.tables import Y", "may not import profiler"),
        ("phases.py", "from .errors import X", "may not import errors"),
        ("errors.py", "import click", "standard library only"),
        ("__init__.py", "from .cli import main", "may not import cli"),
        (
            "commands/a.py",
            "from .. import __version__\nfrom ..reports.page.page import x\nimport click",
            None,
        ),
        ("commands/a.py", "from ..profiler.join import x", "may not import profiler/join"),
        ("commands/a.py", "from ..cli import x", "may not import cli"),
        ("cli.py", "from . import __version__\nfrom .commands.a import x\nimport click", None),
        ("cli.py", "from .reports.page.page import x", "may not import reports/page"),
        ("reports/page/a.py", "from ... import __version__", "may not import cvmprof.__version__"),
    ],
)
def test_the_rules_accept_and_refuse(
    tmp_path: Path, place: str, source: str, verdict: str | None
) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    reasons = [forbidden(each) for each in imports_of(path, tmp_path)]
    if verdict is None:
        assert set(reasons) == {None}
    else:
        assert any(reason and verdict in reason for reason in reasons)
