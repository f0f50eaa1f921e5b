"""Compile the lab's FUSE client on first use, into the user's cache directory."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from ...errors import CvmprofError, MissingDependency
from .layout import make_directory

SOURCES = Path(__file__).parent / "client"
PROGRAM_SOURCE = "cvmfs2.cpp"
PROGRAM = "cvmfs2"
LIBRARY = "libcvmfs_fuse3.so"

# pkg-config's name: the packages of Debian and of RHEL that contain it.
LIBRARIES = {
    "fuse3": ("libfuse3-dev", "fuse3-devel"),
    "libcurl": ("libcurl4-openssl-dev", "libcurl-devel"),
    "libcrypto": ("libssl-dev", "openssl-devel"),
    "zlib": ("zlib1g-dev", "zlib-devel"),
    "sqlite3": ("libsqlite3-dev", "sqlite-devel"),
}

# Besides optimising: no pass may merge, split, clone or rename the functions that uprobes attach
# to. Nothing is stripped: as in cvmfs2, these functions are in .symtab only.
FLAGS = (
    "-std=c++17",
    "-O2",
    "-g0",
    "-Wall",
    "-Wextra",
    "-fPIC",
    "-pthread",
    "-fvisibility=hidden",
    "-fno-omit-frame-pointer",
    "-fno-optimize-sibling-calls",
    "-fno-partial-inlining",
    "-fno-reorder-blocks-and-partition",
    "-fno-ipa-sra",
    "-fno-ipa-cp",
    "-fno-ipa-icf",
)


def client_program() -> Path:
    """The compiled client, ``…/cvmfs2`` with its library beside it; compiled at the first call.

    Raises MissingDependency if the compiler or a library's headers are absent, CvmprofError if
    compiling fails.
    """
    compiler = _compiler()
    directory = _cache_home() / "cvmprof" / f"lab-{_fingerprint(compiler)}"
    program = directory / PROGRAM
    if not program.exists():
        _compile_into(directory, compiler)
    return program


def _compiler() -> str:
    for tool, package in (("g++", "g++ (gcc-c++ on RHEL)"), ("pkg-config", "pkg-config")):
        if shutil.which(tool) is None:
            raise MissingDependency(
                f"the lab's client needs {tool} to compile, which is not installed",
                f"install {package}",
            )
    missing = [
        name for name in LIBRARIES if subprocess.run(["pkg-config", "--exists", name]).returncode
    ]
    if missing:
        debian = " ".join(LIBRARIES[name][0] for name in missing)
        redhat = " ".join(LIBRARIES[name][1] for name in missing)
        raise MissingDependency(
            f"the lab's client needs the headers of {', '.join(missing)} to compile",
            f"apt install {debian}   (RHEL: dnf install {redhat})",
        )
    return "g++"


def _fingerprint(compiler: str) -> str:
    """A name for one build: a hash of the sources, the flags and the compiler's version."""
    digest = hashlib.sha256(" ".join(FLAGS).encode())
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True)
    digest.update(version.stdout)
    for path in sorted(SOURCES.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _cache_home() -> Path:
    """XDG_CACHE_HOME or ~/.cache; under sudo root's own: the user's must not get files of root."""
    own = Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".cache"
    named = os.environ.get("XDG_CACHE_HOME")
    cache = Path(named) if named else Path.home() / ".cache"
    existing = next(path for path in (cache, *cache.parents) if path.exists())
    return cache if existing.stat().st_uid == os.geteuid() else own


def _compile_into(directory: Path, compiler: str) -> None:
    make_directory(directory.parent)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix="compiling-") as name:
        work = Path(name)
        library = [str(p) for p in sorted(SOURCES.glob("*.cpp")) if p.name != PROGRAM_SOURCE]
        flags = _pkg_config()
        _run([compiler, *FLAGS, "-shared", "-o", str(work / LIBRARY), *library, *flags])
        _run([compiler, *FLAGS, "-o", str(work / PROGRAM), str(SOURCES / PROGRAM_SOURCE), "-ldl"])
        # The program is moved last: if it is there, the build is complete. Another process that
        # compiles at the same time writes the same.
        make_directory(directory)
        for built in (LIBRARY, PROGRAM):
            os.replace(work / built, directory / built)


def _pkg_config() -> list[str]:
    command = ["pkg-config", "--cflags", "--libs", *LIBRARIES]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def _run(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if "error" in line] or ["no message"]
        raise CvmprofError(
            f"the lab's client does not compile: {lines[0]}",
            "compare the versions of its libraries with docs/lab.md, or use a real cvmfs2",
        )
