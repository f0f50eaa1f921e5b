"""Starting the recorder: another Python, isolated, that sees this package and the system's bcc."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

from ...errors import MissingDependency
from . import protocol

_ROOT = Path(__file__).resolve().parents[2]
#: the distribution's Pythons, the only ones that have bcc
INTERPRETERS = ("/usr/bin/python3", "/usr/libexec/platform-python")

#: makes the package importable from its folder alone, whatever the folder is called
_BOOTSTRAP = """
import importlib.util, sys
root = sys.argv.pop(1)
spec = importlib.util.spec_from_file_location(
    "cvmprof", root + "/__init__.py", submodule_search_locations=[root])
package = sys.modules["cvmprof"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from cvmprof.profiler.record.__main__ import main
main(int(sys.argv[1]))
"""


def interpreter() -> str:
    """The distribution's Python. Raises MissingDependency where there is none."""
    for path in INTERPRETERS:
        if os.access(path, os.X_OK):
            return path
    fact = f"no system Python was found ({', '.join(INTERPRETERS)})"
    raise MissingDependency(fact, "install python3 and bcc for it (python3-bpfcc or python3-bcc)")


def start(debug: bool = False) -> tuple[int, socket.socket]:
    """Starts a recorder; its pid and the socket to speak to it.

    It has nothing of the user's: no variable, and no descriptor, whose other end would wait for it.
    """
    here, there = protocol.socket_pair()
    os.set_inheritable(there.fileno(), True)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    if debug:
        environment["CVMPROF_DEBUG"] = "1"
    path = interpreter()
    pid = os.posix_spawn(
        path,
        [path, "-I", "-B", "-c", _BOOTSTRAP, str(_ROOT), str(there.fileno())],
        environment,
        file_actions=_file_actions(there.fileno(), debug),
        setsid=True,  # the terminal's Ctrl-C is for the command
    )
    there.close()
    return pid, here


def _file_actions(control: int, debug: bool) -> list[tuple[Any, ...]]:
    null: list[tuple[Any, ...]]
    null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
    inherited = [number for number in map(int, os.listdir("/proc/self/fd")) if number > 2]
    foreign = [number for number in inherited if number != control and _is_inheritable(number)]
    closed = [(os.POSIX_SPAWN_CLOSE, number) for number in foreign]
    return [*(null[:2] if debug else null), *closed]


def _is_inheritable(descriptor: int) -> bool:
    try:
        return os.get_inheritable(descriptor)
    except OSError:  # it was the listing's own
        return False
