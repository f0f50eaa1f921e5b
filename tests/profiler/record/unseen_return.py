"""Threads that no program sees come back to a CPU, since none stands on sched_switch meanwhile:
DIRECTORY. Records in this very process; prints when each sleep was, and what was recorded of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from cvmprof.probes import catalog, events
from cvmprof.tests.profiler.record.in_process import recorder_in

_ASLEEP_S = 0.3
_FIELDS = ("start_ns", "woken_ns", "end_ns")
_ROUNDS = 3_000_000  # some seconds of work
_ON_CPU = threading.Event()  # whether the second thread has its CPU for itself


def main(directory: Path) -> None:
    """One thread ends after its sleep, the other one sleeps again."""
    recording = recorder_in(directory, {})
    recording.trace(os.getpid())
    wake = threading.Event()
    threads = [threading.Thread(target=each, args=(wake,)) for each in (_ends, _sleeps_again)]
    for thread in threads:
        thread.start()
    time.sleep(_ASLEEP_S)
    _detach_switches(recording)
    before_ns = time.monotonic_ns()
    time.sleep(_ASLEEP_S)
    wake.set()
    while Path(f"/proc/self/task/{threads[0].native_id}").exists():
        time.sleep(0.001)
    _ON_CPU.wait()
    assert recording._attacher.attach_points(_switches()) is None
    for thread in threads:
        thread.join()
    losses = recording.stop(was_asked=True)["losses"]
    told = [_intervals(directory, thread.native_id) for thread in threads]
    through = [[each for each in rows if each[0] < before_ns < each[2]] for rows in told]
    print(json.dumps({"through": through, "losses": losses}))
    sys.stdout.flush()
    os._exit(0)  # as the recorder does: the kernel takes off what was attached


def _ends(wake: threading.Event) -> None:
    wake.wait()


def _sleeps_again(wake: threading.Event) -> None:
    """Stays on its CPU after its first sleep, until switches are seen again.

    The end of another sleep, or of a preemption, would be seen, and taken for the end of this one:
    so it works without Python's lock and is not preempted.
    """
    wake.wait()
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    _ON_CPU.set()
    hashlib.pbkdf2_hmac("sha256", b"", b"", _ROUNDS)
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    time.sleep(0.01)


def _switches() -> tuple[catalog.AttachPoint, ...]:
    (event,) = (event for event in catalog.EVENTS if event.name == "off CPU")
    return event.alternatives[0]


def _detach_switches(recording: Any) -> None:
    for link in recording._attacher._links:
        if "sched_switch" in Path(f"/proc/self/fdinfo/{link}").read_text():
            os.close(link)


def _intervals(directory: Path, tid: int | None) -> list[list[int]]:
    blob = (directory / f"{events.BLOCKED.name}.ring").read_bytes()
    starts = range(events.RING_HEADER_BYTES, len(blob), events.BLOCKED.stride)
    records = (blob[at : at + events.BLOCKED.size] for at in starts)
    return [
        [_number(record, name, 8) for name in _FIELDS]
        for record in records
        if _number(record, "tid", 4) == tid
    ]


def _number(record: bytes, name: str, size: int) -> int:
    at = events.BLOCKED.offset(name)
    return int.from_bytes(record[at : at + size], "little")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
