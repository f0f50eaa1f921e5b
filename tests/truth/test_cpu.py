"""Want of CPU, against what the scheduler and the cgroups count themselves."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import polars as pl
import pytest

from cvmprof.profiler.run.opened import Run
from cvmprof.profiler.session.cgroups import hierarchy_of
from cvmprof.reports.findings.finding import Finding
from cvmprof.reports.findings.rules import findings
from cvmprof.reports.material import gather
from cvmprof.reports.numbers.cpu import Lack
from cvmprof.reports.numbers.statistics import Statistics, compute

from .conftest import READ_ALL, Truth, traced, traced_command

MS = 1_000_000
CPUS = os.cpu_count() or 1
BURNER = "cpu-burner"
#: in a thousand of a CPU
QUOTA = 30

#: starts `others` processes that compute until `gate` is closed
BEGIN_OTHERS = """
hold, gate = os.pipe()
for _ in range(others):
    if not os.fork():
        os.close(gate)
        os.set_blocking(hold, False)
        while True:
            try:
                os._exit(len(os.read(hold, 1)))
            except BlockingIOError:
                sum(range(20000))
os.close(hold)
"""
#: in the phase "load" its thread computes for a time by its own clock; it starts so many processes
#: before that compute until it is done, and meanwhile lets stopped processes go on; it writes how
#: long the scheduler kept the thread waiting
COMPUTE = (
    """
import json, os, signal, sys, time
import cvmprof
facts, cpu_ms, others, *stopped = sys.argv[1], *map(int, sys.argv[2:])
"""
    + BEGIN_OTHERS
    + """
def waited_ns():
    return int(open("/proc/thread-self/schedstat").read().split()[1])

for pid in stopped:
    os.kill(pid, signal.SIGCONT)
with cvmprof.phase("load"):
    before_ns, begun_ns = waited_ns(), time.thread_time_ns()
    while time.thread_time_ns() < begun_ns + 1000000 * cpu_ms:
        sum(range(1000))
    waited = waited_ns() - before_ns
for pid in stopped:
    os.kill(pid, signal.SIGSTOP)
json.dump({"waited_ns": waited, "pid": os.getpid()}, open(facts, "w"))
os.close(gate)
for _ in range(others):
    os.wait()
"""
)

#: reads a file in the phase "load" beside so many processes that compute until it is read
READ_BESIDE = (
    """
import os, sys
import cvmprof
others = int(sys.argv[2])
"""
    + BEGIN_OTHERS
    + """with cvmprof.phase("load"):
    descriptor = os.open(sys.argv[1], os.O_RDONLY)
    while os.read(descriptor, 65536):
        pass
os.close(gate)
for _ in range(others):
    os.wait()
