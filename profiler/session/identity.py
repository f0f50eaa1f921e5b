"""The invoking user: the one behind sudo, with that user's own environment."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, field

_SHELLS = frozenset(("sh", "bash", "dash", "zsh", "fish", "ksh", "tcsh", "csh", "su"))
#: variables that sudo sets: the user's own values are in the environment of sudo's process
_SET_BY_SUDO = frozenset((
    "HOME", "LOGNAME", "MAIL", "PATH", "SHELL", "SUDO_COMMAND", "SUDO_GID", "SUDO_HOME", "SUDO_TTY",
    "SUDO_UID", "SUDO_USER", "USER", "USERNAME",
))  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """The invoking user: numbers, groups, environment, umask."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    environment: dict[str, str] = field(repr=False)
    umask: int


def invoking_user() -> Identity:
    """Return the user who ran sudo, else the one who runs this process.

    sudo resets PATH and drops variables; the original environment is that of the sudo process,
    plus the variables set on its command line. In a shell that sudo opened the user is root.
    """
    uid = os.environ.get("SUDO_UID", "")
    if os.geteuid() != 0 or not uid.isdigit() or _in_root_shell():
        groups = tuple(os.getgroups())
        return Identity(os.geteuid(), os.getegid(), groups, _environment_of("self"), _umask("self"))
    gid = int(os.environ.get("SUDO_GID", uid))
    return Identity(
        uid=int(uid),
        gid=gid,
        groups=_groups(int(uid), gid),
        environment=_environment(int(uid)),
        umask=_umask(os.getppid() if parent_is_sudo() else "self"),
    )


def become(identity: Identity) -> None:
    """Give up root for good: from here on files are created and opened as the user."""
    if os.geteuid() == 0 and identity.uid != 0:
        os.setgroups(identity.groups)
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    os.umask(identity.umask)


def _groups(uid: int, gid: int) -> tuple[int, ...]:
    try:
        return tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
    except KeyError:  # a user without an entry in the user database
        return (gid,)


def parent_is_sudo() -> bool:
    """Whether sudo started this process."""
    try:
        with open(f"/proc/{os.getppid()}/comm", encoding="ascii", errors="replace") as file:
            return file.read().strip() == "sudo"
    except OSError:
        return False


def _in_root_shell() -> bool:
    """Whether sudo opened a shell (sudo -s, sudo -i, sudo su) instead of running a command."""
    command = os.environ.get("SUDO_COMMAND", "").split()
    return len(command) == 1 and os.path.basename(command[0]) in _SHELLS


def _environment(uid: int) -> dict[str, str]:
    own = _environment_of("self").items()
    passed_on = {name: value for name, value in own if name not in _SET_BY_SUDO}
    original = _environment_of(os.getppid()) if parent_is_sudo() else {}
    return {**(original or _account(uid)), **passed_on}


def _account(uid: int) -> dict[str, str]:
    """What sudo replaced, from the user database: for when sudo's process no longer exists."""
    path = {"PATH": os.environ.get("PATH", os.defpath)}
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return path
    names = {"USER": user.pw_name, "LOGNAME": user.pw_name}
    return {**path, **names, "HOME": user.pw_dir, "SHELL": user.pw_shell}


def _environment_of(pid: int | str) -> dict[str, str]:
    """The variables that a process was started with; os.environ has Python's own too (PEP 538)."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return {}
    pairs = (os.fsdecode(entry).partition("=") for entry in entries if b"=" in entry)
    return {name: value for name, _, value in pairs}


def _umask(pid: int | str) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        return next(
            (int(line.split()[1], 8) for line in status if line.startswith("Umask:")), 0o077
        )
