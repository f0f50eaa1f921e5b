"""What a boot and a process allow: read from files, and said in plain words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cvmprof.probes import conditions
from cvmprof.probes.conditions import Conditions, of_this_process

ALL = "000001ffffffffff"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Files that stand for this machine's, of a process that may do everything."""
    for name in ("status", "users", "lockdown", "ftrace"):
        monkeypatch.setattr(conditions, f"_{name.upper()}", tmp_path / name)
    monkeypatch.setattr(conditions, "_KPROBES", tmp_path)
    tell(tmp_path, status=f"Name:\tx\nCapEff:\t{ALL}\n", users="         0          0 4294967295\n")
    return tmp_path


def tell(machine: Path, **files: str) -> None:
    for name, text in files.items():
        (machine / name).write_text(text)


def test_where_nothing_else_can_be_read_nothing_is_in_the_way(machine: Path) -> None:
    assert of_this_process(frozenset({"filemap_fault"})) == Conditions()


def test_what_the_files_say(machine: Path) -> None:
    tell(
        machine,
        status="Name:\tx\nCapEff:\t0000000000200000\n",
        ftrace="0\n",
        enabled="0\n",
        lockdown="none [integrity] confidentiality\n",
        users="0 1000 1\n",
        blacklist="0xffffffff81000000-0xffffffff81000010\tfilemap_fault\n0x1-0x2\tother\n",
    )
    assert of_this_process(frozenset({"filemap_fault", "fuse_request_end"})) == Conditions(
        missing_capabilities=("CAP_SYS_PTRACE", "CAP_PERFMON", "CAP_BPF"),
        own_user_namespace=True,
        lockdown="integrity",
        kprobes_enabled=False,
        ftrace_enabled=False,
        blacklisted=("filemap_fault",),
    )


def test_a_namespace_of_processes_is_noticed() -> None:
    script = (
        "from cvmprof.probes.conditions import of_this_process as told\n"
        "print(told().own_pid_namespace)"
    )
    command = [sys.executable, "-c", script]
    inside = ["unshare", "--pid", "--fork", "--mount-proc", *command]
    said = [subprocess.check_output(each, text=True).strip() for each in (command, inside)]
    assert said == ["False", "True"]


@pytest.mark.parametrize(
    ("here", "reason", "way_out"),
    [
        (
            Conditions(is_root=False, missing_capabilities=("CAP_SYS_ADMIN",)),
            "recording needs root",
            "sudo cvmprof trace",
        ),
        (
            Conditions(missing_capabilities=("CAP_SYS_ADMIN", "CAP_BPF")),
            "root without CAP_SYS_ADMIN, as in a container",
            "--privileged --pid=host",
        ),
        (
            Conditions(own_user_namespace=True, own_pid_namespace=True),
            "root only within its container (a user namespace)",
            "run cvmprof on the host",
        ),
        (Conditions(own_pid_namespace=True), "its own PID namespace", "--pid=host"),
        (
            Conditions(lockdown="confidentiality"),
            "locked down for confidentiality",
            "lockdown=integrity",
        ),
    ],
    ids=["user", "container", "user namespace", "pid namespace", "lockdown"],
)
def test_a_hindrance_has_its_reason_and_its_way_out(
    here: Conditions, reason: str, way_out: str
) -> None:
    (lack,) = here.hindrances()
    assert reason in lack.reason
    assert way_out in lack.way_out
    assert here.without_hindrances().hindrances() == ()


@pytest.mark.parametrize(
    "here",
    [
        Conditions(),
        Conditions(is_root=False),  # a file's capabilities
        Conditions(missing_capabilities=("CAP_BPF", "CAP_PERFMON")),  # CAP_SYS_ADMIN is both
        Conditions(lockdown="integrity"),
        Conditions(kprobes_enabled=False, ftrace_enabled=False),  # tracepoints are there yet
    ],
    ids=str,
)
def test_what_keeps_nobody_from_recording(here: Conditions) -> None:
    assert here.hindrances() == ()


def test_this_process_may_record() -> None:
    assert os.geteuid() == 0
    assert of_this_process().hindrances() == ()
