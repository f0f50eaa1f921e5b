"""Which mounts and daemons a run is about: those that its target tasks used.

The BPF programs learn which daemon serves which mount only while they record. So the spool also
holds what daemons of other mounts did before that was known, and the start of every mount. Requests
by cvmprof's own helpers are left out, and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from ...probes import events, fuse
from ..run.journal import Journal
from ..run.journal_shapes import MAX_PID
from ..run.spool import Spool
from ..run.text import whole_number
from .operations import known_files
from .tasks import with_founders

_FORK = events.TASK_KINDS.index("fork")
_UNLINK = events.CACHE_SYSCALLS.index("unlink")


@dataclass(frozen=True)
class ScopedSpool(Spool):
    """A spool without the records of mounts that no target used.

    ``devices``: superblocks that targets used. ``daemons``: processes that serve them. ``others``:
    daemons that serve none of them. ``readers``: cvmprof's own helpers. ``readings``: (daemon,
    from, to) of what they read before the command; the BPF programs do not yet record that as
    requests.
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
        """REQUEST records of the helpers."""
        return super().requests().filter(pl.col("pid").is_in(list(self.readers)))

    def served(self) -> pl.DataFrame:
        return self._without_own(self._of_daemons(super().served()))

    def calls(self) -> pl.DataFrame:
        return self._without_own(self._of_daemons(super().calls()))

    def downloads(self) -> pl.DataFrame:
        return self._of_daemons(super().downloads())

    def work(self) -> pl.DataFrame:
        return self._of_daemons(super().work())

    def cache_files(self) -> pl.DataFrame:
        return self._of_daemons(super().cache_files())

    def tasks(self) -> pl.DataFrame:
        return self._without_others(super().tasks())

    def blocked(self) -> pl.DataFrame:
        return self._without_others(super().blocked())

    def cpu_waits(self) -> pl.DataFrame:
        return self._without_others(super().cpu_waits())

    def removals(self) -> pl.DataFrame:
        """CACHE_FILE records of removed files, by any daemon: clients let others remove them."""
        return super().cache_files().filter(pl.col("syscall") == _UNLINK)

    def daemon_parents(self) -> dict[int, int]:
        """The parent of each process that a daemon started, by pid."""
        records = super().tasks()
        forks = records.filter(
            (pl.col("role") == events.ROLE_DAEMON)
            & (pl.col("kind") == _FORK)
            & (pl.col("pid") == pl.col("tid"))
        )
        return dict(forks.select("pid", "parent_pid").iter_rows())

    def _without_own(self, frame: pl.DataFrame) -> pl.DataFrame:
        """``unique`` counts per mount, so the answering daemon is part of the key."""
        own = self.own_requests().select("unique", pid="end_pid")
        time = "start_ns" if "start_ns" in frame.columns else "time_ns"
        before = [
            (pl.col("pid") == pid) & pl.col(time).is_between(begin_ns, end_ns)
            for pid, begin_ns, end_ns in self.readings
        ]
        rest = frame.filter(~pl.any_horizontal(before)) if before else frame
        return rest.join(own, on=["pid", "unique"], how="anti", maintain_order="left")

    def _of_daemons(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.filter(pl.col("pid").is_in(list(self.daemons)))

    def _without_others(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.filter(~pl.col("pid").is_in(list(self.others)))


def scoped(spool: Spool, journal: Journal) -> ScopedSpool:
    """The part of a spool that is about the mounts that the targets used."""
    requests, readers = spool.requests(), _readers(journal)
    used = requests.filter(
        ~pl.col("opcode").is_in([fuse.INIT, fuse.DESTROY]) & ~pl.col("pid").is_in(list(readers))
    )
    devices = frozenset(used["dev"].unique()) | _devices_of_files(spool)
    serving = _daemons(requests.filter(pl.col("dev").is_in(list(devices))), spool, journal)
    daemons = _with_founders(serving, spool)
    others = _all_daemons(spool, journal) - daemons
    return ScopedSpool(spool.run, devices, daemons, others, readers, tuple(_readings(journal)))


def _readings(journal: Journal) -> Iterator[tuple[int, int, int]]:
    for line in journal.of("attributes_before"):
        pid = whole_number(line["attributes"].get("user.pid"), MAX_PID)
        if pid is not None:
            yield pid, int(line["asked_ns"]), int(line["answered_ns"])


def _readers(journal: Journal) -> frozenset[int]:
    return frozenset(int(line["pid"]) for line in journal.of("reader"))


def _devices_of_files(spool: Spool) -> frozenset[int]:
    frames = (known_files(spool.operations()), spool.hits(), spool.touches())
    return frozenset(device for frame in frames for device in frame["dev"].unique())


def _daemons(requests: pl.DataFrame, spool: Spool, journal: Journal) -> frozenset[int]:
    """Processes that ended the requests, took them, or say that they serve the mount."""
    answered = requests.filter(pl.col("end_pid") != 0)["end_pid"].unique()
    unanswered = requests.filter(pl.col("end_pid") == 0).select("unique", "opcode")
    took = spool.served().join(unanswered, on=["unique", "opcode"], how="semi")["pid"].unique()
    texts = (line["attributes"].get("user.pid") for line in journal.of("attributes"))
    named = (whole_number(text, MAX_PID) for text in texts)
    return frozenset([*answered, *took, *(pid for pid in named if pid is not None)])


def _with_founders(serving: frozenset[int], spool: Spool) -> frozenset[int]:
    schema = {"pid": pl.Int32, "mount_id": pl.Int32}
    daemons = pl.DataFrame([(pid, 0) for pid in serving], schema=schema, orient="row")
    return frozenset(with_founders(daemons, spool.tasks())["pid"])


def _all_daemons(spool: Spool, journal: Journal) -> frozenset[int]:
    recorded = spool.tasks().filter(pl.col("role") == events.ROLE_DAEMON)["pid"].unique()
    return frozenset(recorded) | {int(line["pid"]) for line in journal.of("daemon")}
