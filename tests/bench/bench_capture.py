"""What recording costs: the traced command, a bystander, the recorder itself.

Every figure is a ratio of two measurements made in turn, or a count; the median of several turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cvmprof.runners.lab.cold import cold
from cvmprof.runners.lab.lab import Lab, Shaping, mount, publish, serve, stop
from cvmprof.runners.model import build_model

Row = tuple[str, str, str, bool | None]
TURNS = 5
STORM_READS = 400_000
MODEL_BYTES = 64_000_000
LATENCY_S = 0.02


class Bench:
    """A lab with a model, and a compiled storm of system calls."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.storm = root / "storm"
        source = Path(__file__).with_name("storm.c")
        subprocess.run(["cc", "-O2", "-o", self.storm, source], check=True)
        self._runs = 0

    def traced(self, command: list[str], *options: str) -> tuple[str, Path]:
        """The output of a traced command, and its run directory with the spool joined."""
        self._runs += 1
        run = self.root / f"{self._runs}.cvmprof"
        out = subprocess.run(
            [
                sys.executable,
                "-m",
                "cvmprof",
                "trace",
                "--no-report",
                *options,
                "-o",
                run,
                "--",
                *command,
            ],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ).stdout
        return out, run

    @contextmanager
    def tracing(self) -> Generator[int]:
        """Traces an idle command meanwhile; gives the recorder's pid."""
        begun, hold = self.root / "begun", self.root / "hold"
        for fifo in (begun, hold):
            fifo.unlink(missing_ok=True)
            os.mkfifo(fifo)
        self._runs += 1
        run = self.root / f"{self._runs}.cvmprof"
        tracer = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "cvmprof",
                "trace",
                "--no-report",
                "-o",
                run,
                "--",
                "sh",
                "-c",
                f"echo go >{begun}; read line <{hold}",
            ],
            stderr=subprocess.DEVNULL,
        )
        begun.read_text()
        try:
            yield _recorder_of(tracer.pid)
        finally:
            hold.write_text("end\n")
            tracer.wait()


def rows() -> Iterator[Row]:
    """Yields what `make bench` prints."""
    with tempfile.TemporaryDirectory(prefix="cvmprof-bench-") as directory:
        root = Path(directory)
        lab = Lab(root / "lab")
        (root / "source").mkdir()
        build_model(root / "source", MODEL_BYTES)
        publish(lab, root / "source")
        serve(lab, shaping=Shaping(latency_s=LATENCY_S))
        try:
            bench, mountpoint = Bench(root), mount(lab)
            yield _start_up(bench)
            yield _cold_load(bench, mountpoint)
            yield from _warm_storm(bench, mountpoint / "model.onnx.data")
            yield from _bystander(bench)
            yield from _sustained(bench, mountpoint / "model.onnx.data")
        finally:
            stop(lab, force=True)


def _row(what: str, value: float, unit: str, reach: float, at_most: bool = True) -> Row:
    sign, reached = ("≤", value <= reach) if at_most else ("≥", value >= reach)
    return what, f"{value:.3g}{unit}", f"{sign} {reach:g}{unit}", reached


def _median_ratio(one: Callable[[], float], other: Callable[[], float]) -> float:
    """The median over several turns of one measurement over the other, made in turn."""
    pairs = [(one(), other()) for _ in range(TURNS)]
    return statistics.median(first / second for first, second in pairs)


def _seconds(action: Callable[[], object]) -> float:
    begun = time.monotonic()
    action()
    return time.monotonic() - begun


def _start_up(bench: Bench) -> Row:
    took = statistics.median(_seconds(lambda: bench.traced(["true"])) for _ in range(TURNS))
    return _row("start-up: trace --no-report -- true", took, " s", 1.5)


def _cold_load(bench: Bench, mountpoint: Path) -> Row:
    model = str(mountpoint / "model.onnx")
    command = [sys.executable, "-m", "cvmprof", "run", model, "--runs", "1"]

    def untraced() -> str:
        cold([mountpoint])
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def traced() -> str:
        cold([mountpoint])
        return bench.traced(command)[0]

    ratio = _median_ratio(lambda: _load_seconds(traced()), lambda: _load_seconds(untraced()))
    return _row("cold model load, traced / untraced", ratio, "", 1.02)


def _load_seconds(output: str) -> float:
    return float(output.split("load: ")[1].split(" s")[0])


def _warm_storm(bench: Bench, file: Path) -> Iterator[Row]:
    command = [str(bench.storm), "pread", str(file), str(STORM_READS)]
    ratio = _median_ratio(
        lambda: float(bench.traced(command)[0]), lambda: float(subprocess.check_output(command))
    )
    yield _row("warm 4 KiB pread storm, traced / untraced (tracepoints)", ratio, "", 1.6)


def _bystander(bench: Bench) -> Iterator[Row]:
    local = bench.root / "local"
    local.write_bytes(bytes(16 << 20))
    for name, command in (
        ("preads of a local file", [str(bench.storm), "pread", str(local), str(STORM_READS)]),
        ("getppid, the shortest call", [str(bench.storm), "getppid", str(5 * STORM_READS)]),
    ):
        ratios = list[float]()
        memory_mb = 0.0
        for _ in range(TURNS):
            before = float(subprocess.check_output(command))
            with bench.tracing() as recorder:
                ratios.append(float(subprocess.check_output(command)) / before)
                memory_mb = _memory_mb(recorder)
        reach = 1.25 if "pread" in name else None
        value = statistics.median(ratios)
        if reach:
            yield _row(f"untraced bystander, {name}, while tracing / not", value, "", reach)
        else:
            yield f"untraced bystander, {name}, while tracing / not", f"{value:.3g}", "", None
    yield _row("recorder memory, rings apart", memory_mb, " MB", 150)


def _sustained(bench: Bench, file: Path) -> Iterator[Row]:
    storm = f"{bench.storm} pread {file} {2 * STORM_READS}"
    _, run = bench.traced(["sh", "-c", f"{storm} & {storm} & wait"], "--every-read")
    stopped = next(line for line in _journal(run) if line["kind"] == "stop")
    times = [line["time_ns"] for line in _journal(run) if line["kind"] in ("child", "exit")]
    lost = json.loads((run / "meta.json").read_text())["losses"]
    rate = stopped["records"] / (times[1] - times[0]) * 1e9
    yield _row("events per second recorded, 2 cores", rate / 1e6, " M/s", 1.0, at_most=False)
    yield _row("events lost meanwhile", float(lost), "", 0)
    yield _row("recorder CPU per event", stopped["cpu_ns"] / stopped["records"], " ns", 60)


def _journal(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]


def _recorder_of(pid: int) -> int:
    """The recorder among a tracer's children: the one that has the rings mapped."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    maps = {int(child): Path(f"/proc/{child}/maps").read_text() for child in children}
    return next(child for child, text in maps.items() if "bpf-map" in text)


def _memory_mb(pid: int) -> float:
    """Resident memory in MB without the mapped rings."""
    total, ring = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if "-" in line.split()[0] and not line.endswith("kB"):
            ring = "bpf-map" in line
        elif line.startswith("Rss:") and not ring:
            total += int(line.split()[1])
    return total / 1000
