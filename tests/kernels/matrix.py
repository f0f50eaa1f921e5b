"""The kernels of the matrix and the versions of bcc, declared here and nowhere else: as their
distributions ship them, unmodified.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A suite of an archive of packages, and the package with the keys that sign it: this machine
    has it, or else ``keys_from``.
    """

    archive: str
    suite: str
    components: str = "main"
    keys: str = "debian-archive-keyring"
    keys_from: Source | None = None


@dataclass(frozen=True)
class Kernel:
    """One kernel: the Debian suite that has it, and what the names of its packages match.

    ``packages`` are regular expressions with one group, the release; of several that match, the
    newest release is taken. All of them are of one release.
    """

    name: str
    source: Source
    packages: tuple[str, ...]


@dataclass(frozen=True)
class Distribution:
    """A distribution, for the bcc that it ships: the name of its version, and where it is."""

    name: str
    source: Source


def _debian(suite: str) -> Source:
    security = "-security" if suite.endswith("-security") else ""
    return Source(f"http://deb.debian.org/debian{security}", suite)


def _ubuntu(suite: str) -> Source:
    archive, keys = "http://archive.ubuntu.com/ubuntu", "ubuntu-keyring"
    return Source(archive, suite, "main universe", keys, _debian("trixie"))


_SPLIT = tuple(rf"linux-{part}-(7\.[\d.]+\+deb13-amd64)" for part in ("binary", "modules", "base"))

#: from 7.2 on a kernel is in three packages
KERNELS = (
    Kernel("5.10", _debian("bullseye-security"), (r"linux-image-(5\.10\.0-\d+-amd64)",)),
    Kernel("6.1", _debian("bookworm-security"), (r"linux-image-(6\.1\.0-\d+-amd64)",)),
    Kernel("6.12", _debian("bookworm-security"), (r"linux-image-(6\.12\.\d+\+deb12-amd64)",)),
    Kernel("6.18", _debian("trixie-backports"), (r"linux-image-(6\.18\.\d+\+deb13-amd64)",)),
    Kernel("7.x", _debian("trixie-backports"), _SPLIT),
)

#: for their bcc: 0.18 to 0.31, and what is newer from day to day
DISTRIBUTIONS = (
    Distribution("Debian 11", _debian("bullseye")),
    Distribution("Ubuntu 22.04", _ubuntu("jammy")),
    Distribution("Debian 12", _debian("bookworm")),
    Distribution("Ubuntu 24.04", _ubuntu("noble")),
    Distribution("Debian 13", _debian("trixie")),
    Distribution("Debian forky", _debian("forky")),
    Distribution("Debian sid", _debian("sid")),
)
#: what a root of a distribution is made of, with all that it depends on
BCC_PACKAGE = "python3-bpfcc"
#: where kprobes and fentry are attached with the oldest and the newest bcc, if the kernel that runs
#: here has none: FUSE is a module there, and there is no uprobe_multi
BCC_KERNEL = "6.1"
BCC_IN_GUEST = (DISTRIBUTIONS[0], DISTRIBUTIONS[-1])
