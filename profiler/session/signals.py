"""Signals while a command is traced: which are taken, when, and what they do to this process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager

#: all that can be caught
WATCHED = set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP}
#: those by which a terminal stops a job
TERMINAL_STOPS = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
#: those that end what cvmprof does after the command
ENDING = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
#: those that end a process by default and are not the sign of a fault in it
_TERMINATING = {
    signal.SIGHUP, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPROF,
    signal.SIGVTALRM, signal.SIGIO, signal.SIGPWR, signal.SIGSTKFLT, signal.SIGXCPU,
    *range(signal.SIGRTMIN, signal.SIGRTMAX + 1),
}  # fmt: skip
_FROM_KERNEL = 0x80  # si_code SI_KERNEL (siginfo.h)


@contextmanager
def blocked(signals: Iterable[int]) -> Generator[None]:
    """Block signals in this thread and in those that it starts meanwhile."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def cleaning_up() -> Generator[None]:
    """Let signals that would end this process raise SystemExit, so that ``finally`` clauses run."""
    with _raising(_TERMINATING, lambda number: SystemExit(128 + number)):
        yield


@contextmanager
def interruptible() -> Generator[None]:
    """Let the signals in `ENDING` raise KeyboardInterrupt, even where they were blocked."""
    with _raising(ENDING, lambda _: KeyboardInterrupt()):
        before = signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _raising(numbers: Iterable[int], error: Callable[[int], BaseException]) -> Generator[None]:
    """Let signals raise an error; those that the caller ignores (nohup) stay ignored."""

    def raise_error(number: int, _frame: object) -> None:
        raise error(number)

    handlers = {number: signal.getsignal(number) for number in numbers}
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, raise_error)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def wait_for_signal(timeout_s: float | None) -> signal.struct_siginfo | None:
    """Take the next watched signal, which must be blocked; None after a time."""
    if timeout_s is None:
        return signal.sigwaitinfo(WATCHED)
    return signal.sigtimedwait(WATCHED, max(0.0, timeout_s))


def discard_pending() -> None:
    """Take the watched signals that are pending."""
    while signal.sigtimedwait(WATCHED, 0):
        pass


def was_sent(received: signal.struct_siginfo, child: int) -> bool:
    """Whether another process sent a signal to this one, and not the command to its parent."""
    return received.si_code <= 0 and received.si_pid not in (os.getpid(), child)


def stop(number: int) -> None:
    """Stop this process as the terminal would, until it is continued.

    SIGCONT is pending then, if it is blocked. Where nobody could continue it, the kernel does not
    stop it.
    """
    if signal.getsignal(number) is signal.SIG_DFL:
        os.kill(os.getpid(), number)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        signal.pthread_sigmask(signal.SIG_BLOCK, {number})
