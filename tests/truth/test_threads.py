"""Threads that an exec ends without an exit of their own."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl

from cvmprof.profiler.run.opened import Run

from .conftest import Trace

#: the second thread execs a program that sleeps and exits with 0; a third waits for ever
EXEC_IN_THREAD = """
import json, os, sys, threading, time
facts, after = sys.argv[1:]

def become():
    known = {"leader": os.getpid(), "caller": threading.get_native_id(), "waiter": waiter.native_id}
    with open(facts, "w") as file:
        json.dump({**known, "before_ns": time.monotonic_ns()}, file)
    os.execv(sys.executable, [sys.executable, "-I", "-c", after, facts])

waiter = threading.Thread(target=threading.Event().wait, daemon=True)
waiter.start()
threading.Thread(target=become).start()
threading.Event().wait()
"""
AFTER = """
import sys, time
begun_ns = time.monotonic_ns()
time.sleep(0.3)
with open(sys.argv[1], "a") as file:
    file.write(f"\\n[{begun_ns}, {time.monotonic_ns()}]")
"""


def test_an_exec_by_a_second_thread(trace: Trace, tmp_path: Path) -> None:
    facts = tmp_path / "facts"
    run = trace(EXEC_IN_THREAD, facts, AFTER)
    known, (begun_ns, done_ns) = map(json.loads, facts.read_text().splitlines())
    tasks = {row["tid"]: row for row in run.tables["tasks"].filter(role="target").to_dicts()}
    assert set(tasks) == {known["leader"], known["caller"], known["waiter"]}
    for tid in (known["caller"], known["waiter"]):
        assert known["before_ns"] < tasks[tid]["end_ns"] < begun_ns
    leader = tasks[known["leader"]]
    assert leader["end_ns"] > done_ns
    assert (leader["exit_code"], leader["signal"]) == (0, None)
    assert leader["argv"][3] == AFTER[: len(leader["argv"][3])]
    _assert_lives_are_tiled(run)
    slept = run.tables["segments"].filter(
        (pl.col("tid") == known["leader"]) & (pl.col("cause") == "blocked")
    )
    longest = slept.select((pl.col("end_ns") - pl.col("start_ns")).max()).item()
    assert 300_000_000 <= longest < 2_000_000_000


def _assert_lives_are_tiled(run: Run) -> None:
    segments = run.tables["segments"].sort("tid", "start_ns")
    gaps = segments.select(pl.col("start_ns") - pl.col("end_ns").shift().over("tid"))
    assert (gaps.to_series().drop_nulls() == 0).all()
    assert (segments["end_ns"] > segments["start_ns"]).all()
    ends = dict(segments.group_by("tid").agg(pl.col("end_ns").max()).iter_rows())
    lives = run.tables["tasks"].filter(role="target").select("tid", "end_ns").iter_rows()
    assert ends == dict(lives)
