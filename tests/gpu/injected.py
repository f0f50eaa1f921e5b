"""Run the stand-ins' program with the library that the driver injects, and read what it wrote."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvmprof.probes.events import GPU_PAGEABLE, GPU_RECORD
from cvmprof.probes.gpu import GPU_RECORD_KINDS
from cvmprof.tests.gpu.stand_ins import StandIns, read_log

TIMEOUT_S = 60.0

Row = tuple[object, ...]


@dataclass(frozen=True)
class Written:
    """The two files of one process."""

    lines: list[dict[str, Any]]
    records: list[dict[str, int]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The lines of a kind."""
        return [line for line in self.lines if line["kind"] == kind]

    @property
    def trouble(self) -> list[str]:
        return [line["text"] for line in self.of("trouble")]

    @property
    def dropped(self) -> int:
        return sum(line["count"] for line in self.of("dropped"))

    def operations(self) -> list[Row]:
        """As `logged_operations`."""
        names = self._names()
        return sorted(
            (
                GPU_RECORD_KINDS[row["kind"]],
                *(row[name] for name in _OPERATION),
                bool(row["flags"] & GPU_PAGEABLE),
                names.get(row["name"], ""),
            )
            for row in self.records
            if GPU_RECORD_KINDS[row["kind"]] != "call"
        )

    def calls(self) -> list[Row]:
        """As `logged_calls`."""
        names = self._names()
        return sorted(
            (names[row["name"]], *(row[name] for name in _CALL))
            for row in self.records
            if GPU_RECORD_KINDS[row["kind"]] == "call"
        )

    def _names(self) -> dict[int, str]:
        return {line["number"]: line["text"] for line in self.of("name")}


_OPERATION = (
    "start_ns", "end_ns", "bytes", "device", "context", "stream", "correlation", "pid",
)  # fmt: skip
_CALL = ("start_ns", "end_ns", "correlation", "pid", "tid", "result")


def logged_operations(log: Path) -> list[Row]:
    """What the devices did, as the stand-in of the driver logged it."""
    return sorted(
        (line["kind"], *(line[name] for name in _OPERATION), bool(line["pageable"]), line["name"])
        for line in read_log(log)
        if line["kind"] != "call"
    )


def logged_calls(log: Path) -> list[Row]:
    """The calls that CUPTI reports, as the stand-in of the driver logged them: not those that the
    runtime made, which share its correlation.
    """
    calls = [line for line in read_log(log) if line["kind"] == "call"]
    of_runtime = {line["correlation"] for line in calls if line["function"].startswith("cuda")}
    return sorted(
        (line["function"], *(line[name] for name in _CALL))
        for line in calls
        if line["function"].startswith("cuda") or line["correlation"] not in of_runtime
    )


@dataclass(frozen=True)
class Injection:
    """The stand-ins, the compiled library, and a directory for its files."""

    stand_ins: StandIns
    library: Path
    directory: Path

    @property
    def log(self) -> Path:
        """What the stand-in of the driver logs."""
        return self.directory / "log"

    @property
    def spool(self) -> Path:
        """Where the library writes."""
        return self.directory / "gpu"

    def environment(self, **switches: object) -> dict[str, str]:
        """Variables for the program: of the stand-ins, and those that a recording sets."""
        self.spool.mkdir(exist_ok=True)
        return {
            **self.stand_ins.environment(self.log, **switches),
            "CVMPROF_GPU_DIR": str(self.spool),
            "CUDA_INJECTION64_PATH": str(self.library),
        }

    def command(self, *steps: object) -> list[str]:
        """The program with its steps."""
        return [str(self.stand_ins.program), *map(str, steps)]

    def run(self, *steps: object, **switches: object) -> subprocess.CompletedProcess[str]:
        """Run the program to its end."""
        return self.run_in(self.environment(**switches), *steps)

    def run_in(
        self, environment: dict[str, str], *steps: object
    ) -> subprocess.CompletedProcess[str]:
        """The same in another environment."""
        command = self.command(*steps)
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
        )

    def written(self) -> list[Written]:
        """The files of all processes, by name."""
        for path in self.spool.iterdir():
            assert re.fullmatch(r"\d+-\d+(-\d+)?\.(lines|records)", path.name), path.name
        return [read_written(path) for path in sorted(self.spool.glob("*.lines"))]

    def only(self) -> Written:
        """The files of the only process."""
        (written,) = self.written()
        return written


def read_written(lines: Path) -> Written:
    """Read the files of one process; all records and lines must be whole."""
    names = [field.name for field in GPU_RECORD.fields]
    data = lines.with_suffix(".records").read_bytes()
    assert len(data) % GPU_RECORD.size == 0
    whole = (data[at : at + GPU_RECORD.size] for at in range(0, len(data), GPU_RECORD.size))
    return Written(
        [json.loads(line) for line in lines.read_text().splitlines()],
        [dict(zip(names, GPU_RECORD.read(record, *names), strict=True)) for record in whole],
    )
