"""Getting the kernels of the matrix: apt lists of their own, packages downloaded and unpacked.

Everything is kept in a cache outside the repository (``$CVMPROF_KERNELS``), so that a second run
needs no network. Nothing is installed on this machine.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .apt import CACHE as CACHE  # others import it from here
from .apt import Apt
from .matrix import KERNELS, Kernel

_APT = Apt(CACHE / "apt", frozenset(kernel.source for kernel in KERNELS))


@dataclass(frozen=True)
class Image:
    """An unpacked kernel: its release, its ``vmlinuz``, and the folder with ``lib/modules``."""

    kernel: Kernel
    release: str
    vmlinuz: Path
    root: Path

    @property
    def modules(self) -> Path:
        """Its modules."""
        return self.root / "lib/modules" / self.release


def image_of(kernel: Kernel) -> Image:
    """The kernel, from the cache or downloaded. Raises RuntimeError where no suite has it."""
    root = CACHE / kernel.name
    kept = root / "release"
    if not kept.exists():
        _fetch(kernel, root)
    release = kept.read_text().strip()
    candidates = (root / "boot" / f"vmlinuz-{release}", root / "lib/modules" / release / "vmlinuz")
    vmlinuz = next(path for path in candidates if path.exists())
    return Image(kernel, release, vmlinuz, root)


def _fetch(kernel: Kernel, root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    release, names = _newest(kernel)
    for name in names:
        _APT.run("apt-get", "download", name, directory=root)
    for package in root.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, root], check=True)
        package.unlink()
    for nested in ("usr/lib/modules", "usr/boot"):
        if (root / nested).exists():
            shutil.copytree(root / nested, root / nested.removeprefix("usr/"), dirs_exist_ok=True)
    subprocess.run(["depmod", "-b", root, release], check=True)
    (root / "release").write_text(release)


def _newest(kernel: Kernel) -> tuple[str, list[str]]:
    """The newest release that every package of the kernel has, and the packages' names."""
    listing = _APT.run("apt-cache", "pkgnames", "linux-").split()
    if not any(re.fullmatch(kernel.packages[0], name) for name in listing):
        _APT.run("apt-get", "-q", "update")
        listing = _APT.run("apt-cache", "pkgnames", "linux-").split()
    by_release: dict[str, list[str]] = {}
    for pattern in kernel.packages:
        for name in listing:
            match = re.fullmatch(pattern, name)
            if match:
                by_release.setdefault(match[1], []).append(name)
    whole = [each for each, names in by_release.items() if len(names) == len(kernel.packages)]
    if not whole:
        raise RuntimeError(f"{kernel.source.suite} has no kernel {kernel.name}")
    release = max(whole, key=lambda each: [int(number) for number in re.findall(r"\d+", each)])
    return release, by_release[release]
