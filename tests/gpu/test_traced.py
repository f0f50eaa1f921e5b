"""``cvmprof trace`` has the driver load the library into the command and its children."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cvmprof import open_run
from cvmprof.tests.gpu.injected import (
    TIMEOUT_S,
    logged_calls,
    logged_operations,
    read_written,
)
from cvmprof.tests.gpu.stand_ins import StandIns

SELF = [sys.executable, "-m", "cvmprof"]

#: records the rest of its arguments, and leaves the spool as it is
RECORD = """
import sys
from pathlib import Path
from cvmprof.profiler.session.session import TraceOptions, record
record(sys.argv[2:], TraceOptions(Path(sys.argv[1])), "0", lambda: None)
"""


def traced(stand_ins: StandIns, tmp_path: Path, *command: str, **variables: str) -> str:
    """Trace a command, and return what it printed."""
    trace = [*SELF, "trace", "--no-report", "-o", str(tmp_path / "a"), "--", *command]
    environment = {**stand_ins.environment(tmp_path / "log"), **variables}
    done = subprocess.run(
        trace, env=environment, check=True, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    return done.stdout


def test_each_process_of_the_command_writes_what_its_device_did(
    stand_ins: StandIns, tmp_path: Path
) -> None:
    work = f"{stand_ins.program} init threads 3 launch 101 5 in 13 1000 sync 7"
    command = ["sh", "-c", f"{work} & {work}; wait"]
    subprocess.run(
        [sys.executable, "-c", RECORD, str(tmp_path / "a"), *command],
        env=stand_ins.environment(tmp_path / "log"),
        check=True,
        timeout=TIMEOUT_S,
    )
    written = [read_written(path) for path in (tmp_path / "a/spool/gpu").glob("*.lines")]
    assert [len(each.operations()) for each in written] == [114, 114]
    operations = sorted(row for each in written for row in each.operations())
    assert operations == logged_operations(tmp_path / "log")
    calls = sorted(row for each in written for row in each.calls())
    assert calls == logged_calls(tmp_path / "log")


def test_the_table_of_probes_counts_the_records(stand_ins: StandIns, tmp_path: Path) -> None:
    command = [str(stand_ins.program), "init", "launch", "101", "5", "sync", "1", "print", "fine"]
    assert traced(stand_ins, tmp_path, *command) == "fine\n"
    row = open_run(tmp_path / "a").tables["probes"].filter(event="GPU activity").to_dicts()
    happened = logged_operations(tmp_path / "log") + logged_calls(tmp_path / "log")
    assert [(each["family"], each["hits"], each["reason"]) for each in row] == [
        ("cupti", len(happened), None)
    ]


def test_what_kept_cupti_from_recording_is_the_reason(stand_ins: StandIns, tmp_path: Path) -> None:
    command = [str(stand_ins.program), "init", "launch", "7", "5", "sync", "1", "print", "fine"]
    assert traced(stand_ins, tmp_path, *command, STANDIN_CUPTI_SUBSCRIBED="1") == "fine\n"
    (row,) = open_run(tmp_path / "a").tables["probes"].filter(event="GPU activity").to_dicts()
    assert (row["family"], row["hits"]) == ("none", 0)
    assert "another tool uses CUPTI in this process" in row["reason"]


@pytest.mark.parametrize(("choice", "is_set"), [("auto", True), ("api", False), ("off", False)])
def test_only_where_cupti_may_be_used_the_command_gets_the_variables(
    stand_ins: StandIns, tmp_path: Path, choice: str, is_set: bool
) -> None:
    script = 'echo "${CUDA_INJECTION64_PATH##*/} ${CVMPROF_GPU_DIR##*/}"'
    trace = [*SELF, "trace", "--no-report", "--gpu", choice, "-o", str(tmp_path / "a"), "--"]
    done = subprocess.run(
        [*trace, "sh", "-c", script],
        env=stand_ins.environment(),
        check=True,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.stdout == ("libcvmprof_gpu.so gpu\n" if is_set else " \n")


def test_the_users_own_injection_is_left_alone(stand_ins: StandIns, tmp_path: Path) -> None:
    script = 'echo "$CUDA_INJECTION64_PATH $CVMPROF_GPU_DIR"'
    own = {"CUDA_INJECTION64_PATH": "/own/tool.so"}
    assert traced(stand_ins, tmp_path, "sh", "-c", script, **own) == "/own/tool.so \n"
    (row,) = open_run(tmp_path / "a").tables["probes"].filter(event="GPU activity").to_dicts()
    assert row["family"] == "none"
    assert row["reason"] == "CUDA_INJECTION64_PATH is set to /own/tool.so already, and left alone"


def test_the_files_of_the_run_are_the_users_alone(stand_ins: StandIns, tmp_path: Path) -> None:
    command = [str(stand_ins.program), "init", "launch", "3", "5", "sync", "1"]
    subprocess.run(
        [sys.executable, "-c", RECORD, str(tmp_path / "a"), *command],
        env=stand_ins.environment(),
        check=True,
        timeout=TIMEOUT_S,
    )
    spool = tmp_path / "a/spool/gpu"
    modes = {path.suffix: path.stat().st_mode & 0o777 for path in spool.iterdir()}
    assert modes == {".lines": 0o600, ".records": 0o600}
    assert spool.stat().st_mode & 0o777 == 0o700
    assert spool.stat().st_uid == os.getuid()
