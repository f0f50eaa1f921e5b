"""Scripts that record in their very own process, and how tests run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from cvmprof.profiler.record import recorder
from cvmprof.profiler.record.names import JOURNAL, spool_files


def recorder_in(directory: Path, options: dict[str, Any]) -> Any:
    """A recorder whose journal and spool are files of a directory."""
    flags = os.O_CREAT | os.O_RDWR | os.O_APPEND
    names = (JOURNAL, *spool_files())
    return recorder.Recorder(options, {name: os.open(directory / name, flags) for name in names})


def printed_by(script: str, *arguments: str) -> Any:
    """What a script beside this file prints, which is JSON."""
    path = os.pathsep.join(each for each in sys.path if each)
    said = subprocess.check_output(
        [sys.executable, str(Path(__file__).with_name(script)), *arguments],
        env={**os.environ, "PYTHONPATH": path},
        text=True,
        timeout=60,
    )
    return json.loads(said)
