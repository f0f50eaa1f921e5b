"""Statistics and findings of rows, and of runs in which nothing happened but for a change."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from cvmprof.profiler.tables import FETCH_CAUSES
from cvmprof.reports.findings.finding import Finding
from cvmprof.reports.findings.rules import findings
from cvmprof.reports.material import gather
from cvmprof.reports.numbers.command import CommandTime, ProcessTime
from cvmprof.reports.numbers.contention import Collisions
from cvmprof.reports.numbers.failures import Failures
from cvmprof.reports.numbers.fetching import Fetches, Latency
from cvmprof.reports.numbers.gains import PARTS, Gain
from cvmprof.reports.numbers.held import Held
from cvmprof.reports.numbers.network import Network
from cvmprof.reports.numbers.patterns import (
    Names,
    PageCache,
    Patterns,
    ReadCalls,
    Unread,
    WholeFiles,
)
from cvmprof.reports.numbers.phases import Phase
from cvmprof.reports.numbers.reading import Answered, ReadAgain, Reading, SmallRequests
from cvmprof.reports.numbers.shared_files import SharedFiles
from cvmprof.reports.numbers.sharing import OfMounts
from cvmprof.reports.numbers.stalls import Stalls
from cvmprof.reports.numbers.statistics import Bytes, Outcome, Statistics, compute
from cvmprof.reports.numbers.tensors import Tensors
from cvmprof.reports.numbers.waits import Waits

from .synthetic import DAEMON, MAIN, MS, PID, START, Rows, run_of, tiny_rows

NO_FETCHES = Fetches(
    downloaded=0, joined=0, failed=0, unfinished=0, chunks_downloaded=0, unpacked_bytes=0,
    summed_ns=0, busy_ns=0, most_at_once=0,
)  # fmt: skip
NO_NETWORK = Network(
    downloads=0, round_trip_ns=None, answer_ns=0, travel_ns=0, transfer_ns=0, transfer_samples=0,
    unread_samples=0, unread_bytes=0, segments=0, disordered=0, retransmits=0,
    failed_connections=0, failed_ns=0, failed_to=(),
)  # fmt: skip
NO_FAILURES = Failures(fetches={}, statuses={}, unanswered=0, rejected=0, downloaded_again=0)
#: 100 ms of one thread on a CPU
NO_WAIT = CommandTime(
    wall_ns=100 * MS, causes_ns={"cpu": 100 * MS}, cvmfs_ns=0, cvmfs_causes_ns={}, fetch_ns=0,
    polled_ns=0, threads_ns=100 * MS, thread_causes_ns={"cpu": 100 * MS}, thread_cvmfs_ns=0,
    fetches=NO_FETCHES, process_count=1,
    processes=(
        ProcessTime(pid=PID, name="python3", argv=None, threads=1, start_ns=START,
                    end_ns=START + 100 * MS, wall_ns=100 * MS, causes_ns={"cpu": 100 * MS},
                    cvmfs_ns=0),
    ),
)  # fmt: skip
#: 100 ms of which nothing is said
NO_COMMAND = replace(NO_WAIT, causes_ns={}, thread_causes_ns={})
NO_LATENCY = Latency(None, None, None, 0, 0)
NO_WAITS = Waits(
    total_ns=0, kinds_ns={}, first_byte_ns=0, transfer_ns=0, answered=0, pending=None, slowest=None,
    failed_at=(),
)  # fmt: skip
UNUSED_MOUNTS = OfMounts(
    counts={}, fetches=NO_FETCHES, failures=NO_FAILURES, over_http=0, latency=NO_LATENCY,
    network=NO_NETWORK, neighbours=(), client_fetches=0, client_wire_bytes=0,
)  # fmt: skip
NO_TIME = Held(0, 0)
NO_PATTERNS = Patterns(
    reading=Reading(
        sizes=(), small=SmallRequests(0, 0, 0, 0, 0, 0, 0, NO_TIME),
        answered=Answered(0, 0, NO_TIME), again=ReadAgain(0, 0, NO_TIME, None, 0.0, 0, 0),
    ),
    page_cache=PageCache(0, 0, 0), whole_files=WholeFiles(0, 0, 0, 0, None, None, 0.0, NO_TIME),
    small_files=WholeFiles(0, 0, 0, 0, None, None, 0.0, NO_TIME),
    names=Names(0, 0, 0, 0, {}, 0, NO_TIME, NO_TIME), read_calls=ReadCalls(0, 0, 0),
    unread=Unread(0, 0, 0, NO_TIME), shared=SharedFiles(0, 0, None, 0, 0, 0, NO_TIME),
    one_handle=None, lock_kinds_ns={},
)  # fmt: skip
QUIET = Statistics(
    command=(), started_utc_ns=None, start_ns=START, duration_ns=100 * MS,
    outcome=Outcome(0, None, complete=True), kernel="", cvmprof_version="",
    counts={"page_cache_hits": 0, "page_cache_ns": 0, "fuse_reads": 0, "fuse_requests": 7},
    command_time=NO_COMMAND,
    phases=(), fetches=NO_FETCHES, failures=NO_FAILURES, bytes=Bytes(0, 0, {}),
    patterns=NO_PATTERNS, latency=NO_LATENCY, network=NO_NETWORK, waits=NO_WAITS, servers=(),
    of_mounts=UNUSED_MOUNTS,
    chunks_known=0, objects_looked_up=0, objects_cached_at_start=0,
    slowest_chunks=(), collisions=Collisions(0, 0, 0, None, None), fetched_for_no_request=0,
    stalls=Stalls(0, 0, {}, ()), tensors=Tensors(0, 0, 0, 0, ()), unfinished=(),
    incidents=(), losses=(), probes=(), mounts=(), reconciliation=(),
)  # fmt: skip

#: causes that only a request or a fetch has
_OF_REQUEST = FETCH_CAUSES | {"fuse_queue", "daemon", "daemon_lock", "cache_read", "catalog"}
_FIGURE = re.compile(r"(?<![\w.,×])\d+(?:,\d{3})*(?:\.\d+)?(?: (?:%|ns|µs|ms|s\b|[KMG]iB|B\b))?")


def quiet(**changes: Any) -> Statistics:
    """Return statistics without any finding, but for these changes."""
    return replace(QUIET, **changes)


def fetches(**changes: int) -> Fetches:
    """Return a summary of no fetch, but for these changes."""
    return replace(NO_FETCHES, **changes)


def command_time(wall_ms: int = 100, **causes_ns: int) -> CommandTime:
    """Return a command of one thread with this time by cause, as of `phase`."""
    cvmfs_ns, fetch_ns = _waited(causes_ns)
    of_cvmfs = {cause: ns for cause, ns in causes_ns.items() if cause in _OF_REQUEST}
    sums = {part: sum(causes_ns.get(cause, 0) for cause in PARTS[part]) for part in PARTS}
    return replace(
        NO_WAIT, wall_ns=wall_ms * MS, causes_ns=causes_ns, cvmfs_ns=cvmfs_ns,
        cvmfs_causes_ns=of_cvmfs, fetch_ns=fetch_ns,
        threads_ns=wall_ms * MS, thread_causes_ns=causes_ns, thread_cvmfs_ns=cvmfs_ns,
        processes=(replace(NO_WAIT.processes[0], end_ns=START + wall_ms * MS, wall_ns=wall_ms * MS,
                           causes_ns=causes_ns, cvmfs_ns=cvmfs_ns),),
        gains={part: Gain(ns, ns) for part, ns in sums.items() if ns},
    )  # fmt: skip


def phase(name: str = "load", lasted_ms: int = 100, **causes_ns: int) -> Phase:
    """Return a phase of the main thread with this time by cause.

    What a fetch may cause waited for one, what a request may cause for that.
    """
    end_ns, waits = START + lasted_ms * MS, _waited(causes_ns)
    return Phase(name, PID, MAIN, START, end_ns, lasted_ms * MS, causes_ns, 0, 0, NO_FETCHES, 1,
                 *waits)  # fmt: skip


def _waited(causes_ns: dict[str, int]) -> tuple[int, int]:
    """What of these causes waited for CVMFS, and for a fetch, if nothing else is known."""
    cvmfs_ns = sum(ns for cause, ns in causes_ns.items() if cause in _OF_REQUEST)
    return cvmfs_ns, sum(ns for cause, ns in causes_ns.items() if cause in FETCH_CAUSES)


def spoken(**changes: Any) -> list[Finding]:
    """Return the findings of a quiet run with these changes."""
    return findings(quiet(**changes))


def figures(text: str) -> list[str]:
    """Return the numbers in a text with their units, in order."""
    return _FIGURE.findall(text)


def statistics_of(rows: Rows) -> Statistics:
    """Return the statistics of a run of 100 ms with these rows."""
    return compute(gather(run_of(rows)))


def findings_of(rows: Rows, **changes: Any) -> list[Finding]:
    """Return the findings of a run of 100 ms with these rows."""
    return findings(compute(gather(run_of(rows, **changes))))


def headlines(rows: Rows, **changes: Any) -> list[str]:
    """Return their headlines."""
    return [finding.headline for finding in findings_of(rows, **changes)]


def incident(kind: str, at_ms: int = 40, **row: Any) -> dict[str, Any]:
    """Return a row of `incidents`, ``at_ms`` after the start."""
    absent = {"pid": None, "tid": None, "mount_id": None, "signal": None, "detail": "the detail"}
    return {"time_ns": START + at_ms * MS, "kind": kind, **absent, **row}


def fetch(rows: Rows, start: int, end: int | None, **row: Any) -> None:
    """Add a downloaded chunk, but for ``row``; fetches are numbered as they are added."""
    plain = {"object_kind": "chunk", "outcome": "downloaded", "object_hash": "a", "pid": DAEMON,
             "tid": DAEMON, "fetch_id": len(rows.rows.get("fetches", []))}  # fmt: skip
    rows.add("fetches", start_ns=start, end_ns=end, **{**plain, **row})


def download(rows: Rows, number: int, *times: int | None, **row: Any) -> None:
    """Add a download with its times sent, first byte, last byte, committed."""
    names = ("sent_ns", "first_byte_ns", "last_byte_ns", "committed_ns")
    rows.add("downloads", download_id=number, host="h", attempt=1, wire_bytes=77,
             **dict(zip(names, times, strict=True)), **row)  # fmt: skip


def asked(rows: Rows, unique: int, pid: int = PID, **row: Any) -> None:
    """Add a request of the command, or of another process, on mount 0."""
    rows.add("fuse_requests", mount_id=0, unique=unique, opcode=15, node_id=17, pid=pid, tid=pid,
             error=0, **row)  # fmt: skip


def tile(rows: Rows, start: int, end: int, cause: str, tid: int = MAIN, **ids: Any) -> None:
    """Add a segment of the main thread, or of another one."""
    rows.add("segments", pid=PID, tid=tid, start_ns=start, end_ns=end, cause=cause, **ids)


def stopped(rows: Rows, start: int, end: int, mount_id: int = 0) -> None:
    """A mount's client is stopped."""
    if not any(row["mount_id"] == mount_id for row in rows.rows.get("mounts", [])):
        rows.add("mounts", mount_id=mount_id, device="0:55", mountpoint="/m", daemon_pid=DAEMON)
    rows.add("blocked", pid=DAEMON, tid=DAEMON, start_ns=start, woken_ns=end, end_ns=end,
             off_reason="stopped")  # fmt: skip


