"""Which mounts and daemons a run is about: those that its target tasks used.

The kernel side learns which daemon serves which mount while it records, so the spool also holds
what daemons of other mounts did before that was known, and the birth of every mount. What cvmprof's
own helpers asked of a mount is left out, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from ...probes import events
from ..run.journal import Journal
from ..run.spool import Spool
from .mounts import OPCODE_DESTROY, OPCODE_INIT
from .tasks import with_founders

_FORK = events.TASK_KINDS.index("fork")
_UNLINK = events.CACHE_SYSCALLS.index("unlink")


@dataclass(frozen=True)
class ConcernedSpool(Spool):
    """A spool without what concerns other mounts only.

    ``devices`` are the superblocks that targets used, ``daemons`` the processes that serve them,
    ``others`` daemons that serve none of them, ``readers`` helpers of cvmprof's own, and
    ``readings`` when (daemon, from, to) they asked before the command, which the kernel side does
    not record as requests yet.
    """

    devices: frozenset[int]
    daemons: frozenset[int]
    others: frozenset[int]
    readers: frozenset[int] = frozenset()
    readings: tuple[tuple[int, int, int], ...] = ()

    def requests(self) -> pl.DataFrame:
        used = super().requests().filter(pl.col("dev").is_in(list(self.devices)))
        return used.filter(~pl.col("pid").is_in(list(self.readers)))

    def own_requests(self) -> pl.DataFrame:
        """REQUEST records of what the helpers asked for."""
        return super().requests().filter(pl.col("pid").is_in(list(self.readers)))

    def served(self) -> pl.DataFrame:
        return self._not_own(self._by_daemons(super().served()))

    def calls(self) -> pl.DataFrame:
        return self._not_own(self._by_daemons(super().calls()))

    def downloads(self) -> pl.DataFrame:
        return self._by_daemons(super().downloads())

    def work(self) -> pl.DataFrame:
        return self._by_daemons(super().work())

    def cache_files(self) -> pl.DataFrame:
        return self._by_daemons(super().cache_files())

    def tasks(self) -> pl.DataFrame:
        return self._without_others(super().tasks())

    def blocked(self) -> pl.DataFrame:
        return self._without_others(super().blocked())

    def removals(self) -> pl.DataFrame:
        """CACHE_FILE records of any daemon that took a file away: a client lets others do that."""
        return super().cache_files().filter(pl.col("syscall") == _UNLINK)

    def families(self) -> dict[int, int]:
        """The parents of processes that daemons started, by pid."""
        born = (
            super()
            .tasks()
            .filter(
                (pl.col("role") == events.ROLE_DAEMON)
                & (pl.col("kind") == _FORK)
                & (pl.col("pid") == pl.col("tid"))
            )
        )
        return dict(born.select("pid", "parent_pid").iter_rows())

    def _not_own(self, frame: pl.DataFrame) -> pl.DataFrame:
        """``unique`` is told apart by who answered: it is counted per mount."""
        own = self.own_requests().select("unique", pid="end_pid")
        time = "start_ns" if "start_ns" in frame.columns else "time_ns"
        before = [
            (pl.col("pid") == pid) & pl.col(time).is_between(begin_ns, end_ns)
            for pid, begin_ns, end_ns in self.readings
        ]
        rest = frame.filter(~pl.any_horizontal(before)) if before else frame
        return rest.join(own, on=["pid", "unique"], how="anti", maintain_order="left")

    def _by_daemons(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.filter(pl.col("pid").is_in(list(self.daemons)))

    def _without_others(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.filter(~pl.col("pid").is_in(list(self.others)))


def concerned(spool: Spool, journal: Journal) -> ConcernedSpool:
    """The part of a spool that is about the mounts that the targets used."""
    requests = spool.requests()
    used = requests.filter(
        ~pl.col("opcode").is_in([OPCODE_INIT, OPCODE_DESTROY])
        & ~pl.col("pid").is_in(list(_readers(journal)))
    )
    devices = frozenset(used["dev"].unique()) | _devices_of_files(spool)
    serving = _daemons(requests.filter(pl.col("dev").is_in(list(devices))), spool, journal)
    daemons = _with_founders(serving, spool)
    others = _all_daemons(spool, journal) - daemons
    readers, readings = _readers(journal), tuple(_readings(journal))
    return ConcernedSpool(spool.run, devices, daemons, others, readers, readings)


def _readings(journal: Journal) -> Iterator[tuple[int, int, int]]:
    for line in journal.of("attributes_before"):
        pid = str(line["attributes"].get("user.pid", ""))
        if pid.isdigit():
            yield int(pid), int(line["asked_ns"]), int(line["answered_ns"])


def _readers(journal: Journal) -> frozenset[int]:
    return frozenset(int(line["pid"]) for line in journal.of("reader"))


def _devices_of_files(spool: Spool) -> frozenset[int]:
    known = spool.operations().filter((pl.col("flags") & events.OPERATION_KNOWN_FILE) != 0)
    frames = (known, spool.hits(), spool.touches())
    return frozenset(device for frame in frames for device in frame["dev"].unique())


def _daemons(requests: pl.DataFrame, spool: Spool, journal: Journal) -> frozenset[int]:
    """Who ended the requests, took them, or says that it serves their mount."""
    answered = requests.filter(pl.col("end_pid") != 0)["end_pid"].unique()
    open_ones = requests.filter(pl.col("end_pid") == 0).select("unique", "opcode")
    took = spool.served().join(open_ones, on=["unique", "opcode"], how="semi")["pid"].unique()
    said = (line["attributes"].get("user.pid", "") for line in journal.of("attributes"))
    return frozenset(answered) | frozenset(took) | {int(pid) for pid in said if pid.isdigit()}


def _with_founders(serving: frozenset[int], spool: Spool) -> frozenset[int]:
    schema = {"pid": pl.Int32, "mount_id": pl.Int32}
    known = pl.DataFrame([(pid, 0) for pid in serving], schema=schema, orient="row")
    return frozenset(with_founders(known, spool.tasks())["pid"])


def _all_daemons(spool: Spool, journal: Journal) -> frozenset[int]:
    heard = spool.tasks().filter(pl.col("role") == events.ROLE_DAEMON)["pid"].unique()
    return frozenset(heard) | {int(line["pid"]) for line in journal.of("daemon")}
