"""Whose names of processes stay out of a run."""

from __future__ import annotations

import pytest

from cvmprof.profiler.record.hidden import hides_names

PROC = "22 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:13 - proc proc rw"
DISK = "28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,hidepid=2"
ELSEWHERE = "90 28 0:50 / /srv/proc rw - proc proc rw,hidepid=2"
USER = 1000


@pytest.mark.parametrize(
    "option",
    ["hidepid=1", "hidepid=2", "hidepid=invisible", "hidepid=ptraceable", "gid=9,hidepid=2"],
)
def test_where_proc_hides_processes_so_does_a_run(option: str) -> None:
    assert hides_names(USER, f"{DISK}\n{PROC},{option}\n")


@pytest.mark.parametrize("option", ["", ",hidepid=0", ",hidepid=off", ",gid=9"])
def test_elsewhere_everybody_sees_them_anyway(option: str) -> None:
    assert not hides_names(USER, f"{DISK}\n{PROC}{option}\n{ELSEWHERE}\n")


def test_nothing_is_hidden_from_root() -> None:
    assert not hides_names(0, f"{PROC},hidepid=2\n")


def test_where_nothing_is_mounted_nothing_is_hidden() -> None:
    assert not hides_names(USER, "")