"""
)


class Cgroup:
    """A cgroup that goes before all others, whatever else this machine does."""

    def __init__(self, place: Path, version: int) -> None:
        self.place, self.version = place, version
        self.place.mkdir()
        name, most = ("cpu.shares", 1 << 18) if version == 1 else ("cpu.weight", 10_000)
        (self.place / name).write_text(str(most))

    def entered(self, *command: str) -> list[str]:
        """A command that runs in it."""
        enter = 'echo $$ > "$0" && exec "$@"'
        return ["sh", "-c", enter, str(self.place / "cgroup.procs"), *command]

    def limit(self, thousandths: int) -> None:
        """Lets it use so many thousandths of a CPU."""
        if self.version == 1:
            (self.place / "cpu.cfs_quota_us").write_text(str(100 * thousandths))
        else:
            (self.place / "cpu.max").write_text(f"{100 * thousandths} 100000")

    def be_like_others(self) -> None:
        """It goes before nobody any more."""
        name, usual = ("cpu.shares", 1024) if self.version == 1 else ("cpu.weight", 100)
        (self.place / name).write_text(str(usual))

    def add(self, pid: int) -> None:
        (self.place / "cgroup.procs").write_text(str(pid))

    def throttled_ns(self) -> int:
        """As the cgroup counts it."""
        lines = (self.place / "cpu.stat").read_text().splitlines()
        stat = {name: int(value) for name, value in map(str.split, lines)}
        return stat["throttled_time"] if self.version == 1 else stat["throttled_usec"] * 1000

    def remove(self) -> None:
        """Moves what is in it to where it was."""
        for pid in (self.place / "cgroup.procs").read_text().split():
            (self.place.parent / "cgroup.procs").write_text(pid)
        self.place.rmdir()


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    found = hierarchy_of(Path("/proc/self/mountinfo").read_text())
    if found is None:
        pytest.skip("no cgroups with the CPU controller are mounted here")
    made = Cgroup(found.place / f"cvmprof-truth-{os.getpid()}", found.version)
    yield made
    made.remove()


@pytest.fixture
def burners(cgroup: Cgroup, tmp_path: Path) -> Iterator[list[int]]:
    """Programs that compute in the cgroup once they are no longer stopped: their pids."""
    program = tmp_path / BURNER
    shutil.copy("/bin/sh", program)
    compute = cgroup.entered(str(program), "-c", "kill -STOP $$; while :; do :; done")
    started = [subprocess.Popen(compute) for _ in range(3 * CPUS)]
    for each in started:
        os.waitid(os.P_PID, each.pid, os.WSTOPPED)
    yield [each.pid for each in started]
    for each in started:
        each.kill()
        each.wait()


def daemon(truth: Truth) -> int:
    return int(os.getxattr(truth.mountpoint, "user.pid"))


def threads_of(pid: int) -> list[int]:
    return [int(tid) for tid in os.listdir(f"/proc/{pid}/task")]


@contextlib.contextmanager
def niceness(threads: list[int], value: int) -> Generator[None]:
    """Gives threads a niceness meanwhile."""
    for tid in threads:
        os.setpriority(os.PRIO_PROCESS, tid, value)
    try:
        yield
    finally:
        for tid in threads:
            os.setpriority(os.PRIO_PROCESS, tid, 0)


def measured(run: Run) -> Statistics:
    return compute(gather(run))


def lack_of(s: Statistics, subject: str, whose: str) -> Lack:
    (lack,) = (each for each in s.cpu.lacks if (each.subject, each.whose) == (subject, whose))
    return lack


def spoken(s: Statistics) -> list[Finding]:
    return [finding for finding in findings(s) if "had no CPU" in finding.headline]


def near(found: int, true: int) -> bool:
    return abs(found - true) <= 0.05 * true + 3 * MS


def served_waits(run: Run) -> pl.DataFrame:
    """Segments of requests while the thread that served them waited for a CPU, by SQLite."""
    database = sqlite3.connect(":memory:")
    for name, columns in {
        "waits": ("tid", "start_ns", "end_ns"),
        "calls": ("tid", "start_ns", "end_ns", "mount_id", "request"),
        "segments": ("start_ns", "end_ns", "mount_id", "request", "cause"),
    }.items():
        table = "cpu_waits" if name == "waits" else name.replace("calls", "daemon_calls")
        given = run.tables[table].rename({"unique": "request"}, strict=False).select(columns)
        database.execute(f"create table {name} ({', '.join(columns)})")
        marks = ", ".join("?" * len(columns))
        database.executemany(f"insert into {name} values ({marks})", given.iter_rows())
    found = database.execute(
        """
        select s.cause, min(w.end_ns, c.end_ns, s.end_ns) - max(w.start_ns, c.start_ns, s.start_ns)
        from waits w
        join calls c on c.tid = w.tid and c.start_ns < w.end_ns and w.start_ns < c.end_ns
        join segments s on s.mount_id = c.mount_id and s.request = c.request
        where s.cause <> 'reply'
        """
    )
    rows = [row for row in found if row[1] > 0]
    return pl.DataFrame(rows, schema={"cause": pl.String, "ns": pl.Int64}, orient="row")


def test_a_client_with_a_quota(truth: Truth, cgroup: Cgroup, tmp_path: Path) -> None:
    truth.cool()
    cgroup.limit(QUOTA)
    cgroup.add(daemon(truth))
    before_ns = cgroup.throttled_ns()
    run = traced(tmp_path / "run.cvmprof", READ_ALL, 65536, truth.path("model.bin"))
    throttled_ns = cgroup.throttled_ns() - before_ns
    s = measured(run)
    (quota,) = (each for each in s.cpu.quotas if each.path.endswith(cgroup.place.name))
    assert (quota.whose, quota.cpus) == ("client", QUOTA / 1000)
    assert 0 < quota.throttled_ns <= throttled_ns
    lack = lack_of(s, "whole command", "client")
    assert quota.throttled_ns / CPUS * 0.8 <= lack.held_by("quota") <= throttled_ns * 1.05
    assert lack.held_by("quota") >= 0.5 * lack.ns
    during = served_waits(run)
    assert set(during["cause"]) == {"runqueue"}, "in every layer of the request"
    (finding,) = (each for each in spoken(s) if "the client" in each.headline)
    assert finding.headline.startswith("The command waited for the client, which had no CPU, for ")
    assert "It waited behind: a quota of its cgroup " in finding.meaning
    assert f"{cgroup.place.name} may use {QUOTA / 1000:g} of a CPU" in finding.meaning


def computing(run: Path, cgroup: Cgroup, *more: int) -> tuple[Run, Lack]:
    """Traces `COMPUTE` in the cgroup; what its phase lacked is what the scheduler counted."""
    facts = run.with_suffix(".json")
    program = [sys.executable, "-I", "-c", COMPUTE, str(facts), *map(str, more)]
    made = traced_command(run, cgroup.entered(*program))
    lack = lack_of(measured(made), "load", "command")
    assert near(lack.ns, json.loads(facts.read_text())["waited_ns"])
    return made, lack


def test_a_command_with_a_quota(cgroup: Cgroup, tmp_path: Path) -> None:
    cgroup.limit(100)
    run, lack = computing(tmp_path / "run.cvmprof", cgroup, 80, 0)
    s = measured(run)
    assert lack.held_by("quota") >= 0.8 * lack.ns
    assert lack.held_by("quota") >= 0.5 * lack.of_ns
    (quota,) = (each for each in s.cpu.quotas if each.path.endswith(cgroup.place.name))
    assert (quota.whose, quota.cpus) == ("command", 0.1)
    assert 0 < quota.throttled_ns <= cgroup.throttled_ns()
    assert any("a quota of its cgroup" in finding.meaning for finding in spoken(s))


@pytest.fixture
def neighbour() -> Iterator[int]:
    """A process that computes on the first CPU, outside of all cgroups of a test: its pid."""
    program = [sys.executable, "-I", "-c", "print(flush=True)\nwhile True: sum(range(1000))"]
    with subprocess.Popen(pinned(*program), stdout=subprocess.PIPE) as started:
        assert started.stdout
        started.stdout.readline()
        yield started.pid
        started.kill()


def pinned(*command: str) -> list[str]:
    """A command that runs on the first CPU."""
    return ["taskset", "-c", str(min(os.sched_getaffinity(0))), *command]


def test_what_a_neighbour_runs_after_a_refill_is_not_the_quotas(
    cgroup: Cgroup, neighbour: int, tmp_path: Path
) -> None:
    """All on one CPU, the quota's part is what the cgroup counts itself. From v6.18 on the cgroup
    also counts while a thread that it will keep waiting is still behind the neighbour: up to a
    slice of 4 ms in each 50 ms.
    """
    cgroup.be_like_others()
    cgroup.limit(50)
    program = [sys.executable, "-I", "-c", COMPUTE, str(tmp_path / "facts.json"), "60", "0"]
    run = traced_command(tmp_path / "run.cvmprof", pinned(*cgroup.entered(*program)))
    s = measured(run)
    assert (s.cpu.allowed, s.cpu.cpus) == (1, os.cpu_count())
    lack = lack_of(s, "whole command", "command")
    throttled_ns = cgroup.throttled_ns()
    assert throttled_ns > 300 * MS
    assert 0.9 * throttled_ns <= lack.held_by("quota") <= 1.05 * throttled_ns
    assert lack.held_by("neighbour") > 0
    assert neighbour in set(run.tables["cpu_waits"]["ran_pid"])


#: two processes compute on one CPU for a time; each writes how long it had it, and how long the
#: process had it whose number is given, as the scheduler counts
TWO = """
import json, os, sys, time
def ran_ns(pid):
    return int(open(f"/proc/{pid}/schedstat").read().split()[0])

