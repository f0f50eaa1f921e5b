"""A virtual machine with one kernel of the matrix and this machine's files, emulated in software.

virtme-ng boots it: the guest's root is this machine's, in which it writes as well, and a command
runs as root. What it leaves in the shared directory is here when it has ended.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .images import Image

#: a guest's own clock runs slower than this one's
TIMEOUT_S = 1800
#: one, so that guests beside one another never wait for a lock whose holder does not run
_CPUS = "1"


@dataclass(frozen=True)
class Ended:
    """What a guest's command left: its exit status, all it wrote, and the shared directory."""

    status: int
    console: str
    shared: Path


def run_in_guest(
    image: Image, command: list[str], shared: Path, machine: tuple[str, ...] = ()
) -> Ended:
    """Boots the kernel, runs one command as root, and waits for the end.

    The command finds the directory, made here, in ``$SHARED``; ``machine`` are further options of
    virtme-ng. Raises TimeoutExpired.
    """
    shared.mkdir(parents=True)
    (shared / "command").write_text(_script(image, command, shared))
    boot = [
        _virtme(),
        "--disable-kvm",
        "--run",
        str(image.vmlinuz),
        *machine,
        "--memory",
        "4G",
        "--cpus",
        _CPUS,
        "--rw",
        "--verbose",
        "--",
        f"sh {shared / 'command'}",
    ]
    with _modules_in_place(image):
        console = _boot(boot, shared)
    status = shared / "status"
    code = int(status.read_text()) if status.exists() else -1
    return Ended(code, console, shared)


def _boot(boot: list[str], directory: Path) -> str:
    """Runs the machine; what it wrote to its console. What hangs is ended, with all it started."""
    path = f"{Path(boot[0]).resolve().parent}:{os.environ['PATH']}"
    machine = subprocess.Popen(
        boot,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=directory,
        env={**os.environ, "PATH": path},
        start_new_session=True,
    )
    try:
        output, _ = machine.communicate(timeout=TIMEOUT_S)
    except BaseException:
        os.killpg(machine.pid, signal.SIGKILL)
        machine.wait()
        raise
    return output.decode("utf-8", "replace")


def _script(image: Image, command: list[str], shared: Path) -> str:
    """FUSE is a module on some kernels; the guest's own files are in memory."""
    words = " ".join(map(shlex.quote, command))
    return (
        f"export SHARED={shared}\n"
        f"/sbin/modprobe -d {image.root} fuse\n"
        f"{words} > {shared}/output 2>&1\n"
        f"echo $? > {shared}/status\n"
    )


def _virtme() -> str:
    beside = Path(sys.executable).parent / "vng"
    found = str(beside) if beside.exists() else shutil.which("vng")
    if not found:
        raise RuntimeError("virtme-ng is not installed")
    return found


@contextmanager
def _modules_in_place(image: Image) -> Generator[None]:
    """The modules, where a kernel looks for them, as long as the guest runs."""
    link = Path("/lib/modules") / image.release
    made = not link.exists()
    if made:
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(image.modules)
    try:
        yield
    finally:
        if made:
            link.unlink()
