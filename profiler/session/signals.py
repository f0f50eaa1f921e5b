"""Signals while a command is traced: which are passed on to it, and when they are taken."""

from __future__ import annotations

import signal
import time
from collections.abc import Generator
from contextlib import contextmanager

FORWARDED = {
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2,
}  # fmt: skip
WATCHED = FORWARDED | {signal.SIGCHLD}
_FROM_KERNEL = 0x80  # si_code SI_KERNEL (siginfo.h)


@contextmanager
def blocked(signals: set[signal.Signals]) -> Generator[None]:
    """Block signals in this thread and in those that it starts meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def cleaning_up() -> Generator[None]:
    """Let SIGHUP and SIGTERM raise SystemExit, so that ``finally`` clauses run before the end."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def wait_for_signal(deadline_s: float | None) -> signal.struct_siginfo | None:
    """Take the next watched signal, which must be blocked; None at a deadline (time.monotonic)."""
    if deadline_s is None:
        return signal.sigwaitinfo(WATCHED)
    return signal.sigtimedwait(WATCHED, max(0.0, deadline_s - time.monotonic()))


def discard_pending() -> None:
    """Take the watched signals that are pending."""
    while signal.sigtimedwait(WATCHED, 0):
        pass


def is_for_command(received: signal.struct_siginfo) -> bool:
    """Whether to pass a signal on: those of the terminal (Ctrl-C) the command got as well."""
    return received.si_signo in FORWARDED and received.si_code != _FROM_KERNEL
