"""What this boot and this process are allowed to do, whatever the kernel supports.

Separate from the kernel's own facts, because it differs between processes and is not saved. What
cannot be read counts as allowed. Standard library only.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

#: capabilities that recording uses (include/uapi/linux/capability.h): to see other users'
#: processes; to load and attach programs, which always needs CAP_SYS_ADMIN
CAPABILITIES = {"CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39}
_NEEDED = "CAP_SYS_ADMIN"
#: include/linux/proc_ns.h: PROC_PID_INIT_INO
_FIRST_PID_NAMESPACE = "pid:[4026531836]"
_EVERY_USER = ["0", "0", "4294967295"]
_CONFIDENTIALITY = "confidentiality"

_STATUS, _USERS = Path("/proc/self/status"), Path("/proc/self/uid_map")
_LOCKDOWN = Path("/sys/kernel/security/lockdown")
_KPROBES = Path("/sys/kernel/debug/kprobes")
_FTRACE = Path("/proc/sys/kernel/ftrace_enabled")
_ON_HOST = "run cvmprof on the host, around the command that starts the container"


@dataclass(frozen=True)
class Lack:
    """Why something cannot be observed, and what would help, in plain words."""

    reason: str
    way_out: str


@dataclass(frozen=True)
class Conditions:
    """What may prevent recording. The default: nothing does.

    ``missing_capabilities``: those of `CAPABILITIES` that this process lacks. ``lockdown``: the
    level (none, integrity, confidentiality), "" if unknown. ``blacklisted``: functions of ours on
    which the kernel allows no kprobes. ``fentry_refused``: the kernel's error if it was tried with
    an fentry program and refused it, else "".
    """

    is_root: bool = True
    missing_capabilities: tuple[str, ...] = ()
    own_user_namespace: bool = False
    own_pid_namespace: bool = False
    lockdown: str = ""
    kprobes_enabled: bool = True
    ftrace_enabled: bool = True
    blacklisted: tuple[str, ...] = ()
    fentry_refused: str = ""

    def hindrances(self) -> tuple[Lack, ...]:
        """Why nothing can be recorded, each with what would help."""
        lacks = (self._powerless(), self._renumbered(), self._locked_down())
        return tuple(lack for lack in lacks if lack is not None)

    def without_hindrances(self) -> Conditions:
        """The same, as if this process were allowed to record."""
        lockdown = "" if self.lockdown == _CONFIDENTIALITY else self.lockdown
        return replace(
            self,
            missing_capabilities=(),
            own_user_namespace=False,
            own_pid_namespace=False,
            lockdown=lockdown,
        )

    def _powerless(self) -> Lack | None:
        if self.own_user_namespace:
            reason = "this process is root only within its container (a user namespace)"
            return Lack(reason, _ON_HOST)
        if _NEEDED not in self.missing_capabilities:
            return None
        if not self.is_root:
            reason = "recording needs root: this process may not load BPF programs"
            return Lack(reason, "sudo cvmprof trace -- COMMAND")
        way_out = f"{_ON_HOST}, or start the container with --privileged --pid=host"
        return Lack(f"this process is root without {_NEEDED}, as in a container", way_out)

    def _renumbered(self) -> Lack | None:
        """The programs see the host's process numbers."""
        if not self.own_pid_namespace or self.own_user_namespace:
            return None
        reason = "this process is in its own PID namespace, as in a container"
        return Lack(reason, f"{_ON_HOST}, or start the container with --pid=host")

    def _locked_down(self) -> Lack | None:
        if self.lockdown != _CONFIDENTIALITY:
            return None
        reason = "the kernel is locked down for confidentiality: no program may read its memory"
        return Lack(reason, "boot with lockdown=integrity, which lets BPF programs read memory")


def of_this_process(functions: frozenset[str] = frozenset()) -> Conditions:
    """The current conditions; ``blacklisted`` are those of ``functions`` that allow no kprobes."""
    capabilities = int(_fields(_STATUS, "CapEff:")[-1], 16)
    missing = (name for name, bit in CAPABILITIES.items() if not capabilities >> bit & 1)
    return Conditions(
        is_root=os.geteuid() == 0,
        missing_capabilities=tuple(missing),
        own_user_namespace=_words(_USERS) not in ([], _EVERY_USER),
        own_pid_namespace=os.readlink("/proc/self/ns/pid") != _FIRST_PID_NAMESPACE,
        lockdown=chosen(_LOCKDOWN),
        kprobes_enabled=_words(_KPROBES / "enabled") != ["0"],
        ftrace_enabled=_words(_FTRACE) != ["0"],
        blacklisted=_blacklisted(functions) if functions else (),
    )


def _blacklisted(functions: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(functions.intersection(_words(_KPROBES / "blacklist"))))


def _fields(path: Path, label: str) -> list[str]:
    lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    return next(line.split() for line in lines if line.startswith(label))


def _words(path: Path) -> list[str]:
    """The words of a file; none if it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").split()
    except OSError:
        return []


def chosen(path: Path) -> str:
    """The word in brackets in a file, as in "none [integrity] confidentiality" and "none (full)";
    "" if it cannot be read.
    """
    return next((word[1:-1] for word in _words(path) if word.startswith(("[", "("))), "")
