"""Who else used the mounts: said where others fetched, and only there."""

from __future__ import annotations

from dataclasses import replace

from cvmprof.reports.findings.finding import Finding
from cvmprof.reports.numbers.awaited import Awaited
from cvmprof.reports.numbers.sharing import Neighbour
from cvmprof.reports.numbers.statistics import Bytes
from cvmprof.tests.reports.rows import UNUSED_MOUNTS, spoken
from cvmprof.tests.reports.synthetic import MIB, MS

NEIGHBOUR = Neighbour(77, "rsync", requests=9, fetches=3, wire_bytes=50 * MIB)
SHARED = replace(UNUSED_MOUNTS, over_http=51 * MIB, neighbours=(NEIGHBOUR,))


def test_what_a_neighbour_fetched_is_told_as_the_neighbours() -> None:
    (finding,) = spoken(of_mounts=SHARED, bytes=Bytes(MIB, MIB, {}))
    assert finding == Finding(
        "note",
        "Others used the command's mounts meanwhile: 3 fetches of 50.0 MiB for rsync (process 77).",
        "The mounts' downloads were 51.0 MiB for everybody, the command's own 1.00 MiB. They share "
        "the client and its connections, so each may have waited for the other.",
    )


def test_three_neighbours_are_named_and_what_the_client_did_for_itself_is_said() -> None:
    others = tuple(replace(NEIGHBOUR, pid=pid, name=None, fetches=1) for pid in (1, 2, 3, 4))
    shared = replace(SHARED, neighbours=others, client_wire_bytes=MIB)
    (finding,) = spoken(of_mounts=shared)
    assert finding.headline.endswith("for process 1, process 2, process 3 and 1 process more.")
    assert "were 51.0 MiB (1.00 MiB of it for the client itself) for everybody" in finding.meaning


def test_for_whom_the_command_slept() -> None:
    (finding,) = spoken(awaited=Awaited(77, "rsync", 9 * MS, 5 * MS))
    assert finding == Finding(
        "note",
        "The command slept 9.00 ms until rsync (process 77) woke it, which is none of its own.",
        "Requests of that process to CVMFS were in progress for 5.00 ms of it: so long the command "
        "may have waited for CVMFS, through another program. Profile that one.",
        5 * MS,
    )


def test_a_sleep_that_was_hardly_for_cvmfs_is_not_told() -> None:
    assert spoken(awaited=Awaited(77, "rsync", 10 * MS, 5 * MS)) == []
    assert spoken(awaited=Awaited(77, "rsync", 5 * MS, 5 * MS - 1)) == []


def test_who_only_asked_for_what_was_there_is_not_told() -> None:
    idle = replace(NEIGHBOUR, fetches=0, wire_bytes=0)
    own, client = Bytes(50 * MIB, 50 * MIB, {}), MIB
    mounts = replace(SHARED, neighbours=(idle,), client_wire_bytes=client)
    assert spoken(of_mounts=mounts, bytes=own) == []
    (finding,) = spoken(of_mounts=replace(mounts, over_http=51 * MIB + 1024), bytes=own)
    assert finding.headline == (
        "Others used the command's mounts meanwhile: 9 requests of rsync (process 77), and "
        "1.00 KiB not for the command."
    )
    assert spoken(of_mounts=replace(SHARED, neighbours=())) == []
