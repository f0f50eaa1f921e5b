"""Whatever the command does to the files of its run: it ends as it would, and the run is made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cvmprof import open_run
from cvmprof.tests.gpu.injected import TIMEOUT_S
from cvmprof.tests.gpu.stand_ins import StandIns

SURROGATE = (
    r"""printf %s '{"kind":"device","device":0,"uuid":"\ud800","name":"\udfff"}' >1-1.lines"""
)
DEEDS = {
    "a name that is no text": f"cd $CVMPROF_GPU_DIR; :>1-1.records; {SURROGATE}",
    "more lost than can be counted": (
        'cd $CVMPROF_GPU_DIR; :>1-1.records; for i in 1 2 3; do echo \'{"kind":"dropped",'
        '"count":4611686018427387903}\' >>1-1.lines; done'
    ),
    "a directory that leads nowhere": (
        "rmdir $CVMPROF_GPU_DIR; ln -s $(printf %0300d 1) $CVMPROF_GPU_DIR"
    ),
    "a FIFO for tensors": "mkfifo $CVMPROF_GPU_DIR/../tensors.jsonl",
    "a directory for tensors": "mkdir $CVMPROF_GPU_DIR/../tensors.jsonl",
    "FIFOs for samples and phases": (
        "cd $CVMPROF_GPU_DIR/..; rm gpu_samples.bin phases.jsonl; "
        "mkfifo gpu_samples.bin phases.jsonl"
    ),
}


@pytest.mark.parametrize("deed", list(DEEDS))
def test_the_run_is_made_and_the_exit_code_is_the_commands(
    stand_ins: StandIns, tmp_path: Path, deed: str
) -> None:
    command = ["sh", "-c", f"{DEEDS[deed]}; exit 6"]
    done = subprocess.run(
        [sys.executable, "-m", "cvmprof", "trace", "-o", str(tmp_path / "a"), "--", *command],
        env=stand_ins.environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.splitlines() == [
        f"cvmprof: run {tmp_path / 'a'}",
        f"cvmprof: page {tmp_path / 'a'}.html",
    ]
    assert open_run(tmp_path / "a").is_complete


def test_a_library_of_somebody_elses_may_have_any_name(stand_ins: StandIns, tmp_path: Path) -> None:
    environment = {**stand_ins.environment(), "CUDA_INJECTION64_PATH": "/x\udcff.so"}
    trace = [sys.executable, "-m", "cvmprof", "trace", "--no-report", "-o", str(tmp_path / "a")]
    done = subprocess.run([*trace, "--", "true"], env=environment, timeout=TIMEOUT_S)
    assert done.returncode == 0
    (row,) = open_run(tmp_path / "a").tables.probes.filter(event="GPU activity").to_dicts()
    assert row["reason"] == r"CUDA_INJECTION64_PATH is set to /x\udcff.so already, and left alone"
