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
    (Holder("quota", 1150 * MS), Holder("neighbour", 50 * MS, "burn", 77, users=("root",))),
)  # fmt: skip
BURN = Holder("neighbour", 400 * MS, "burn", 77)
COMMAND = Lack("load", 1000 * MS, "command", 400 * MS, {"python3": 400 * MS}, (BURN,))


def said(cpu: Cpu) -> list[Finding]:
    return spoken(cpu=cpu)


def test_a_client_held_up_by_its_quota() -> None:
    assert said(Cpu(2, (CLIENT,), (QUOTA,))) == [
        Finding(
            "advice",
            "“load” waited for the client, which had no CPU, for 1.20 s of its 2.00 s (60 %).",
            "The download thread 1.00 s, threads that serve requests 200 ms. It waited behind: a "
            "quota of its cgroup 1.15 s, burn (another "
            "process, pid 77 of user root) 50.0 ms. The cgroup /pods/one may use 0.15 "
            "of a CPU (cpu.max, or cpu.cfs_quota_us): it had used that up in 22 of 32 periods, and "
            "was kept waiting for 1.70 s, summed over the CPUs. A higher quota would shorten up to "
            "1.15 s of it.",
        )
    ]


def test_a_quota_out_of_sight() -> None:
    (finding,) = said(Cpu(2, (CLIENT,), (replace(QUOTA, whose="command"),)))
    assert (
        "The cgroup with the quota cannot be seen from here. A higher quota would"
        in finding.meaning
    )
    (finding,) = said(Cpu(2, (CLIENT,), (replace(QUOTA, throttled_periods=0),)))
    assert "cannot be seen" in finding.meaning


def test_a_client_behind_neighbours_and_the_commands_threads() -> None:
    holders = (
        Holder("command", 600 * MS),
        Holder("neighbour", 300 * MS, "cc1\x1b", 9, 12, ("ann", "b\x07")),
        Holder("client", 200 * MS), Holder("neighbour", 70 * MS, "a", 1),
        Holder("neighbour", 30 * MS, "b", 2),
    )  # fmt: skip
    (finding,) = said(Cpu(2, (replace(CLIENT, holders=holders),), wanting=9))
    assert finding.meaning.partition(" It waited ")[2] == (
        "behind: the command's own threads 600 ms, cc1\\x1b (12 other processes of users ann "
        "and b\\x07) 300 ms, the client's threads 200 ms, others 100 ms. Up to 9 of the "
        "command's threads wanted a CPU at once; there are 2. Fewer that compute at once would "
        "shorten up to 600 ms of it. Other programs elsewhere, or more CPUs than 2, would shorten "
        "up to 400 ms of it."
    )


def test_a_client_behind_its_own_threads() -> None:
    lack = replace(CLIENT, holders=(Holder("client", 1200 * MS),))
    (finding,) = said(Cpu(1, (lack,)))
    assert finding.meaning.endswith(" More CPUs than 1 would shorten up to 1.20 s of it.")


def test_a_command_behind_a_neighbour() -> None:
    lack = replace(COMMAND, ns=300 * MS, holders=(replace(BURN, ns=300 * MS),))
    assert said(Cpu(None, (lack,))) == [
        Finding(
            "advice",
            "“load” could run and had no CPU for 300 ms of its 1.00 s (30 %).",
            "It waited behind: burn (another process, pid 77) 300 ms. Other programs elsewhere, "
            "or more CPUs, would shorten up to 300 ms of it.",
        )
    ]


@pytest.mark.parametrize("lack", [COMMAND, CLIENT])
def test_where_less_than_a_twentieth_of_the_time_was_held_nothing_is_said(lack: Lack) -> None:
    """Threads that wake up on idle CPUs lack a CPU too."""
    small = replace(lack, ns=1900, of_ns=2000, holders=(replace(BURN, ns=99),))
    assert said(Cpu(2, (small,), (QUOTA,))) == []
    assert len(said(Cpu(2, (replace(small, holders=(replace(BURN, ns=100),)),), (QUOTA,)))) == 1


def test_what_is_not_known_completes_the_list() -> None:
    (finding,) = said(Cpu(2, (replace(COMMAND, holders=(replace(BURN, ns=398 * MS),)),)))
    assert finding.meaning.startswith(
        "It waited behind: burn (another process, pid 77) 398 ms, not known 2.00 ms. Other"
    )
    (finding,) = said(Cpu(2, (replace(COMMAND, holders=(replace(BURN, ns=399 * MS),)),)))
    assert finding.meaning.startswith(
        "It waited behind: burn (another process, pid 77) 399 ms. Other"
    )


def test_what_is_shown_as_reply_is_said_to_be() -> None:
    (finding,) = said(Cpu(2, (replace(COMMAND, replied_ns=2 * MS),)))
    assert finding.headline == (
        "“load” could run and had no CPU for 400 ms of its 1.00 s (40 %), 2.00 ms of it with its "
        "answer there (`reply`)."
    )
    (finding,) = said(Cpu(2, (replace(COMMAND, replied_ns=1 * MS),)))
    assert "reply" not in finding.headline


def test_a_neighbour_whose_name_is_hidden() -> None:
    (finding,) = said(Cpu(2, (replace(COMMAND, holders=(replace(BURN, ns=400 * MS, name=None),)),)))
    assert finding.meaning.startswith(
        "It waited behind: a program whose name is not known (another process, pid 77) 400 ms. "
    )


def test_a_quota_that_kept_nobody_waiting_is_not_told() -> None:
    assert said(Cpu(2, (), (QUOTA,))) == []


def test_the_whole_command_is_spoken_of_else_the_phase_that_lacked_most() -> None:
    whole = replace(COMMAND, subject="whole command", of_ns=3000 * MS, ns=900 * MS)
    (finding,) = said(Cpu(2, (COMMAND, whole)))
    assert (
        finding.headline == "The command could run and had no CPU for 900 ms of its 3.00 s (30 %)."
    )
    (finding,) = said(Cpu(2, (COMMAND, replace(whole, holders=(replace(BURN, ns=100 * MS),)))))
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
    (bound,) = said(replace(cpu, cpus=16, allowed=2))
    assert bound.meaning == (
        "Up to 8 of the command's threads wanted a CPU at once; its affinity or cpuset allows 2 of "
        "16."
    )
    assert said(replace(cpu, cpus=16, allowed=16)) == [], "there were enough"
    assert said(replace(cpu, ran_ns=1, lacked_ns=5 * MS)) == [], "5 of 100 ms"
    assert "note" not in {finding.tone for finding in said(replace(cpu, lacks=(COMMAND,)))}


def test_a_command_that_may_use_few_of_the_cpus() -> None:
    """More CPUs in the machine would not help it; of the client nothing is known."""
    (finding,) = said(Cpu(16, (COMMAND,), allowed=1))
    assert finding.meaning.endswith(
        " Other programs elsewhere, or more CPUs than the 1 of 16 that its affinity or cpuset "
        "allows, would shorten up to 400 ms of it."
    )
    behind = replace(CLIENT, holders=(replace(BURN, ns=1200 * MS),))
    for lack, cpu in ((COMMAND, Cpu(16, allowed=16)), (behind, Cpu(16, allowed=1))):
        (finding,) = said(replace(cpu, lacks=(lack,)))
        assert "or more CPUs than 16, would shorten" in finding.meaning