end = time.monotonic() + float(sys.argv[2])
for number in range(2):
    if not os.fork():
        begun = [ran_ns(pid) for pid in ("self", sys.argv[3])]
        while time.monotonic() < end:
            sum(range(1000))
        ran, neighbour = (ran_ns(pid) - ns for pid, ns in zip(("self", sys.argv[3]), begun))
        facts = {"pid": os.getpid(), "ran_ns": ran, "neighbour_ns": neighbour}
        json.dump(facts, open(f"{sys.argv[1]}.{number}", "w"))
        os._exit(0)
for number in range(2):
    os.wait()
"""


def test_each_that_had_the_cpu_is_named_for_as_long_as_it_had_it(
    cgroup: Cgroup, neighbour: int, tmp_path: Path
) -> None:
    """Two processes of the command and a neighbour, all on one CPU, before all others."""
    cgroup.add(neighbour)
    facts = tmp_path / "facts"
    program = [sys.executable, "-I", "-c", TWO, str(facts), "2", str(neighbour)]
    run = traced_command(tmp_path / "run.cvmprof", pinned(*cgroup.entered(*program)))
    each = [json.loads(facts.with_suffix(f".{number}").read_text()) for number in range(2)]
    for one, other in (each, each[::-1]):
        parts = run.tables["cpu_waits"].filter(tid=one["pid"])
        spent = parts.with_columns(ns=pl.col("end_ns") - pl.col("start_ns"))
        behind = dict(spent.group_by("ran_pid").agg(pl.col("ns").sum()).iter_rows())
        assert behind[other["pid"]] == pytest.approx(other["ran_ns"], rel=0.15)
        assert behind[neighbour] == pytest.approx(one["neighbour_ns"], rel=0.15)


def test_a_command_behind_neighbours(cgroup: Cgroup, burners: list[int], tmp_path: Path) -> None:
    run, lack = computing(tmp_path / "run.cvmprof", cgroup, 200, 0, *burners)
    (burning,) = (holder for holder in lack.holders if holder.name == BURNER)
    assert burning.kind == "neighbour"
    assert burning.pid in burners
    assert burning.ns >= 0.8 * lack.ns
    named = run.tables["cpu_waits"].filter(ran_name=BURNER)
    assert set(named["ran_pid"]) <= set(burners)
    (finding,) = spoken(measured(run))
    assert finding.headline.startswith("The command could run and had no CPU for ")
    assert finding.meaning.startswith(f"It waited behind: {BURNER} (")
    assert "Other programs elsewhere, or more CPUs than " in finding.meaning


def test_a_loader_behind_the_commands_own_processes(cgroup: Cgroup, tmp_path: Path) -> None:
    run, lack = computing(tmp_path / "run.cvmprof", cgroup, 200, 4 * CPUS)
    assert lack.held_by("command") >= 0.8 * lack.ns
    s = measured(run)
    assert s.cpu.wanting >= 4 * CPUS
    (finding,) = spoken(s)
    assert finding.meaning.startswith("It waited behind: the command's own threads ")
    assert f"there are {CPUS}. Fewer that compute at once would shorten " in finding.meaning


def test_a_client_behind_the_commands_own_processes(
    truth: Truth, cgroup: Cgroup, tmp_path: Path
) -> None:
    """Both in one cgroup, in which the client comes last."""
    truth.cool()
    cgroup.add(daemon(truth))
    threads = threads_of(daemon(truth))
    program = [sys.executable, "-I", "-c", READ_BESIDE, str(truth.path("model.bin")), str(4 * CPUS)]
    with niceness(threads, 19):
        run = traced_command(tmp_path / "run.cvmprof", cgroup.entered(*program))
    assert set(served_waits(run)["cause"]) == {"runqueue"}
    s = measured(run)
    lack = lack_of(s, "load", "client")
    assert lack.held_by("command") >= 0.8 * lack.ns


def test_where_nothing_lacks_a_cpu_nothing_is_said(truth: Truth, tmp_path: Path) -> None:
    """The command and the client go before all others here."""
    truth.cool()
    threads = threads_of(daemon(truth))
    try:
        for tid in threads:
            os.sched_setscheduler(tid, os.SCHED_FIFO, os.sched_param(1))
        read = [sys.executable, "-I", "-c", READ_ALL, "65536", str(truth.path("model.bin"))]
        run = traced_command(tmp_path / "run.cvmprof", ["chrt", "-f", "1", *read])
    finally:
        for tid in threads:
            os.sched_setscheduler(tid, os.SCHED_OTHER, os.sched_param(0))
    s = measured(run)
    assert s.fetches.downloaded >= 17
    assert spoken(s) == []
    assert all(lack.share < 0.05 for lack in s.cpu.lacks)
