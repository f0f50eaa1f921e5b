"""What watching the CUDA driver by uprobes costs a command that launches, on a stand-in of it.

Every ratio is of two measurements of CPU time made in turn; the median of several turns. What a
uprobe costs depends on the machine: about 12 µs where virtual machines are nested, 1 to 3 µs
elsewhere. So the first row gives it, and the ratios without a budget follow from it. The budget is
of the run time, which is longer than the CPU time on a shared machine; its row compares with that.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cvmprof.tests.gpu.stand_ins import StandIns, compile_stand_ins

Row = tuple[str, str, str, bool | None]
TURNS = 3
RUN_S = 10
RATES_HZ = (10_000, 100_000)
#: the budget of 1 %, and what is launched before the probes are off
REACH_SHARE = 0.015


class Bench:
    """A program that launches at a rate, linked with the stand-in."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._stand_ins: StandIns = compile_stand_ins(root / "stand-ins")
        self._program = root / "launches"
        source = Path(__file__).with_name("launches.c")
        libcuda = str(self._stand_ins.libcuda)
        subprocess.run(["cc", "-O2", "-o", self._program, source, libcuda], check=True)
        self._runs = 0

    def command(self, rate_hz: int) -> list[str]:
        """Launches for about `RUN_S`."""
        work = self._printed([str(self._program), str(1e6 / rate_hz)]).strip()
        return [str(self._program), str(rate_hz * RUN_S), work]

    def untraced_s(self, command: list[str]) -> float:
        """Seconds that the launches took on the CPU."""
        return float(self._printed(command))

    def traced(self, command: list[str], budget: str) -> tuple[float, Path]:
        """Seconds that the launches took on the CPU while they were watched, and the run."""
        self._runs += 1
        run = self.root / f"{self._runs}.cvmprof"
        trace = [sys.executable, "-m", "cvmprof", "trace", "--no-report", "--gpu", "api"]
        options = ["--gpu-budget", budget, "-o", str(run), "--"]
        return float(self._printed([*trace, *options, *command])), run

    def _printed(self, command: list[str]) -> str:
        return subprocess.run(
            command,
            env=self._stand_ins.environment(),
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ).stdout


def rows() -> Iterator[Row]:
    """Yields what `make bench` prints."""
    with tempfile.TemporaryDirectory(prefix="cvmprof-bench-") as directory:
        bench = Bench(Path(directory))
        for rate_hz in RATES_HZ:
            yield from _at_rate(bench, rate_hz)


def _at_rate(bench: Bench, rate_hz: int) -> Iterator[Row]:
    command, what = bench.command(rate_hz), f"{rate_hz // 1000} k launches/s by uprobes"
    whole, within = list[float](), list[float]()
    counted = run = None
    for _ in range(TURNS):
        untraced_s = bench.untraced_s(command)
        took_s, run = bench.traced(command, "100")
        whole.append(took_s / untraced_s)
        counted = _hits(run, "GPU launch") == rate_hz * RUN_S
        took_s, run = bench.traced(command, "1")
        within.append(took_s / untraced_s)
    assert run is not None
    cost_us = _journal(run, "uprobe_cost")[0]["hit_ns"] / 1000
    yield "a hit of a uprobe here (1 to 3 µs on hardware)", f"{cost_us:.3g} µs", "", None
    yield f"{what}, all watched / untraced", f"{statistics.median(whole):.3g}", "", None
    yield f"{what}, all watched: all counted", str(counted), "True", counted
    yield f"{what}, budget 1 % / untraced", f"{statistics.median(within):.3g}", "", None
    hits = _hits(run, "GPU launch")
    share = hits * cost_us * 1000 / _run_ns(run)
    reach = f"≤ {REACH_SHARE:.1%}"
    yield f"{what}, budget 1 %: of the run time", f"{share:.2%}", reach, share <= REACH_SHARE
    times = len(_journal(run, "launches"))
    counted_share = f"{hits / (rate_hz * RUN_S):.1%}; {times}"
    yield f"{what}, budget 1 %: counted; changes", counted_share, "", None


def _journal(run: Path, kind: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "journal.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


def _run_ns(run: Path) -> int:
    begun, ended = (_journal(run, kind)[0]["time_ns"] for kind in ("child", "exit"))
    return int(ended - begun)


def _hits(run: Path, event: str) -> int:
    rows = _journal(run, "hits")[-1]["rows"] + _journal(run, "hits")[0]["rows"]
    return max(int(row["hits"]) for row in rows if row["event"] == event)
