"""The command runs as the user behind sudo, as if sudo and cvmprof were not there."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cvmprof.probes.gpu_library import LIBRARY
from cvmprof.profiler.session.instrument import STARTUP

USER = "nobody"
UID = 65534
#: sudo is known by its process's name; its environment is the user's, that of its child reset
SUDO = """
import ctypes, json, subprocess, sys
ctypes.CDLL(None).prctl(15, b"sudo", 0, 0, 0)
sys.exit(subprocess.call(sys.argv[2:], env=json.loads(sys.argv[1])))
"""
#: cvmprof, with everything imported that a Python below /root could not import as the user
CVMPROF = """
import sys
import cvmprof.profiler.session.attributes, cvmprof.profiler.finalise, cvmprof.reports.page.page
from cvmprof.cli import main
sys.exit(main())
"""
#: prints what a process can see of itself
PRINT_STATE = """
import json, os
variables = open("/proc/self/environ").read().split("\\0")  # Python adds to its own
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
listed = sorted(map(int, os.listdir("/proc/self/fd")))  # the listing's own is closed again
opened = [number for number in listed if os.path.exists(f"/proc/self/fd/{number}")]
print(json.dumps({
    "ids": [os.getresuid(), os.getresgid()], "groups": sorted(os.getgroups()),
    "cwd": os.getcwd(), "umask": status["Umask"].strip(), "capabilities": status["CapPrm"].strip(),
    "limits": open("/proc/self/limits").read(), "fds": opened,
    "environment": dict(each.split("=", 1) for each in variables if each),
}))
"""
USERS_OWN = {
    "PATH": "/usr/bin:/bin:/users/own", "HOME": "/users/home", "VIRTUAL_ENV": "/users/venv",
    "LD_LIBRARY_PATH": "/users/lib", "HF_HOME": "/users/hf", "CHOICE": "users", "USER": USER,
}  # fmt: skip
RESET = {
    "PATH": "/usr/sbin:/usr/bin", "HOME": "/root", "USER": "root", "LOGNAME": "root",
    "SUDO_UID": str(UID), "SUDO_GID": str(UID), "SUDO_USER": USER, "SUDO_COMMAND": "cvmprof trace",
}  # fmt: skip


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory of the user's."""
    path = Path(tempfile.mkdtemp(prefix="cvmprof-identity-"))
    os.chown(path, UID, UID)
    yield path
    shutil.rmtree(path)


