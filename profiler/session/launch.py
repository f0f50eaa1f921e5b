"""Start the recorder: another Python, isolated, that sees this package and the system's bcc."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

from ...errors import MissingDependency
from ...probes.compiler import Compiler
from ..record import protocol

_ROOT = Path(__file__).resolve().parents[2]
#: the distribution's Pythons, the only ones that have bcc
INTERPRETERS = ("/usr/bin/python3", "/usr/libexec/platform-python")

#: makes the package importable from its folder alone, whatever the folder's name
_PACKAGE = """
import importlib.util, sys
root = sys.argv.pop(1)
spec = importlib.util.spec_from_file_location(
    "cvmprof", root + "/__init__.py", submodule_search_locations=[root])
package = sys.modules["cvmprof"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
"""
_SERVE = f"""{_PACKAGE}
from cvmprof.profiler.record.__main__ import main
main(int(sys.argv[1]))
"""
_PRINT_FOUND_BCC = f"""{_PACKAGE}
import dataclasses, json
from cvmprof.profiler.record.load import found_bcc
print(json.dumps(dataclasses.asdict(found_bcc())))
"""
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


def interpreter() -> str:
    """Return the distribution's Python. Raises MissingDependency where there is none."""
    for path in INTERPRETERS:
        if os.access(path, os.X_OK):
            return path
    fact = f"no system Python was found ({', '.join(INTERPRETERS)})"
    raise MissingDependency(fact, "install python3 and bcc for it (python3-bpfcc or python3-bcc)")


def start(debug: bool = False) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a recorder; return its process and the socket to it.

    It inherits no variable and no directory of the user, and no descriptor: the reader of a pipe
    would wait for the recorder to close it. Raises MissingDependency.
    """
    own_end, recorder_end = protocol.socket_pair()
    environment = {**_ENVIRONMENT, "CVMPROF_DEBUG": "1"} if debug else _ENVIRONMENT
    descriptor = recorder_end.fileno()
    recorder = subprocess.Popen(
        [interpreter(), "-I", "-B", "-c", _SERVE, str(_ROOT), str(descriptor)],
        env=environment,
        cwd="/",
        pass_fds=(descriptor,),
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None if debug else subprocess.DEVNULL,
    )
    recorder_end.close()
    return recorder, own_end


def found_bcc() -> Compiler:
    """Return the bcc that a recorder would use, or why it cannot be used. Nothing is attached."""
    try:
        path = interpreter()
    except MissingDependency as error:
        return Compiler(INTERPRETERS[0], None, error.fact, error.help_text)
    done = subprocess.run(
        [path, "-I", "-B", "-c", _PRINT_FOUND_BCC, str(_ROOT)],
        env=_ENVIRONMENT,
        cwd="/",
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    if done.returncode:
        fact = f"the bcc of {path} cannot be imported: it exited with {done.returncode}"
        return Compiler(path, None, fact, f"{path} -c 'import bcc' says why")
    return Compiler(**json.loads(done.stdout))
