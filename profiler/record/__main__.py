"""The recorder's process: ``python3 -I -c BOOTSTRAP ROOT DESCRIPTOR`` (session/launch.py)."""

from __future__ import annotations

import os
import signal
import socket
import sys
import traceback
from contextlib import suppress

from ...errors import CvmprofError
from . import protocol
from .recorder import serve


def main(descriptor: int) -> None:
    """Serve one session over an inherited socket. Errors go to it, not to the terminal."""
    # the watchdog: the signal's default action ends us even if we hang, whatever we inherited
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)  # the session decides when to stop
    os.chdir("/")
    control = socket.socket(fileno=descriptor)
    try:
        serve(control)
    except CvmprofError as error:
        _report(control, error.fact, error.help_text)
    except OSError as error:
        fact = f"recording failed: {error.strerror or error}"
        _report(control, fact, "free disk space or check the device, then record again")
    except Exception as error:  # noqa: BLE001  the session prints it: users see tracebacks only with --debug
        if os.environ.get("CVMPROF_DEBUG"):
            traceback.print_exc()
        _report(control, f"the recorder failed: {error!r}", "report it with --debug's output")
    sys.stdout.flush()
    os._exit(0)  # the kernel detaches the programs: about 0.1 s for each uprobe


def _report(control: socket.socket, fact: str, help_text: str) -> None:
    with suppress(OSError):  # the session may be gone
        protocol.send(control, "error", fact=fact, help_text=help_text)


if __name__ == "__main__":
    main(int(sys.argv[1]))
