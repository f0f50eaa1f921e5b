"""apt with lists and a state of its own: nothing is installed on this machine, nor are its lists
touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .matrix import Source

CACHE = Path(os.environ.get("CVMPROF_KERNELS", Path.home() / ".cache/cvmprof-kernels"))


@dataclass(frozen=True)
class Apt:
    """apt as it would be on an empty machine with these sources; ``state`` keeps what it knows."""

    state: Path
    sources: frozenset[Source]

    @property
    def archives(self) -> Path:
        """Where packages go that are downloaded with all they depend on."""
        return self.state / "archives"

    def run(self, *command: str, directory: Path | None = None) -> str:
        """What a command wrote, run in a directory. Raises CalledProcessError."""
        for folder in (self.state / "lists/partial", self.archives / "partial"):
            folder.mkdir(parents=True, exist_ok=True)
        (self.state / "status").touch()
        lines = sorted(
            f"deb [arch=amd64 signed-by={keys_of(each)}] {each.archive} {each.suite} "
            f"{each.components}\n"
            for each in self.sources
        )
        (self.state / "sources.list").write_text("".join(lines))
        settings = {
            "Dir::Etc::sourcelist": self.state / "sources.list",
            "Dir::Etc::sourceparts": "/nonexistent",
            "Dir::State::lists": self.state / "lists",
            "Dir::State::status": self.state / "status",
            "Dir::Cache": self.state,
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "APT::Sandbox::User": "root",
            "APT::Install-Recommends": "false",
        }
        options = [text for name, value in settings.items() for text in ("-o", f"{name}={value}")]
        arguments = [command[0], *options, *command[1:]]
        done = subprocess.run(arguments, check=True, cwd=directory, text=True, stdout=-1)
        return done.stdout


def keys_of(source: Source) -> Path:
    """The keys that sign a suite, of this machine or out of the package that has them."""
    if source.keys_from is None:
        return _keyring_in(Path("/"), source)
    root = CACHE / source.keys
    if not root.exists():
        unfinished = CACHE / f"{source.keys}.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        apt = Apt(unfinished / "apt", frozenset((source.keys_from,)))
        apt.run("apt-get", "-q", "update")
        apt.run("apt-get", "download", source.keys, directory=apt.archives)
        for package in apt.archives.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, unfinished], check=True)
        shutil.rmtree(apt.state)
        unfinished.rename(root)
    return _keyring_in(root, source)


def _keyring_in(root: Path, source: Source) -> Path:
    vendor = source.keys.removesuffix("-keyring").removesuffix("-archive")
    return root / "usr/share/keyrings" / f"{vendor}-archive-keyring.gpg"
