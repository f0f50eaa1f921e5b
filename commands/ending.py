"""How the process ends.

Exit codes: the traced command's own; if a signal killed the command, cvmprof dies of the same
signal; 125 cvmprof failed before starting the command, 126 the command is not executable, 127 it
was not found; 123 with ``--strict`` if the command succeeded but events were lost.

An error is printed as two lines, the fact and the way out; its traceback only with ``--debug``.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click

from ..errors import CvmprofError
from .output import say

_PR_SET_DUMPABLE = 4  # prctl.h


def exit_code_of(command_line: Callable[[], object]) -> int:
    """Run the command line; catch and print every error. Returns the exit code."""
    try:
        command_line()
        return 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 128 + signal.SIGINT
    except Exception as error:  # noqa: BLE001  users see a traceback only if they ask for it
        explanation = explain(error)
        print_error(explanation, error)
        return explanation.exit_code


def wants_debug() -> bool:
    """Whether tracebacks and the compiler's messages were asked for.

    Read from the arguments themselves, since an error may come before they are parsed.
    """
    return "--debug" in sys.argv[1:2] or bool(os.environ.get("CVMPROF_DEBUG"))


def explain(error: BaseException, run: Path | None = None) -> CvmprofError:
    """Any error as a fact and a way out; after recording ``run``, the way out finishes that run."""
    retry = f"cvmprof report {run}" if run else "run it again with --debug, and report the output"
    if isinstance(error, CvmprofError):
        return error
    if isinstance(error, click.ClickException):
        return CvmprofError(error.format_message(), _usage_help(error))
    if isinstance(error, KeyboardInterrupt):
        return CvmprofError("interrupted; the recording is kept", f"finish with: {retry}")
    if isinstance(error, OSError) and error.strerror:
        path = f"{error.filename}: " if error.filename else ""
        way_out = (
            f"fix that, then: {retry}" if run else "check that it exists, is yours and has room"
        )
        return CvmprofError(f"{path}{error.strerror}", way_out)
    return CvmprofError(f"this is a bug in cvmprof: {error!r}", retry)


def print_error(explanation: CvmprofError, error: BaseException | None = None) -> None:
    """Print the fact and the way out, a line each; with ``--debug`` the traceback first."""
    if error is not None and wants_debug():
        say("".join(traceback.format_exception(error)).rstrip())
    say(f"cvmprof: {one_line(explanation.fact)}")
    say(f"  try: {one_line(explanation.help_text)}")


def end_as(status: int) -> NoReturn:
    """End as the command did, by its wait(2) status: the same exit code or the same signal."""
    if os.WIFSIGNALED(status):
        _die_of(os.WTERMSIG(status))
    sys.exit(os.waitstatus_to_exitcode(status))


def one_line(text: str) -> str:
    """Escape what would break the line or the terminal: file names may hold anything."""
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(shown)


def _usage_help(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{context.command_path} --help" if context else "cvmprof --help"


def _die_of(number: int) -> NoReturn:
    """Die of a signal, without a core dump: the command has left its own."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    with suppress(OSError, ValueError):  # SIGKILL, and those that the C library keeps to itself
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)
    sys.exit(128 + number)  # signals do not end process 1 of a container
