"""Where a lab keeps its files."""

from __future__ import annotations

import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...errors import CvmprofError, NotPermitted

DEFAULT_REPOSITORY = "models.lab.test"


@dataclass(frozen=True)
class Lab:
    """One repository: its keys, the server's files, the client's cache, the mount and the logs.

    ``root`` holds ``keys/``, ``srv/`` (the server's document root), ``cache/``, ``mnt/`` and
    ``logs/``; ``repository`` is a fully qualified repository name such as ``models.lab.test``.
    """

    root: Path
    repository: str = DEFAULT_REPOSITORY

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", self.repository):
            raise CvmprofError(
                f"{self.repository!r} is not a repository name",
                "use letters, digits, dots and dashes, as in models.lab.test",
            )
        object.__setattr__(self, "root", Path(os.path.abspath(self.root)))

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def srv(self) -> Path:
        return self.root / "srv"

    @property
    def published(self) -> Path:
        """The repository below the server's document root: ``srv/cvmfs/REPOSITORY``."""
        return self.srv / "cvmfs" / self.repository

    @property
    def cache(self) -> Path:
        """Cache bases, one per client; objects lie in ``cache/CLIENT/REPOSITORY/ab/cdef…``."""
        return self.root / "cache"

    @property
    def mountpoint(self) -> Path:
        """The default mount point."""
        return self.root / "mnt"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def access_log(self) -> Path:
        """JSON lines, one per answered or abandoned request (see ``server.py``)."""
        return self.logs / "access.jsonl"

    @property
    def orders(self) -> Path:
        """The server's orders (see ``shaping.py``), read again at every request."""
        return self.root / "orders.json"

    @property
    def public_key(self) -> Path:
        return self.keys / f"{self.repository}.pub"


@contextmanager
def permissions_explained() -> Generator[None]:
    """Name the file that may not be written: a user cannot use a lab that root made."""
    try:
        yield
    except PermissionError as error:
        raise NotPermitted(
            f"you may not write {error.filename}",
            "run as the user who made the lab, or choose another directory for yours",
        ) from error


def make_directory(path: Path, mode: int = 0o777) -> Path:
    """Create ``path`` and its parents. Raises CvmprofError if that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=mode)
    except OSError as error:
        raise CvmprofError(
            f"cannot create the directory {path}: {error.strerror}",
            "choose another directory for the lab, where you may write",
        ) from error
    return path
