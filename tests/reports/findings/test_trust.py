from __future__ import annotations

from typing import Any

import pytest

from cvmprof.reports.findings.finding import Finding
from cvmprof.reports.numbers.statistics import Outcome
from cvmprof.reports.numbers.survivors import Survivor, Survivors
from cvmprof.tests.reports.rows import (
    QUIET,
    command_time,
    figures,
    findings_of,
    headlines,
    incident,
    spoken,
)
from cvmprof.tests.reports.synthetic import MAIN, MS, PID, START, tiny_rows


def test_what_was_not_observed_is_told_once_with_what_a_run_lacks() -> None:
    rows = tiny_rows()
    rows.rows["probes"].clear()
    rows.add("fuse_requests", mount_id=0, unique=99, opcode=15, node_id=1, pid=PID, tid=MAIN,
             queued_ns=START, end_ns=START + MS, error=0)  # fmt: skip
    for target in ("fuse_file_read_iter", "another"):
        rows.add(
            "probes",
            event="asynchronous read",
            family="none",
            target=target,
            hits=0,
            reason="this kernel is built without kprobes",
        )
    for family, target in (("none", "no symbol"), ("uprobe", "libcvmfs")):
        rows.add("probes", event="daemon call", family=family, target=target, hits=0, reason="x")
    (finding,) = [each for each in findings_of(rows) if "could not be observed" in each.headline]
    assert finding.headline == "1 kind of event could not be observed here."
    assert finding.meaning.startswith(
        "asynchronous read: this kernel is built without kprobes; so reads by io_uring and AIO"
    )
    assert finding.meaning.endswith("cvmprof doctor says how to get them.")


def test_launches_that_were_not_watched_are_said_once() -> None:
    rows = tiny_rows()
    reason = "launches were not watched for 2.5 s: each costs 1.0 µs, and all more than 1 %"
    for target, remark in (("one", None), ("two", reason), ("three", reason)):
        rows.add(
            "probes", event="GPU launch", family="uprobe", target=target, hits=9, reason=remark
        )
    rows.add("probes", event="GPU call", family="uprobe", target="two", hits=9, reason=None)
    (finding,) = [each for each in findings_of(rows) if "launches" in each.headline]
    assert finding.headline == "Not all launches of the GPU are counted."
    assert finding.meaning.startswith("Launches were not watched for 2.5 s: each costs 1.0 µs")


def test_a_client_that_was_stopped() -> None:
    incident = {"time_ns": 1200 * MS, "detail": "daemon 7 was stopped for 2000 ms", "pid": 7}
    (finding,) = spoken(incidents=({**incident, "kind": "stop"},), start_ns=200 * MS)
    assert finding == Finding(
        "warning",
        "A client was stopped 1.00 s after the start.",
        "Daemon 7 was stopped for 2000 ms, by a signal, a tracer or its cgroup's freezer. What "
        "waited for it meanwhile counts as the client being stopped (stopped): it tells nothing of "
        "the server or the network.",
    )
    assert spoken(incidents=({**incident, "kind": "mount"},)) == []


@pytest.mark.parametrize(("share_ms", "said"), [(1, False), (5, True)])
def test_unknown_time_is_said_when_it_matters(share_ms: int, said: bool) -> None:
    rows = tiny_rows()
    rows.rows["segments"][-1]["start_ns"] += (5 - share_ms) * MS
    rows.rows["segments"][-2]["end_ns"] += (5 - share_ms) * MS
    found = f"{share_ms}.00 ms of the command's time ({share_ms}.0 %) could not be explained."
    assert (found in headlines(rows)) is said


def test_an_incomplete_run() -> None:
    (finding,) = spoken(outcome=Outcome(None, None, complete=False))
    assert finding.tone == "warning"


def test_lost_events_are_summed_and_the_worst_probe_is_named() -> None:
    losses = tuple({"probe": f"probe {n}", "cause": f"cause {n}", "count": n} for n in (1, 3, 2))
    (finding,) = spoken(losses=losses)
    assert (finding.tone, figures(finding.headline)) == ("warning", ["6"])
    assert "probe 3" in finding.meaning and "cause 3" in finding.meaning
    assert "probe 1" not in finding.meaning and "probe 2" not in finding.meaning


def reconciled(difference: int | None, remark: str | None = None) -> dict[str, Any]:
    recorded = None if difference is None else 1000 + difference
    return {"quantity": "objects", "counted": 1000, "recorded": recorded,
            "difference": difference, "remark": remark}  # fmt: skip


@pytest.mark.parametrize(("difference", "word"), [(1, "more"), (-1, "fewer")])
def test_what_differs_from_the_clients_own_count(difference: int, word: str) -> None:
    rows = (reconciled(0), reconciled(None), reconciled(difference))
    (finding,) = spoken(reconciliation=rows)
    assert (finding.tone, figures(finding.headline)) == ("warning", ["1"])
    assert word in finding.headline
    assert figures(finding.meaning) == ["1,000", f"{1000 + difference:,}"]


def test_the_remark_of_a_difference_is_a_sentence() -> None:
    (with_remark,) = spoken(reconciliation=(reconciled(2, "counted twice"),))
    (without,) = spoken(reconciliation=(reconciled(2),))
    assert with_remark.meaning == f"{without.meaning} Counted twice."


