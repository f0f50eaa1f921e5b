"""Calls of the CUDA driver by the kernel's uprobes, of a stand-in that logs them.

Run in a guest by the recorder's interpreter: LIBRARIES PROGRAM DIRECTORY. Leaves in DIRECTORY what
was recorded and what was logged. Python 3.9, standard library only.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

from cvmprof.probes import events
from cvmprof.probes.gpu import base_name, call_kind
from cvmprof.profiler.record import recorder
from cvmprof.profiler.record.names import JOURNAL, spool_files

_STEPS = "init threads 3 launch 101 5 in 23 4099 sync 13 set 7 11"
_STOPPED = 'kill -STOP $$; exec "$@"'


def main(libraries: Path, program: Path, directory: Path) -> None:
    """Records in this very process."""
    directory.mkdir()
    flags = os.O_CREAT | os.O_RDWR | os.O_APPEND
    names = (JOURNAL, *spool_files())
    files = {name: os.open(directory / name, flags) for name in names}
    options = {"gpu": "api", "gpu_budget": 100, "search_path": str(libraries)}
    recording = recorder.Recorder(options, files)
    log = directory / "log"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(libraries), "STANDIN_LOG": str(log)}
    command = ["sh", "-c", _STOPPED, "sh", str(program), *_STEPS.split()]
    process = subprocess.Popen(command, env=environment)
    os.waitpid(process.pid, os.WUNTRACED)
    recording.trace(process.pid)
    os.kill(process.pid, signal.SIGCONT)
    while process.poll() is None:
        recording.step()
    losses = recording.stop(was_asked=True)["losses"]
    result = {"recorded": _recorded(directory), "logged": _logged(log), "losses": losses}
    (directory / "result.json").write_text(json.dumps(result))
    os._exit(0)  # as the recorder does: the kernel takes off what was attached


def _recorded(directory: Path) -> dict[str, int]:
    """How many calls of each function, and how many bytes they moved."""
    counted = Counter[str]()
    for layout, count in ((events.GPU_CALL, None), (events.GPU_LAUNCHES, "count")):
        blob = memoryview((directory / f"{layout.name}.ring").read_bytes())
        for record in layout.records(blob):
            (number,) = layout.read(record, "function")
            name = events.GPU_FUNCTIONS[int(number)]
            counted[name] += layout.read(record, count)[0] if count else 1
            if count is None and call_kind(name) == "copy":
                counted["bytes"] += layout.read(record, "bytes")[0]
    return dict(counted)


def _logged(log: Path) -> dict[str, int]:
    counted = Counter[str]()
    for line in map(json.loads, log.read_text().splitlines()):
        if line["kind"] == "call":
            counted[base_name(line["function"])] += 1
            if call_kind(line["function"]) == "copy":
                counted["bytes"] += line["bytes"]
    return dict(counted)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