def traced(home: Path, *command: str, **reset: str) -> subprocess.CompletedProcess[str]:
    """Run ``sudo cvmprof trace -o a -- COMMAND`` as the user."""
    self = [sys.executable, "-c", CVMPROF, "trace", "--no-report", "-o", "a", "--", *command]
    return subprocess.run(
        ["/usr/bin/python3", "-I", "-c", SUDO, json.dumps({**RESET, **reset}), *self],
        cwd=home,
        env=USERS_OWN,
        umask=0o027,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def printed(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done
    return dict(json.loads(done.stdout))


def untraced(home: Path, **added: str) -> dict[str, Any]:
    """What the command prints when the user runs it without sudo and cvmprof."""
    groups = subprocess.check_output(["id", "-G", USER], text=True).split()
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", PRINT_STATE],
        cwd=home,
        env={**USERS_OWN, **added},
        umask=0o027,
        user=UID,
        group=UID,
        extra_groups=[int(group) for group in groups],
        capture_output=True,
        text=True,
        check=False,
    )
    return printed(done)


def without_added(environment: dict[str, str], home: Path) -> None:
    """Take away the variables that a recording adds."""
    names = ("CVMPROF_PHASES", "CUDA_INJECTION64_PATH", "CVMPROF_GPU_DIR")
    added = {name: environment.pop(name) for name in names}
    assert added["CUDA_INJECTION64_PATH"] == str(LIBRARY)
    assert added["CVMPROF_GPU_DIR"] == str(home / "a/spool/gpu")
    device, inode, path = added["CVMPROF_PHASES"].split(":", 2)
    assert int(device) == home.stat().st_dev and inode.isdigit()
    assert path == f"{home}/a/spool/phases.jsonl"


def test_the_command_is_as_the_user_would_run_it(home: Path) -> None:
    seen = printed(
        traced(home, "/usr/bin/python3", "-I", "-c", PRINT_STATE, CHOICE="sudo's line", NEW="1")
    )
    without_added(seen["environment"], home)
    assert seen["environment"].pop("PYTHONPATH") == STARTUP
    expected = untraced(home, CHOICE="sudo's line", NEW="1")
    assert expected["fds"] == [0, 1, 2]
    assert seen == expected


def without_sudo_process(home: Path, *command: str, **reset: str) -> dict[str, Any]:
    """Where sudo has executed cvmprof in its own place, only the reset environment is left."""
    options = ["--no-report", "--instrument", "off", "-o", "a"]
    self = [sys.executable, "-c", CVMPROF, "trace", *options, "--", *command]
    return printed(
        subprocess.run(
            self,
            cwd=home,
            env={**RESET, **reset},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    )


def test_without_sudos_process_the_account_has_the_environment(home: Path) -> None:
    command = ("/usr/bin/python3", "-I", "-c", PRINT_STATE)
    seen = without_sudo_process(home, *command, HF_HOME="/kept")
    account = subprocess.check_output(["getent", "passwd", USER], text=True).strip().split(":")
    assert seen["ids"] == [[UID] * 3, [UID] * 3]
    without_added(seen["environment"], home)
    assert seen["environment"] == {
        "PATH": RESET["PATH"],
        "HF_HOME": "/kept",
        "USER": USER,
        "LOGNAME": USER,
        "HOME": account[5],
        "SHELL": account[6],
    }


@pytest.mark.parametrize("shell", ["/bin/bash", "/usr/bin/zsh", "/usr/bin/su"])
def test_in_a_shell_that_sudo_opened_the_user_is_root(home: Path, shell: str) -> None:
    command = ("/usr/bin/python3", "-I", "-c", PRINT_STATE)
    seen = without_sudo_process(home, *command, SUDO_COMMAND=shell)
    assert seen["ids"] == [[0] * 3, [0] * 3]
    assert seen["environment"]["HOME"] == RESET["HOME"]


def test_what_a_run_leaves_is_the_users_and_nobody_elses(home: Path) -> None:
    assert traced(home, "true").returncode == 0
    left = [home / "a", *(home / "a").rglob("*")]
    assert len(left) > 20
    for path in left:
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (UID, UID), path
        assert stat.S_IMODE(status.st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_root_writes_nothing_where_the_user_may_not(home: Path) -> None:
    home.chmod(0o755)
    os.chown(home, 0, 0)
    done = traced(home, "touch", "/dev/null")
    assert done.returncode == 125
    fact = "cvmprof: cannot make the run directory a: Permission denied"
    assert done.stderr.splitlines()[0] == fact
    assert not list(home.iterdir())


def test_a_link_in_the_way_is_refused(home: Path) -> None:
    target = home / "elsewhere"
    (home / "a").symlink_to(target)
    done = traced(home, "true")
    assert (done.returncode, done.stderr.splitlines()[0]) == (125, "cvmprof: a exists already")
    assert not target.exists()


def test_the_recorder_sees_nothing_of_the_users(home: Path) -> None:
    """The command, whose parent's other child is the recorder, keeps it waiting at a FIFO."""
    begun, go = home / "begun", home / "go"
    for fifo in (begun, go):
        os.mkfifo(fifo)
        os.chown(fifo, UID, UID)
    script = 'echo $PPID > "$0/begun"; read word < "$0/go"'
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    self = [sys.executable, "-c", CVMPROF, "trace", "--no-report", "-o", "a", "--", "sh", "-c"]
    with subprocess.Popen(
        ["/usr/bin/python3", "-I", "-c", SUDO, json.dumps(RESET), *self, script, str(home)],
        cwd=home,
        env=USERS_OWN,
        pass_fds=(writing,),
        stderr=subprocess.DEVNULL,
    ) as sudo:
        os.close(writing)
        parent = int(begun.read_text())
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        recorder = next(
            Path(f"/proc/{child}")
            for child in children
            if b"profiler.record" in Path(f"/proc/{child}/cmdline").read_bytes()
        )
        variables = (recorder / "environ").read_bytes().split(b"\0")
        kept = {entry.partition(b"=")[0] for entry in variables if entry}
        opened = {os.readlink(link) for link in (recorder / "fd").iterdir()}
        directory = os.readlink(recorder / "cwd")
        go.write_text("on\n")
    os.close(reading)
    assert sudo.returncode == 0
    assert kept == {b"PATH", b"LC_ALL"}
    assert directory == "/"
    assert not [name for name in opened if name.startswith("pipe:")]
