"""A root of a distribution with its Python and its bcc, unpacked into the cache.

Only unpacked: no script of a package is run, and what is only documentation is left out.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .apt import CACHE, Apt
from .matrix import BCC_PACKAGE, Distribution

#: as every newer distribution has them; older ones have both
_MERGED = ("bin", "sbin", "lib", "lib64")
_UNMADE = ("dev", "proc", "sys", "run", "tmp", "srv")


def root_of(distribution: Distribution) -> Path:
    """The root, from the cache or downloaded."""
    home = CACHE / "bcc" / distribution.name.replace(" ", "-").lower()
    root = home / "root"
    if not root.exists():
        shutil.rmtree(home, ignore_errors=True)
        _make(distribution, home).rename(root)
    return root


def _make(distribution: Distribution, home: Path) -> Path:
    unfinished, apt = home / "unfinished", Apt(home / "apt", frozenset((distribution.source,)))
    for name in _MERGED:
        (unfinished / "usr" / name).mkdir(parents=True, exist_ok=True)
        (unfinished / name).symlink_to(f"usr/{name}")
    for name in _UNMADE:
        (unfinished / name).mkdir()
    apt.run("apt-get", "-q", "update")
    apt.run("apt-get", "-q", "-y", "--download-only", "install", BCC_PACKAGE)
    for package in sorted(apt.archives.glob("*.deb")):
        _unpack(package, unfinished)
    shutil.rmtree(apt.state)
    return unfinished


def _unpack(package: Path, root: Path) -> None:
    files = subprocess.run(["dpkg-deb", "--fsys-tarfile", package], check=True, stdout=-1).stdout
    command = ["tar", "-x", "-C", str(root), "--keep-directory-symlink", "--exclude=./usr/share"]
    subprocess.run(command, check=True, input=files)
