"""What limits trust in the numbers."""

from __future__ import annotations

from collections.abc import Iterator

from ...probes.diagnosis import lost
from ..escape import visible
from ..numbers.statistics import Statistics
from ..numbers.survivors import Survivor, Survivors
from ..words import capital, cause, duration, percent, plural
from .finding import NEGLIGIBLE, Finding

#: processes that a finding names
_MOST_NAMED = 3
#: characters of a command line that name a process
_COMMAND = 60


def incomplete(s: Statistics) -> Iterator[Finding]:
    """Say that recording stopped before the command ended."""
    if not s.outcome.complete:
        yield Finding(
            "warning",
            "This run is incomplete: recording stopped before the command ended.",
            "What was recorded up to then is shown; the last second may be missing.",
        )


def lived_on(s: Statistics) -> Iterator[Finding]:
    """Name the processes that lived on when recording ended, and the option that follows them."""
    alive = s.survivors
    number = len(alive.processes)
    if not number:
        return
    headline = f"{plural(number, 'process', 'processes')} of the command lived on when recording "
    headline += "ended."
    if alive.command_did:
        headline = f"Recording ended after {duration(s.duration_ns)}, before the command did."
    named = [_last_seen(process) for process in alive.processes[:_MOST_NAMED]]
    if number > _MOST_NAMED:
        named.append(f"and {plural(number - _MOST_NAMED, 'more process', 'more processes')}")
    they = "it" if number == 1 else "they"
    later = f"What {they} did later is not in this run."
    yield Finding("warning", headline, f"{'; '.join(named)}. {later} {_to_the_end(alive)}")


def _to_the_end(alive: Survivors) -> str:
    """Say what would have recorded them to their end."""
    them, their = ("it", "its") if len(alive.processes) == 1 else ("them", "their")
    if alive.command_did:
        return f"A longer --duration, or none, records {them} to {their} end."
    if alive.until == "all":
        return f"The waiting for {them} was ended before."
    return f"--until all records {them} to {their} end."


def _last_seen(process: Survivor) -> str:
    """Name a process and what it was doing, in words before the cause's name."""
    command = visible(" ".join(process.argv) or process.name, _COMMAND)
    name = f"{command} (pid {process.pid})"
    if process.cause is None:
        return name
    return f"{name}, last seen {cause(process.cause)}"


def lost_events(s: Statistics) -> Iterator[Finding]:
    """Say how many events were lost."""
    if s.lost:
        worst = max(s.losses, key=lambda loss: int(loss["count"]))
        yield Finding(
            "warning",
            f"{plural(s.lost, 'event was', 'events were')} lost.",
            f"Most of them by {worst['probe']} ({worst['cause']}). Counts below are too low by "
            "that many, and time that those events would have explained may count as unknown.",
        )


def died(s: Statistics) -> Iterator[Finding]:
    """Name the processes that crashed, hung or ended."""
    for incident in s.incidents:
        if incident["kind"] in {"crash", "hang", "exit"}:
            after = duration(incident["time_ns"] - s.start_ns)
            who = "A task" if incident["pid"] is None else f"Process {incident['pid']}"
            word = {"crash": "died", "hang": "hung", "exit": "ended"}[incident["kind"]]
            signal = "" if incident["signal"] is None else f" of signal {incident['signal']}"
            headline = f"{who} {word}{signal}, {after} after the start."
            yield Finding("warning", headline, str(incident["detail"]))


def client_stopped(s: Statistics) -> Iterator[Finding]:
    """Say when clients were stopped: what waited then did not wait for a server."""
    for incident in s.incidents:
        if incident["kind"] == "stop":
            after = duration(incident["time_ns"] - s.start_ns)
            yield Finding(
                "warning",
                f"A client was stopped {after} after the start.",
                f"{capital(str(incident['detail']))}, by a signal, a tracer or its cgroup's "
                "freezer. What waited for it meanwhile counts as the client being stopped "
                "(stopped): it tells nothing of the server or the network.",
            )


def unasked(s: Statistics) -> Iterator[Finding]:
    """Say why the chunks of some files are not known."""
    for incident in s.incidents:
        if incident["kind"] == "unasked":
            yield Finding(
                "note", "The chunks of some files are not known.", f"{incident['detail']}."
            )


