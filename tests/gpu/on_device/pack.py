"""Pack what the machine with a GPU lacks: bcc, the lab's client, and what signs its repositories.

Everything is taken from this machine, whose tests use it, into one compressed file: bcc's Python
package, libbcc, clang's libraries and theirs, the client with its libraries, the package
``cryptography``. The C library is not packed: the other machine's must be as new as this one's.
"""

from __future__ import annotations

import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cvmprof.probes.gpu_library import LIBRARY, compile_library
from cvmprof.profiler.session.launch import interpreter
from cvmprof.runners.lab.build import client_program

from .carried import BCC, CLIENT, INJECTION, LIBRARIES, PACKAGES, PACKED

#: what may travel, the clone's own files included
MOST_BYTES = 64 << 20
_PYTHONS = ("3.11", "3.12", "3.13")
#: parts of the C library, which is of one piece with the dynamic linker
_OF_LIBC = re.compile(r"(libc|libm|libdl|librt|libpthread|libresolv|ld-linux-x86-64)\.so")
_FIND_BCC = "import bcc, pathlib; print(pathlib.Path(bcc.__file__).parent)"
#: bcc uses neither the solver nor the character tables: libraries without content stand for them
_SOLVER, _CHARACTERS = "libz3.so.4", "libicudata.so"


def pack(root: Path) -> Path:
    """Write the packed file below a clone; returns its path. Raises CvmprofError, OSError."""
    packed = root / PACKED
    packed.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cvmprof-pack-") as name:
        _gather(Path(name))
        filters = [
            {"id": lzma.FILTER_X86},
            {"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 64 << 20},
        ]
        with (
            lzma.open(packed, "wb", filters=filters) as file,
            tarfile.open(fileobj=file, mode="w") as tar,
        ):
            tar.add(name, arcname=".")
    return packed


def travelling_bytes(root: Path) -> int:
    """Bytes of the clone's own files and of the packed file."""
    command = [
        "git",
        "-C",
        str(root),
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    paths = [root / name for name in names if name]
    own = sum(path.lstat().st_size for path in paths if path.is_symlink() or path.exists())
    return own + (root / PACKED).stat().st_size


def _gather(place: Path) -> None:
    for name in (LIBRARIES, CLIENT, PACKAGES, INJECTION):
        (place / name).mkdir()
    client = client_program()
    for path in client.parent.iterdir():
        shutil.copy(path, place / CLIENT)
    shutil.copytree(
        _bcc_package(), place / BCC / "bcc", ignore=shutil.ignore_patterns("__pycache__")
    )
    libbcc = _loaded_as("libbcc.so.0")
    roots = (libbcc, *client.parent.glob("*.so"))
    for name, path in {libbcc.name: libbcc, **dict(_needed(roots))}.items():
        shutil.copy(path, place / LIBRARIES / name)
    _empty_solver(place / LIBRARIES)
    _empty_characters(place / LIBRARIES)
    compile_library(place / INJECTION / LIBRARY.name)
    _install_packages(place / PACKAGES)


def _bcc_package() -> Path:
    command = [interpreter(), "-I", "-c", _FIND_BCC]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


def _loaded_as(name: str) -> Path:
    """Where the dynamic linker finds a library."""
    listing = subprocess.run(["/sbin/ldconfig", "-p"], check=True, capture_output=True, text=True)
    found = re.search(rf"{re.escape(name)} .*=> (\S+)", listing.stdout)
    if found is None:
        raise FileNotFoundError(f"{name} is not installed")
    return Path(found[1])


def _needed(roots: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
    """Libraries that these need, by their names there, except those of the C library."""
    for root in roots:
        listing = subprocess.run(["ldd", str(root)], check=True, capture_output=True, text=True)
        for name, path in re.findall(r"(\S+) => (/\S+)", listing.stdout):
            if not _OF_LIBC.match(name):
                yield name, Path(path)


def _empty_solver(libraries: Path) -> None:
    """libLLVM binds to functions of the solver when it calls them, and compiling calls none."""
    (llvm,) = libraries.glob("libLLVM*")
    symbols = subprocess.run(
        ["nm", "-D", "--undefined-only", str(llvm)], check=True, capture_output=True, text=True
    )
    names = re.findall(r"U (Z3_\w+)", symbols.stdout)
    _compile(
        libraries / _SOLVER,
        "".join(f"void {name}(void) {{ __builtin_trap(); }}\n" for name in names),
    )


def _empty_characters(libraries: Path) -> None:
    """libxml2 needs the library that needs these tables; nothing reads XML in them here."""
    for path in libraries.glob(f"{_CHARACTERS}*"):
        version = path.name.rpartition(".")[2]
        _compile(path, f"const char icudt{version}_dat[64];\n")


def _compile(library: Path, source: str) -> None:
    command = [
        "gcc",
        "-shared",
        "-fPIC",
        "-x",
        "c",
        f"-Wl,-soname,{library.name}",
        "-o",
        str(library),
        "-",
    ]
    subprocess.run(command, input=source, text=True, check=True)


def _install_packages(place: Path) -> None:
    for version in _PYTHONS:
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--upgrade",
        ]
        options = ["--target", str(place), "--python-version", version, "--only-binary", ":all:"]
        subprocess.run(
            [*command, *options, "cryptography", "cffi"], check=True, stderr=subprocess.DEVNULL
        )
