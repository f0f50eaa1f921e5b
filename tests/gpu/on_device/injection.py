"""The injection library: compiled where it runs, and compared with NVIDIA's own headers there."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cvmprof.errors import CvmprofError
from cvmprof.probes import gpu_library

from .rows import Report
from .site import Site

_PROGRAM = Path(__file__).with_name("prefixes.c")
_TOOLKIT = Path("/usr/local/cuda/include")
_INCLUDES = (
    str(_TOOLKIT),
    "/usr/local/cuda/extras/CUPTI/include",
    "/usr/local/lib/python3*/*-packages/nvidia/cu1*/include",
    f"{sys.prefix}/lib/python3*/site-packages/nvidia/cu1*/include",
)
#: the headers' types of records by their names in prefixes.c; newer headers add a number
_TYPES = {
    "KERNEL": "Kernel", "COPY": "Memcpy", "PEER": "MemcpyPtoP", "SET": "Memset", "API": "API",
    "GRAPH": "GraphTrace",
}  # fmt: skip


def check_library(site: Site, report: Report) -> None:
    """Build it, else take the one that was carried; compare its declarations with the headers."""
    try:
        gpu_library.compile_library()
        report.fact("built here", str(gpu_library.LIBRARY))
    except CvmprofError as error:
        if site.carried is None:
            raise
        shutil.copy(site.carried.injection, gpu_library.LIBRARY)
        report.fact("built here", f"no: {error.fact}; the carried one is used")
    for directory in include_directories():
        try:
            places = compared(directory)
        except CvmprofError as error:
            report.check(f"records of {directory}", "all places agree", error.fact, good=False)
            continue
        wrong = [line for line in places if len({*line.split()[1:]}) != 1]
        found = f"{len(places)} places agree" if not wrong else "; ".join(wrong)
        report.check(f"records of {directory}", "all places agree", found, good=not wrong)


def include_directories() -> list[Path]:
    """Directories of this machine with CUPTI's headers, each once."""
    found = (path for pattern in _INCLUDES for path in Path("/").glob(pattern.lstrip("/")))
    files = {(path / "cupti_activity.h").resolve(): path for path in found}
    return [path for file, path in files.items() if file.exists()]


def compared(include: Path) -> list[str]:
    """Lines "RECORD.MEMBER OURS THEIRS" of offsets. Raises CvmprofError if it does not compile."""
    with tempfile.TemporaryDirectory(prefix="cvmprof-prefixes-") as name:
        work = Path(name)
        (work / gpu_library.HEADER).write_text(gpu_library.header())
        program = str(work / "prefixes")
        directories = (work, gpu_library.SOURCES, include, _TOOLKIT)
        options = ["-w", *(f"-I{path}" for path in directories), *newest_types(include)]
        command = ["gcc", *options, "-o", program, str(_PROGRAM), "-ldl", "-pthread"]
        compiled = subprocess.run(command, capture_output=True, text=True, check=False)
        if not compiled.returncode:
            done = subprocess.run([program], capture_output=True, text=True, check=True)
            return done.stdout.splitlines()
    lines = [line for line in compiled.stderr.splitlines() if "error" in line] or ["no message"]
    raise CvmprofError(f"the headers in {include} do not compile: {lines[0]}", "see prefixes.c")


def newest_types(include: Path) -> list[str]:
    """Options of the compiler that name the newest types of the headers in a directory."""
    text = (include / "cupti_activity.h").read_text(errors="replace")
    options = list[str]()
    for name, base in _TYPES.items():
        versions = re.findall(rf"\}} CUpti_Activity{base}(\d*);", text)
        newest = max(versions, key=lambda version: int(version or 0), default="")
        options.append(f"-D{name}=CUpti_Activity{base}{newest}")
    return options
