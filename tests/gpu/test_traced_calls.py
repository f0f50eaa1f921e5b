"""``cvmprof trace --gpu api`` records the calls of the driver by the command and its children."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from cvmprof import open_run
from cvmprof.probes.events import GPU_FUNCTIONS
from cvmprof.probes.gpu import COUNTED_KINDS, base_name, call_kind
from cvmprof.profiler.run.spool import Spool
from cvmprof.tests.gpu.stand_ins import StandIns, read_log

TIMEOUT_S = 120
SELF = [sys.executable, "-m", "cvmprof"]
#: records the rest of its arguments, and leaves the spool as it is
RECORD = """
import sys
from pathlib import Path
from cvmprof.profiler.session.session import TraceOptions, record
options = TraceOptions(Path(sys.argv[1]), gpu=sys.argv[2], gpu_budget=100)
record(sys.argv[3:], options, "0", lambda: None)
"""


def recorded(stand_ins: StandIns, run: Path, choice: str, **variables: str) -> Spool:
    """What is in the spool after two processes have used the driver, one beside the other."""
    work = f"{stand_ins.program} init threads 3 launch 101 5 set 11 64 in 13 1009 sync 7"
    script = f"{work} & {work}; wait"
    subprocess.run(
        [sys.executable, "-c", RECORD, str(run), choice, "sh", "-c", script],
        env={**stand_ins.environment(run.with_name("log")), **variables},
        check=True,
        timeout=TIMEOUT_S,
    )
    return Spool(run)


@pytest.mark.parametrize(
    ("choice", "variables"),
    [("api", {}), ("auto", {"CUDA_INJECTION64_PATH": "/own/tool.so"})],
    ids=["asked for", "where another tool is injected"],
)
def test_calls_of_all_processes_are_recorded(
    stand_ins: StandIns, tmp_path: Path, choice: str, variables: dict[str, str]
) -> None:
    spool = recorded(stand_ins, tmp_path / "a", choice, **variables)
    called = [line for line in read_log(tmp_path / "log") if line["kind"] == "call"]
    launches = Counter[tuple[int, str]]()
    for tid, function, count in spool.gpu_launches().select("tid", "function", "count").rows():
        launches[tid, GPU_FUNCTIONS[int(function)]] += count
    names = [(line["tid"], base_name(line["function"])) for line in called]
    assert launches == Counter(each for each in names if call_kind(each[1]) in COUNTED_KINDS)
    calls = spool.gpu_calls()
    whole = [each for each in names if call_kind(each[1]) not in COUNTED_KINDS]
    rows = calls.select("tid", "function").rows()
    assert Counter((tid, GPU_FUNCTIONS[int(function)]) for tid, function in rows) == Counter(whole)
    assert calls["bytes"].sum() == 2 * 13 * 1009
    assert (calls["end_ns"] > calls["start_ns"]).all()


def test_the_table_of_probes_names_the_driver(stand_ins: StandIns, tmp_path: Path) -> None:
    command = [str(stand_ins.program), "init", "launch", "3", "5", "sync", "1"]
    trace = [*SELF, "trace", "--no-report", "--gpu", "api", "-o", str(tmp_path / "a"), "--"]
    environment = stand_ins.environment()
    subprocess.run([*trace, *command], env=environment, check=True, timeout=TIMEOUT_S)
    probes = open_run(tmp_path / "a").tables["probes"].filter(target=str(stand_ins.libcuda))
    assert {row["event"]: row["hits"] for row in probes.to_dicts()} == {
        "GPU call": 4,  # cuInit, its context, its module, the wait
        "GPU launch": 3,
    }