def unnamed(s: Statistics) -> Iterator[Finding]:
    """Say why some tensors are not known."""
    details = [str(each["detail"]) for each in s.incidents if each["kind"] == "unnamed"]
    if details:
        further = f"; {len(details) - 3:,} more are among the incidents" if len(details) > 3 else ""
        meaning = f"{'; '.join(details[:3])}{further}."
        yield Finding("note", "Not every tensor of the models is known.", meaning)


def unfinished(s: Statistics) -> Iterator[Finding]:
    """Name the operations that never ended."""
    if s.unfinished:
        number = plural(len(s.unfinished), "file operation was", "file operations were")
        headline = f"{number} still in progress when the thread or recording ended."
        yield Finding("warning", headline, "; ".join(s.unfinished[:3]) + ".")


def command_failed(s: Statistics) -> Iterator[Finding]:
    """Say how the command failed."""
    if s.outcome.signal:
        yield Finding("warning", f"The command was killed by signal {s.outcome.signal}.")
    elif s.outcome.exit_code:
        yield Finding("warning", f"The command failed with exit code {s.outcome.exit_code}.")


def unreconciled(s: Statistics) -> Iterator[Finding]:
    """Say where the run differs from what the client counted."""
    for row in s.reconciliation:
        if row["difference"]:
            what = _QUANTITIES[str(row["quantity"])]
            more = "more" if row["difference"] > 0 else "fewer"
            remark = f" {capital(str(row['remark']))}." if row["remark"] else ""
            yield Finding(
                "warning",
                f"This run has {abs(row['difference']):,} {more} {what} than the client counted.",
                f"The client counted {row['counted']:,}, this run has {row['recorded']:,}.{remark}",
            )


_QUANTITIES = {
    "objects": "objects handed to the downloader", "body_bytes": "bytes received",
    "chunks": "chunks downloaded",
}  # fmt: skip


def unexplained(s: Statistics) -> Iterator[Finding]:
    """Say how much of the command's wall time is unknown."""
    time = s.command_time
    unknown_ns = time.causes_ns.get("unknown", 0)
    if unknown_ns > NEGLIGIBLE * time.wall_ns:
        share = percent(unknown_ns / time.wall_ns)
        yield Finding(
            "warning",
            f"{duration(unknown_ns)} of the command's time ({share}) could not be explained.",
            "That time counts as unknown. The list of probes at the end of the page says what "
            "was not observed.",
        )


#: what a run has where an event that was not observed would have mattered to it
_MATTERS = {
    "asynchronous read": "fuse_reads_of_no_operation",
    "page-cache insertion": "fuse_reads",
    "fault-around": "operations_fault",
}


def unobserved(s: Statistics) -> Iterator[Finding]:
    """Name the kinds of event that could not be observed and would have mattered to this run, and
    what it lacks without them.
    """
    observed = {probe["event"] for probe in s.probes if probe["family"] not in {"none", ""}}
    missing = [each for each in s.probes if each["event"] not in observed and each["reason"]]
    mattering = [each for each in missing if _matters(s, str(each["event"]))]
    reasons = {str(probe["event"]): str(probe["reason"]) for probe in mattering[::-1]}
    if reasons:
        missing_events = " ".join(_missing(event, why) for event, why in reasons.items())
        yield Finding(
            "note",
            f"{plural(len(reasons), 'kind of event', 'kinds of event')} could not be "
            "observed here.",
            f"{missing_events} cvmprof doctor says how to get them.",
        )


def _matters(s: Statistics, event: str) -> bool:
    return event not in _MATTERS or s.counts.get(_MATTERS[event], 0) > 0


def unwatched_launches(s: Statistics) -> Iterator[Finding]:
    """Say that launches of the GPU were watched for a part of the time only."""
    for probe in s.probes:
        if probe["event"] == "GPU launch" and probe["family"] != "none" and probe["reason"]:
            yield Finding(
                "note",
                "Not all launches of the GPU are counted.",
                f"{capital(str(probe['reason']))}. Copies, waits and loads are all recorded. "
                "--gpu-budget allows more.",
            )
            return


def _missing(event: str, reason: str) -> str:
    effect = lost(event)
    return f"{event}: {reason}" + (f"; so {effect}." if effect else ".")
