"""Mounts a lab's repository, with the real cvmfs2 if it is installed, else the lab's own client."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ...errors import CvmprofError, MissingDependency
from . import serving
from .build import client_program
from .layout import Lab, make_directory, permissions_explained
from .processes import Daemon, recall, remember

Client = Literal["auto", "lab", "real"]

START_TIMEOUT_S = 60.0
END_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class MountOptions:
    """How to mount.

    ``client``: ``lab``, ``real``, or ``auto``: the real cvmfs2 if it is in PATH. ``timeout_s`` and
    ``retries`` apply to one download (0 s: wait for ever, the lab's client only). ``proxy`` is one
    proxy, or several separated by ; and tried in turn. ``url`` replaces the lab's server by another
    with the lab's content; ``certificate`` is the authority that verifies an https server (the
    lab's client only). ``cache`` replaces the lab's cache base. ``quota_mb`` is the real client's
    cache limit.
    """

    client: Client = "auto"
    timeout_s: int = 10
    retries: int = 1
    proxy: str = ""
    url: str = ""
    certificate: Path | None = None
    cache: Path | None = None
    quota_mb: int = 4000


def chosen_client(client: Client) -> Literal["lab", "real"]:
    """Which client ``client`` means on this machine.

    Raises MissingDependency if it asks for the real one and there is none.
    """
    if client == "lab":
        return "lab"
    if shutil.which("cvmfs2") is not None:
        return "real"
    if client == "real":
        raise MissingDependency(
            "no cvmfs2 is in PATH", "install the package cvmfs, or use the lab's client"
        )
    return "lab"


@permissions_explained()
def mount(lab: Lab, mountpoint: Path | None = None, options: MountOptions | None = None) -> Path:
    """Mount the repository from the lab's running server; returns the mount point when it is ready.

    Raises CvmprofError if no server runs, something is mounted there already, or the client
    refuses; the error holds the client's reason.
    """
    options = options or MountOptions()
    place = Path(os.path.abspath(mountpoint or lab.mountpoint))
    _require_free(place)
    server = serving.current(lab)
    if server is None:
        raise CvmprofError(
            f"the lab {lab.root} has no running server", "start it first: cvmprof lab serve"
        )
    make_directory(place)
    make_directory(lab.logs)
    client = chosen_client(options.client)
    start = _command_real if client == "real" else _command_lab
    _run_client(start(lab, place, options.url or server.url, options), place, lab)
    daemon = Daemon.of(int(os.getxattr(place, "user.pid")))
    make_directory(lab.root / "mounts")
    remember(_state_file(lab, place), daemon, mountpoint=str(place), client=client)
    return place


@permissions_explained()
def unmount(lab: Lab, mountpoint: Path | None = None, force: bool = False) -> None:
    """Unmount and wait until the client has ended; do nothing if nothing is mounted.

    ``force`` detaches a busy mount and ends the client, so that its waiting readers get an error.
    Raises CvmprofError if the mount is busy.
    """
    place = Path(os.path.abspath(mountpoint or lab.mountpoint))
    state = recall(_state_file(lab, place))
    daemon = state[0] if state else None
    if force and daemon is not None:
        daemon.end()
    if is_mounted(place):
        _unmount_place(place, force)
    if daemon is not None and not daemon.wait(END_TIMEOUT_S):
        daemon.end()
    _state_file(lab, place).unlink(missing_ok=True)


def mounts(lab: Lab) -> list[Path]:
    """Where ``mount`` has mounted this lab's repository and it still is."""
    states = [recall(file) for file in sorted((lab.root / "mounts").glob("*.json"))]
    places = [Path(str(state[1]["mountpoint"])) for state in states if state]
    return [place for place in places if is_mounted(place)]


def is_mounted(place: Path) -> bool:
    """Whether something is mounted exactly there, dead or alive; the path is not touched."""
    return str(place) in (mounted for mounted, _ in mount_table())


def mount_table() -> Iterator[tuple[str, str]]:
    """(mount point, source) of every mount that this process sees, in the order of mounting."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            fields = line.split(" ")
            source = line.rpartition(" - ")[2].split(" ")[1]
            yield _unescape(fields[4]), source


def _unescape(field: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field


def _require_free(place: Path) -> None:
    if is_mounted(place):
        raise CvmprofError(
            f"{place} is a mount point already", "unmount it first: cvmprof lab unmount"
        )


def _state_file(lab: Lab, place: Path) -> Path:
    return lab.root / "mounts" / f"{hashlib.sha1(str(place).encode()).hexdigest()[:12]}.json"


def _command_lab(lab: Lab, place: Path, url: str, options: MountOptions) -> list[str]:
    cache = _cache(lab, options, "lab") / lab.repository
    others = ["--allow-other"] if os.geteuid() == 0 else []
    return [
        str(client_program()),
        *others,
        f"--repository={lab.repository}",
        f"--url={url}",
        f"--cache={make_directory(cache, 0o700)}",
        f"--public-key={lab.public_key}",
        f"--log={lab.logs / 'client.log'}",
        f"--timeout={options.timeout_s}",
        f"--retries={options.retries}",
        *([f"--proxy={options.proxy}"] if options.proxy else []),
        *([f"--certificate={options.certificate}"] if options.certificate else []),
        str(place),
    ]


def _command_real(lab: Lab, place: Path, url: str, options: MountOptions) -> list[str]:
    cache = make_directory(_cache(lab, options, "real"))
    settings = {
        "CVMFS_CACHE_BASE": str(cache),
        "CVMFS_RELOAD_SOCKETS": str(cache),
        "CVMFS_WORKSPACE": str(cache),
        "CVMFS_SERVER_URL": url,
        "CVMFS_HTTP_PROXY": options.proxy or "DIRECT",
        "CVMFS_PUBLIC_KEY": str(lab.public_key),
        "CVMFS_KEYS_DIR": str(lab.keys),
        "CVMFS_SHARED_CACHE": "no",
        "CVMFS_QUOTA_LIMIT": str(options.quota_mb),
        "CVMFS_CLAIM_OWNERSHIP": "no",
        "CVMFS_CHECK_PERMISSIONS": "no",
        "CVMFS_CLIENT_PROFILE": "single",
        "CVMFS_REPOSITORIES": lab.repository,
        "CVMFS_TIMEOUT": str(options.timeout_s),
        "CVMFS_TIMEOUT_DIRECT": str(options.timeout_s),
        "CVMFS_MAX_RETRIES": str(options.retries),
    }
    config = lab.root / "client.conf"
    config.write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()))
    others = "allow_other," if os.geteuid() == 0 else ""
    return ["cvmfs2", "-o", f"{others}config={config}", lab.repository, str(place)]


def _cache(lab: Lab, options: MountOptions, client: str) -> Path:
    """The cache base. Each client has its own: cvmfs2 keeps a record of what it wrote itself."""
    return options.cache or lab.cache / client


def _run_client(command: list[str], place: Path, lab: Lab) -> None:
    """Start the client; it returns from the foreground when the mount is ready."""
    messages = lab.logs / "mount.log"
    with open(messages, "wb") as log:
        # Not a pipe: the daemon would keep it open, and reading it would wait for the daemon's end.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            status = process.wait(START_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            status = -1
    if status != 0 or not is_mounted(place):
        lines = messages.read_text(errors="replace").splitlines() or ["the client gave no reason"]
        raise CvmprofError(
            f"{lab.repository} cannot be mounted on {place}: {lines[-1].removeprefix('cvmfs2: ')}",
            f"see {messages}; is the server running, and has something been published?",
        )


def _unmount_place(place: Path, force: bool) -> None:
    helper = shutil.which("fusermount3") or shutil.which("fusermount")
    if os.geteuid() == 0:
        command = ["umount", *(["-l"] if force else []), str(place)]
    elif helper is not None:
        command = [helper, "-u", *(["-z"] if force else []), str(place)]
    else:
        raise MissingDependency("fusermount3 is not installed", "install fuse3")
    result = subprocess.run(command, capture_output=True, text=True)
    # The client may have detached the mount itself as it ended.
    if result.returncode and is_mounted(place):
        output = result.stderr.strip().splitlines() or ["no reason given"]
        raise CvmprofError(
            f"{place} cannot be unmounted: {output[-1]}",
            "end the programs that use it, or: cvmprof lab unmount --force",
        )
