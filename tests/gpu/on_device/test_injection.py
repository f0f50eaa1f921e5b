"""The injection library's declarations against headers, here ones of our own."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from cvmprof.errors import CvmprofError, MissingDependency
from cvmprof.probes import gpu_library
from cvmprof.tests.gpu.on_device import injection
from cvmprof.tests.gpu.on_device.carried import Carried
from cvmprof.tests.gpu.on_device.rows import Report, read_rows
from cvmprof.tests.gpu.on_device.site import SMALL, Site

_PROGRAM = Path(injection.__file__).with_name("prefixes.c")
#: the library's structs by the macros of prefixes.c
_OURS = {
    "KERNEL": "kernel",
    "COPY": "copy",
    "PEER": "peer",
    "SET": "set",
    "API": "api",
    "GRAPH": "graph",
}
_TYPES = {"KERNEL": "Kernel10", "COPY": "Memcpy6", "PEER": "MemcpyPtoP4", "SET": "Memset4",
          "API": "API", "GRAPH": "GraphTrace2"}  # fmt: skip


def write_header(directory: Path, before: dict[str, int]) -> None:
    """Types in which each member lies where the library expects it, or some bytes behind."""
    shown = re.findall(r"SHOW\((\w+), (\w+), (\w+), (\w+)\)", _PROGRAM.read_text())
    text = "#include <stdint.h>\n"
    for macro, type_name in _TYPES.items():
        members = [(ours, theirs) for _, kind, ours, theirs in shown if kind == macro]
        fields = "".join(
            f"struct {{ char before_{theirs}[offsetof(struct {_OURS[macro]}_activity, {ours}) + "
            f"{before.get(theirs, 0)}]; char {theirs}; }} __attribute__((packed));\n"
            for ours, theirs in members
        )
        text += f"typedef union {{\n{fields}}} CUpti_Activity{type_name};\n"
    (directory / "cupti_activity.h").write_text(text)


def test_declarations_agree_with_headers(tmp_path: Path) -> None:
    write_header(tmp_path, {})
    lines = injection.compared(tmp_path)
    assert len(lines) == 48
    assert "kernel_activity.correlation 92 92" in lines
    assert all(ours == theirs for _, ours, theirs in map(str.split, lines))


def test_a_member_that_moved_is_seen(tmp_path: Path) -> None:
    write_header(tmp_path, {"graphNodeId": 8})
    lines = injection.compared(tmp_path)
    moved = [line for line in lines if len({*line.split()[1:]}) == 2]
    assert moved == [
        "kernel_activity.graph_node 144 152",
        "copy_activity.graph_node 64 72",
        "peer_activity.graph_node 72 80",
        "set_activity.graph_node 64 72",
    ]


def test_headers_without_a_type_are_named(tmp_path: Path) -> None:
    (tmp_path / "cupti_activity.h").write_text("typedef struct { int kind; } CUpti_ActivityAPI;\n")
    with pytest.raises(CvmprofError, match=re.escape(f"the headers in {tmp_path} do not compile")):
        injection.compared(tmp_path)


def test_the_newest_type_is_the_one_with_the_highest_number(tmp_path: Path) -> None:
    names = ("Kernel9", "Kernel10", "Kernel", "Memcpy5", "Memcpy", "MemcpyPtoP4", "API")
    text = "".join(f"typedef struct {{ int kind; }} CUpti_Activity{name};\n" for name in names)
    (tmp_path / "cupti_activity.h").write_text(text)
    assert injection.newest_types(tmp_path) == [
        "-DKERNEL=CUpti_ActivityKernel10",
        "-DCOPY=CUpti_ActivityMemcpy5",
        "-DPEER=CUpti_ActivityMemcpyPtoP4",
        "-DSET=CUpti_ActivityMemset",
        "-DAPI=CUpti_ActivityAPI",
        "-DGRAPH=CUpti_ActivityGraphTrace",
    ]


def test_without_a_compiler_the_carried_library_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    carried = Carried(tmp_path / "carried")
    carried.injection.parent.mkdir(parents=True)
    carried.injection.write_bytes(b"library")
    site = Site(
        tmp_path, tmp_path, "driver", SMALL, rehearsal=True, has_recorder=True, carried=carried
    )
    library = tmp_path / "library.so"

    def refuse() -> None:
        raise MissingDependency("gcc is not installed", "install gcc")

    monkeypatch.setattr(gpu_library, "compile_library", refuse)
    monkeypatch.setattr(gpu_library, "LIBRARY", library)
    monkeypatch.setattr(injection, "include_directories", list)
    report = Report("library", tmp_path / "rows")
    injection.check_library(site, report)
    assert library.read_bytes() == b"library"
    assert read_rows(report.file)[0].found == "no: gcc is not installed; the carried one is used"
    with pytest.raises(MissingDependency):
        injection.check_library(replace(site, carried=None), report)
