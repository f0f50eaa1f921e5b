"""The kernels of the matrix, declared here and nowhere else: Debian's own, unmodified."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kernel:
    """One kernel: the Debian suite that has it, and what the names of its packages match.

    ``packages`` are regular expressions with one group, the release; of several that match, the
    newest release is taken. All of them are of one release. ``cpus`` is what its guest has: one, so
    that guests beside one another do not wait for each other's locks, but for the one kernel whose
    backends are compared.
    """

    name: str
    archive: str
    suite: str
    packages: tuple[str, ...]
    cpus: int = 1


_MAIN, _SECURITY = "http://deb.debian.org/debian", "http://deb.debian.org/debian-security"
_SPLIT = tuple(rf"linux-{part}-(7\.[\d.]+\+deb13-amd64)" for part in ("binary", "modules", "base"))

#: from 7.2 on a kernel is in three packages
KERNELS = (
    Kernel("5.10", _SECURITY, "bullseye-security", (r"linux-image-(5\.10\.0-\d+-amd64)",)),
    Kernel("6.1", _SECURITY, "bookworm-security", (r"linux-image-(6\.1\.0-\d+-amd64)",)),
    Kernel("6.12", _SECURITY, "bookworm-security", (r"linux-image-(6\.12\.\d+\+deb12-amd64)",), 2),
    Kernel("6.18", _MAIN, "trixie-backports", (r"linux-image-(6\.18\.\d+\+deb13-amd64)",)),
    Kernel("7.x", _MAIN, "trixie-backports", _SPLIT),
)
