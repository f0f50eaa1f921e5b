"""A stand-in for NVIDIA's management library, built from C, that answers as a script orders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SOURCE = Path(__file__).resolve().parent / "standins" / "nvml.c"
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class StandIn:
    """A built stand-in with its script."""

    directory: Path

    @property
    def environment(self) -> dict[str, str]:
        """This process's, with the stand-in as its library."""
        script = str(self.directory / "script")
        return {**os.environ, "LD_LIBRARY_PATH": str(self.directory), "NVML_SCRIPT": script}

    def sampled(self, count: int, patience_s: float = 60.0) -> dict[str, Any]:
        """What a sampler did that was stopped after so many samples: see `sampling`."""
        module = "cvmprof.tests.gpu.sampling"
        command = [sys.executable, "-m", module, str(count), str(patience_s)]
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
        )
        assert done.stderr == ""
        result: dict[str, Any] = json.loads(done.stdout)
        return result


def stand_in(directory: Path, script: str, *options: str) -> StandIn:
    """Build one; ``options`` are for the compiler."""
    command = ["gcc", "-Wall", "-Werror", "-shared", "-fPIC", *options]
    library = str(directory / "libnvidia-ml.so.1")
    subprocess.run([*command, "-o", library, str(_SOURCE)], check=True, timeout=TIMEOUT_S)
    (directory / "script").write_text(script)
    return StandIn(directory)