#: half of it waits for the network
WAITED = phase("load", 100, transfer=50 * MS, cpu=50 * MS)


def sampled_rows(*samples: dict[str, Any]) -> Rows:
    """A run whose connection was sampled. Its two downloads: first byte 20 ms after the request,
    last byte 15 ms after that.
    """
    rows = tiny_rows()
    for sample in samples:
        rows.add(
            "sockets",
            **{
                "connection_id": 0,
                "state": "established",
                "remote": "10.0.0.9:80",
                "rtt_us": 9_000,
                "min_rtt_us": 500,
                "receive_rtt_us": 0,
                "retransmits": 0,
                "congestion_window": 10,
                "bytes_received": 0,
                "segments_received": 0,
                "out_of_order": 0,
                "unread_bytes": 0,
                "delivery_rate_bytes_s": 0,
                **sample,
            },
        )
    return rows


def sent(rows: Rows) -> list[int]:
    """Return when the requests of the downloads were sent."""
    return [download["sent_ns"] for download in rows.rows["downloads"]]


def in_transfers(count: int, **values: Any) -> list[dict[str, Any]]:
    """So many samples within the first transfer."""
    start = sent(tiny_rows())[0] + 21 * MS
    return [{"time_ns": start + n * MS, **values} for n in range(count)]
