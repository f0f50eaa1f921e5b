"""The errors that users see.

    CvmprofError              the base: a fact, a way out, an exit code
    ├── NotPermitted          root or a capability is missing
    ├── MissingDependency     something that must be installed is not
    ├── BadRun                a run directory is absent, foreign, damaged or too new
    ├── CommandNotFound       the command to trace does not exist (exit code 127)
    ├── CommandNotExecutable  it exists but cannot be executed (exit code 126)
    └── EventsLost            --strict: the command succeeded, events were lost (exit code 123)

Errors are caught once, in commands/ending.py, and printed as two lines: the fact about this
machine, and what to do. Standard library only, nothing of ours: every room imports this file, and
so does the recorder.
"""

from __future__ import annotations


class CvmprofError(Exception):
    """Something that a user can understand and fix.

    ``fact`` is one line about this machine, ``help_text`` one line with the way out.
    """

    exit_code = 125

    def __init__(self, fact: str, help_text: str) -> None:
        super().__init__(fact)
        self.fact = fact
        self.help_text = help_text


class NotPermitted(CvmprofError):
    """Root, or a capability, is missing."""


class MissingDependency(CvmprofError):
    """A program or library that must be installed is not, or another of its name is."""


class BadRun(CvmprofError):
    """A run directory is absent, foreign, beyond recovery, or written by a newer cvmprof."""


class CommandNotFound(CvmprofError):
    """The command to trace does not exist."""

    exit_code = 127


class CommandNotExecutable(CvmprofError):
    """The command to trace exists but cannot be executed."""

    exit_code = 126


class EventsLost(CvmprofError):
    """The command succeeded, but events were lost and ``--strict`` was given."""

    exit_code = 123
