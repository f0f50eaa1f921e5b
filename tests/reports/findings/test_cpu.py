"""What is said of the want of a CPU, and when nothing is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cvmprof.reports.findings.finding import Finding
from cvmprof.reports.numbers.cpu import Cpu, Holder, Lack, Quota
from cvmprof.tests.reports.rows import spoken
from cvmprof.tests.reports.synthetic import MS

QUOTA = Quota("/pods/one", "client", 0.15, 32, 22, 1700 * MS)
CLIENT = Lack(
    "load", 2000 * MS, "client", 1200 * MS,
    {"the download thread": 1000 * MS, "threads that serve requests": 200 * MS},
    (Holder("quota", 1150 * MS), Holder("neighbour", 50 * MS, "burn", 77)),
)  # fmt: skip
BURN = Holder("neighbour", 300 * MS, "burn", 77)
COMMAND = Lack("load", 1000 * MS, "command", 400 * MS, {"python3": 400 * MS}, (BURN,))


def said(cpu: Cpu) -> list[Finding]:
    return spoken(cpu=cpu)


def test_a_client_held_up_by_its_quota() -> None:
    assert said(Cpu(2, (CLIENT,), (QUOTA,))) == [
        Finding(
            "advice",
            "“load” waited for the client, which had no CPU, for 1.20 s of its 2.00 s (60 %).",
            "The download thread 1.00 s, threads that serve requests 200 ms. It waited behind: a "
            "quota of its cgroup 1.15 s, burn (pid 77) 50.0 ms. The cgroup /pods/one may use 0.15 "
            "of a CPU (cpu.max, or cpu.cfs_quota_us): it had used that up in 22 of 32 periods, and "
            "was kept waiting for 1.70 s, summed over the CPUs. At most 1.15 s can be gained with "
            "a higher quota.",
        )
    ]


def test_a_quota_out_of_sight() -> None:
    (finding,) = said(Cpu(2, (CLIENT,), (replace(QUOTA, whose="command"),)))
    assert "The cgroup with the quota cannot be seen from here. At most" in finding.meaning
    (finding,) = said(Cpu(2, (CLIENT,), (replace(QUOTA, throttled_periods=0),)))
    assert "cannot be seen" in finding.meaning


def test_a_client_behind_neighbours_and_the_commands_threads() -> None:
    holders = (
        Holder("command", 600 * MS), Holder("neighbour", 300 * MS, "cc1\x1b", 9, 12),
        Holder("client", 200 * MS), Holder("neighbour", 70 * MS, "a", 1),
        Holder("neighbour", 30 * MS, "b", 2),
    )  # fmt: skip
    (finding,) = said(Cpu(2, (replace(CLIENT, holders=holders),), wanting=9))
    assert finding.meaning.partition(" It waited ")[2] == (
        "behind: the command's own threads 600 ms, cc1\\x1b (12 processes) 300 ms, the client's "
        "threads 200 ms, others 100 ms. Up to 9 of the command's threads wanted a CPU at once; "
        "there are 2. At most 600 ms can be gained if fewer compute at once. At most 400 ms can be "
        "gained if other programs run elsewhere, or with more CPUs than 2."
    )


def test_a_client_behind_its_own_threads() -> None:
    lack = replace(CLIENT, holders=(Holder("client", 1200 * MS),))
    (finding,) = said(Cpu(1, (lack,)))
    assert finding.meaning.endswith(" At most 1.20 s can be gained with more CPUs than 1.")


def test_a_command_behind_a_neighbour() -> None:
    lack = replace(COMMAND, ns=300 * MS)
    assert said(Cpu(None, (lack,))) == [
        Finding(
            "advice",
            "“load” could run and had no CPU for 300 ms of its 1.00 s (30 %).",
            "It waited behind: burn (pid 77) 300 ms. At most 300 ms can be gained if other "
            "programs run elsewhere, or with more CPUs.",
        )
    ]


@pytest.mark.parametrize("lack", [COMMAND, CLIENT])
def test_below_a_twentieth_of_the_time_nothing_is_said(lack: Lack) -> None:
    small = replace(lack, ns=99, of_ns=2000)
    assert said(Cpu(2, (small,), (QUOTA,))) == []
    assert len(said(Cpu(2, (replace(small, ns=100),), (QUOTA,)))) == 1


def test_a_quota_that_kept_nobody_waiting_is_not_told() -> None:
    assert said(Cpu(2, (), (QUOTA,))) == []


def test_the_whole_command_is_spoken_of_else_the_phase_that_lacked_most() -> None:
    whole = replace(COMMAND, subject="whole command", of_ns=3000 * MS, ns=900 * MS)
    (finding,) = said(Cpu(2, (COMMAND, whole)))
    assert (
        finding.headline == "The command could run and had no CPU for 900 ms of its 3.00 s (30 %)."
    )
    (finding,) = said(Cpu(2, (COMMAND, replace(whole, ns=100 * MS))))
    assert finding.headline == "“load” could run and had no CPU for 400 ms of its 1.00 s (40 %)."
    (finding,) = said(Cpu(2, (replace(CLIENT, subject="whole command"),)))
    assert finding.headline == (
        "The command waited for the client, which had no CPU, for 1.20 s of its 2.00 s (60 %)."
    )


def test_more_threads_than_cpus() -> None:
    cpu = Cpu(2, ran_ns=100 * MS, lacked_ns=300 * MS, wanting=8)
    assert said(cpu) == [
        Finding(
            "note",
            "The command's threads wanted a CPU for 400 ms, summed over them, and had none for "
            "300 ms (75 %) of it.",
            "Up to 8 of the command's threads wanted a CPU at once; there are 2.",
        )
    ]
    assert said(replace(cpu, lacked_ns=66 * MS)) == [], "two of five"
    assert said(replace(cpu, wanting=2)) == [], "there were enough"
    assert said(replace(cpu, cpus=None)) == [], "not known"
    assert said(replace(cpu, ran_ns=1, lacked_ns=5 * MS)) == [], "5 of 100 ms"
    assert "note" not in {finding.tone for finding in said(replace(cpu, lacks=(COMMAND,)))}
