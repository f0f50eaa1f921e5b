"""Where the time went: what held most of the command's wall time, and what its parts say beside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..material import WHOLE_COMMAND
from ..numbers.command import CommandTime
from ..numbers.fetching import Fetches
from ..numbers.phases import Phase
from ..numbers.statistics import Statistics
from ..words import cause, duration, percent, plural
from .finding import NEGLIGIBLE, ONE_AT_A_TIME, Finding, Tone, main_phase

#: shares that differ by less are called the same
_SAME_SHARE = 0.1
#: what the command did in time that was no wait for CVMFS, by cause
_DID = {
    "cpu": "ran on a CPU", "copy": "ran on a CPU", "runqueue": "waited for a CPU",
    "stopped": "was stopped", "driver": "was in the GPU's driver",
    "device": "waited for the GPU", "launch": "waited for the GPU",
    "disk": "waited for a local disk", "blocked": "slept",
}  # fmt: skip
#: what holds the client back in a wait for CVMFS, by cause
_OF_CLIENT = {"runqueue": "waiting for a CPU", "stopped": "being stopped"}
_UNEXPLAINED = "did what could not be observed"
_FOR_CVMFS = "waited for CVMFS"
#: causes that are divided further where the work is observed, and why it may not be
_UNDIVIDED = {
    "daemon": "No CVMFS client serves that file system, or what it does was not observed.",
    "fetch": "The HTTP requests, or what the download thread did with the answers, were not "
    "observed: they are encrypted, or were sent before recording began.",
}
_READS = (
    "No thread waited for them: they were asynchronous reads in flight (io_uring, aio), of which "
    "only the downloads are divided."
)


@dataclass(frozen=True)
class Holder:
    """What the command did for a part of its wall time, and that time by cause."""

    did: str
    causes_ns: Mapping[str, int]

    @property
    def ns(self) -> int:
        """How long."""
        return sum(self.causes_ns.values())

    @property
    def of_cvmfs(self) -> bool:
        """Whether it waited for CVMFS."""
        return self.did == _FOR_CVMFS


def holders(time: CommandTime) -> list[Holder]:
    """Divide the wall time by what the command did, the longest part first."""
    parts: dict[str, dict[str, int]] = {_FOR_CVMFS: dict(time.cvmfs_causes_ns)}
    for name, ns in time.causes_ns.items():
        other_ns = ns - time.cvmfs_causes_ns.get(name, 0)
        if other_ns:
            parts.setdefault(_DID.get(name, _UNEXPLAINED), {})[name] = other_ns
    found = [Holder(did, causes_ns) for did, causes_ns in parts.items() if causes_ns]
    return sorted(found, key=lambda each: -each.ns)


def where_time_went(s: Statistics) -> Iterator[Finding]:
    """Say what held most of the command's wall time, and how much of it CVMFS held."""
    time, held = s.command_time, holders(s.command_time)
    if not held:
        return
    first = held[0]
    said = f"The command {first.did} for {_of_wall(first.ns, time)}"
    if first.of_cvmfs:
        yield Finding("main", f"{said}{_above_all(first)}{_for_what(s)}.")
    else:
        yield Finding(_tone(first, time), f"{said}; {_for_cvmfs(s)}.")


def _above_all(held: Holder) -> str:
    """The cause that held most of it, if one stands out."""
    name, ns = max(held.causes_ns.items(), key=lambda item: item[1])
    if 3 * ns < held.ns:
        return ""
    waited_for = cvmfs_cause(name) if held.of_cvmfs else cause(name)
    return f", {'mostly' if 2 * ns > held.ns else 'above all'} {waited_for}"


def cvmfs_cause(name: str) -> str:
    """Return a cause of a wait for CVMFS in words: there it is the client that is held back."""
    did = _OF_CLIENT.get(name)
    return f"the client {did} ({name})" if did else cause(name)


def _tone(first: Holder, time: CommandTime) -> Tone:
    """Good only if neither the wall time nor the threads' time says that anything waited."""
    negligible = _negligible(time.cvmfs_ns, time.wall_ns)
    negligible &= _negligible(time.thread_cvmfs_ns, time.threads_ns)
    return "good" if negligible and first.did == _DID["cpu"] else "main"


def _negligible(ns: int, total_ns: int) -> bool:
    return ns < NEGLIGIBLE * total_ns


def _of_wall(ns: int, time: CommandTime) -> str:
    return f"{duration(ns)} of its {duration(time.wall_ns)} ({percent(ns / time.wall_ns)})"


