"""Calls in a client whose threads preempt one another, also inside the programs at its functions.

Run in a guest by the recorder's interpreter: PROGRAM DIRECTORY. Leaves in DIRECTORY what was
recorded of them. Python 3.9, standard library only.
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
from cvmprof.profiler.record import recorder
from cvmprof.profiler.record.names import JOURNAL, spool_files

READS, THREADS = 251, 8
#: each read calls these once, the last one where its number is odd
CALLED = ("cvmfs_read", "Fetcher::Fetch", "CacheManager::Open", "DownloadManager::Fetch")


def main(program: Path, directory: Path) -> None:
    """Records in this very process."""
    directory.mkdir()
    flags = os.O_CREAT | os.O_RDWR | os.O_APPEND
    names = (JOURNAL, *spool_files())
    files = {name: os.open(directory / name, flags) for name in names}
    process = subprocess.Popen([program, str(READS), "0", str(THREADS)])
    os.waitpid(process.pid, os.WUNTRACED)
    recording = recorder.Recorder({}, files)
    os.kill(process.pid, signal.SIGCONT)
    while not os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED | os.WNOHANG)[1]):
        recording.step()
    losses = recording.stop(was_asked=True)["losses"]
    process.kill()
    process.wait()
    result = {"calls": _calls(directory, process.pid), "losses": losses}
    (directory / "result.json").write_text(json.dumps(result))
    os._exit(0)  # as the recorder does: the kernel takes off what was attached


def _calls(directory: Path, pid: int) -> dict[str, dict[str, int]]:
    """How often each thread called each function, from which one."""
    counted = dict[str, Counter[str]]()
    blob = memoryview((directory / f"{events.CALL.name}.ring").read_bytes())
    for record in events.CALL.records(blob):
        process, tid, function, parent = events.CALL.read(
            record, "pid", "tid", "function", "parent_function"
        )
        if process == pid != tid:  # the first thread only waits for the others
            names = (_name(int(parent)), _name(int(function)))
            counted.setdefault(str(tid), Counter())[" ".join(names).strip()] += 1
    return dict[str, dict[str, int]](counted)


def _name(function: int) -> str:
    return events.DAEMON_FUNCTIONS[function] if function else ""


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