@pytest.mark.parametrize("kind", ["crash", "hang", "exit"])
def test_a_daemon_that_ended(kind: str) -> None:
    (finding,) = spoken(incidents=(incident(kind, pid=900, signal=11),))
    assert finding.tone == "warning"
    assert figures(finding.headline) == ["900", "11", "40.0 ms"]
    assert finding.meaning == "the detail"
    (unknown,) = spoken(incidents=(incident(kind),))
    assert figures(unknown.headline) == ["40.0 ms"]
    assert "None" not in unknown.headline and "signal" not in unknown.headline


def test_files_whose_chunks_were_not_asked_for() -> None:
    (finding,) = spoken(incidents=(incident("unasked"),))
    assert (finding.tone, finding.meaning) == ("note", "the detail.")


def test_a_new_mount_is_no_finding() -> None:
    assert spoken(incidents=(incident("mount"),)) == []


def test_three_of_the_operations_that_never_ended_are_named() -> None:
    (finding,) = spoken(unfinished=("read of a", "read of b", "read of c", "read of d"))
    assert (finding.tone, figures(finding.headline)) == ("warning", ["4"])
    assert finding.meaning == "read of a; read of b; read of c."


@pytest.mark.parametrize(("outcome", "number"), [
    (Outcome(None, 1, complete=True), "1"), (Outcome(1, None, complete=True), "1"),
    (Outcome(255, None, complete=True), "255"),
])  # fmt: skip
def test_a_command_that_failed(outcome: Outcome, number: str) -> None:
    (finding,) = spoken(outcome=outcome)
    assert (finding.tone, figures(finding.headline)) == ("warning", [number])
    assert ("signal" in finding.headline) is (outcome.exit_code is None)


def test_unknown_time_is_said_above_a_fiftieth() -> None:
    at, above = (command_time(100, cpu=98 * MS - n, unknown=2 * MS + n) for n in (0, 1))
    assert [each.tone for each in spoken(command_time=at)] == ["good"]
    _, finding = spoken(command_time=above)
    assert (finding.tone, finding.headline) == (
        "warning",
        "2.00 ms of the command's time (2.0 %) could not be explained.",
    )


def probe(event: str, family: str, reason: str | None) -> dict[str, Any]:
    return {"event": event, "family": family, "reason": reason}


def test_events_that_could_not_be_observed() -> None:
    (finding,) = spoken(probes=(
        probe("one", "none", "first reason"), probe("one", "", "second reason"),
        probe("five", "none", "another reason"),
        probe("two", "none", "x"), probe("two", "kprobe", "y"), probe("three", "none", None),
        probe("four", "kprobe", "not the best way"), probe("fault-around", "none", "no tracepoint"),
    ), counts={**QUIET.counts, "operations_fault": 1})  # fmt: skip
    assert (finding.tone, figures(finding.headline)) == ("note", ["3"])
    assert "one: first reason." in finding.meaning
    assert "five: another reason." in finding.meaning
    assert "fault-around: no tracepoint; so pages_mapped" in finding.meaning
    for absent in ("second reason", "two", "three", "four"):
        assert absent not in finding.meaning


@pytest.mark.parametrize(
    ("event", "count"),
    [("asynchronous read", "fuse_reads_of_no_operation"), ("page-cache insertion", "fuse_reads"),
     ("fault-around", "operations_fault")],
)  # fmt: skip
def test_what_is_not_observed_is_said_only_where_it_matters(event: str, count: str) -> None:
    missing = (probe(event, "none", "no tracepoint"),)
    assert spoken(probes=missing) == []
    (finding,) = spoken(probes=missing, counts={**QUIET.counts, count: 1})
    assert finding.meaning.startswith(f"{event}: no tracepoint; so ")


def survivor(pid: int = 7, cause: str | None = "first_byte") -> Survivor:
    return Survivor(pid, "cat", ("cat", "model"), cause)


def test_what_lived_on_comes_first_with_what_it_was_doing() -> None:
    (finding, _) = spoken(survivors=Survivors((survivor(),)), outcome=Outcome(1, None, True))
    assert (finding.tone, finding.headline) == (
        "warning", "1 process of the command lived on when recording ended.",
    )  # fmt: skip
    assert finding.meaning == (
        "cat model (pid 7), last seen waiting for the first byte (first_byte). What it did later "
        "is not in this run. --until all records it to its end."
    )


def test_a_long_command_line_is_cut() -> None:
    script = Survivor(7, "python", ("python", "-c", "import sys\n" * 20, "model"), None)
    (finding,) = spoken(survivors=Survivors((script,)))
    name, _, _ = finding.meaning.partition(" (pid 7)")
    assert (len(name), name[:9], name[-5:]) == (60, "python -c", "model")


def test_three_of_those_that_lived_on_are_named() -> None:
    (finding,) = spoken(survivors=Survivors(tuple(survivor(pid, None) for pid in range(1, 6))))
    assert finding.headline == "5 processes of the command lived on when recording ended."
    assert finding.meaning == (
        "cat model (pid 1); cat model (pid 2); cat model (pid 3); and 2 more processes. "
        "What they did later is not in this run. --until all records them to their end."
    )


def test_an_option_that_was_given_is_not_recommended() -> None:
    (finding,) = spoken(survivors=Survivors((survivor(),), until="all"))
    assert finding.meaning.endswith("The waiting for it was ended before.")
    (finding,) = spoken(survivors=Survivors((survivor(),), command_did=True))
    assert finding.headline == "Recording ended after 100 ms, before the command did."
    assert finding.meaning.endswith("A longer --duration, or none, records it to its end.")


def test_where_all_ended_nothing_is_said_of_it() -> None:
    assert spoken(survivors=Survivors()) == []