def _for_what(s: Statistics) -> str:
    """What the command waited for: what was fetched, unless most of the wait was for no fetch."""
    time, fetches = s.command_time, s.command_time.fetches
    if 2 * (time.vain_ns + time.hung_ns) > time.cvmfs_ns:
        return _lost(time)
    if time.fetch_ns < time.cvmfs_ns / 2:
        part = "mostly without fetches" if time.fetch_ns else "without a fetch"
        return f": for {plural(s.counts['fuse_requests'], 'request')}, {part}"
    if not fetches.chunks_downloaded:
        return ", for fetches that brought no chunk"
    return f": for {_what_came(fetches)}{_in_order(fetches)}"


def _lost(time: CommandTime) -> str:
    """How much waited for nothing, and for what had not come: parts of the wait for CVMFS."""
    parts = (
        (time.hung_ns, "for what had not come when recording ended"),
        (time.vain_ns, "for requests to servers that brought nothing"),
    )
    said = [f"{duration(ns)} of it {what}" for ns, what in parts if ns]
    return ", " + ", and ".join(said)


def _what_came(fetches: Fetches) -> str:
    """What was downloaded: files that are not chunked, and chunks."""
    files, chunks = fetches.files_downloaded, fetches.chunks_downloaded - fetches.files_downloaded
    counted = ((files, "file"), (chunks, "chunk"))
    return " and ".join(plural(count, what) for count, what in counted if count)


def _in_order(fetches: Fetches) -> str:
    """Say whether the fetches ran one after another."""
    if fetches.chunks_downloaded < 2:
        return ""
    if fetches.most_at_once == 1:
        return ", fetched one after another"
    if fetches.mean_at_once < ONE_AT_A_TIME:
        return ", fetched nearly one after another"
    return f", fetched {fetches.mean_at_once:.1f} at a time on average"


def _for_cvmfs(s: Statistics) -> str:
    """How much of the wall time waited for CVMFS, where something else held more."""
    time = s.command_time
    if not time.thread_cvmfs_ns:
        return "nothing waited for CVMFS"
    if not time.cvmfs_ns:
        waited = f"its threads waited {duration(time.thread_cvmfs_ns)} for CVMFS"
        return f"{waited}, all of it while another ran"
    share = percent(time.cvmfs_ns / time.wall_ns)
    return f"{duration(time.cvmfs_ns)} ({share}) waited for CVMFS"


def threads_apart(s: Statistics) -> Iterator[Finding]:
    """Say what all threads' lives together waited, where the wall time hides it.

    While one thread computes, those that wait beside it do not show in the wall time.
    """
    time = s.command_time
    hidden_ns = time.thread_cvmfs_ns - time.cvmfs_ns
    if hidden_ns <= _SAME_SHARE * time.wall_ns:
        return
    yield Finding(
        "note",
        f"All threads together waited {duration(time.thread_cvmfs_ns)} for CVMFS, in "
        f"{duration(time.wall_ns)} of wall time.",
        "Several waited at once, or waited while another computed.",
    )


def phase_apart(s: Statistics) -> Iterator[Finding]:
    """Say what the main phase's own thread waited, where that differs from the command."""
    phase, time = main_phase(s), s.command_time
    if phase is None or phase.name == WHOLE_COMMAND or not phase.duration_ns or not time.wall_ns:
        return
    share, of_command = phase.cvmfs_ns / phase.duration_ns, time.cvmfs_ns / time.wall_ns
    if abs(share - of_command) < _SAME_SHARE:
        return
    yield Finding(
        "note",
        f"“{phase.title}”{_which(phase, s.phases)} waited for CVMFS for "
        f"{duration(phase.cvmfs_ns)} of its {duration(phase.duration_ns)} ({percent(share)}).",
        f"That is the thread of the phase, and what it waited for; of the whole command it was "
        f"{percent(of_command)}.",
    )


def _which(phase: Phase, phases: tuple[Phase, ...]) -> str:
    """Which one it is where several have its name."""
    same = sum(1 for each in phases if each.name == phase.name)
    return f" of process {phase.pid}, one of {same}," if same > 1 else ""


def undivided(s: Statistics) -> Iterator[Finding]:
    """Say how much time could not be divided further, and why."""
    time = s.command_time
    for name, reason in _UNDIVIDED.items():
        of_reads_ns = time.reads_causes_ns.get(name, 0)
        others_ns = time.causes_ns.get(name, 0) - of_reads_ns
        for ns, why in ((others_ns, reason), (of_reads_ns, _READS)):
            if ns > NEGLIGIBLE * time.wall_ns:
                said = f"{duration(ns)} of the command's time counts as {name}"
                yield Finding("note", f"{said}, not divided further.", why)
