"""Which mounts and daemons a run is about: those that its target tasks used.

The kernel side learns which daemon serves which mount while it records, so the spool also holds
what daemons of other mounts did before that was known, and the birth of every mount.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ..probes import events
from .journal import Journal
from .mounts import OPCODE_DESTROY, OPCODE_INIT
from .spool import Spool
from .tasks import with_founders


@dataclass(frozen=True)
class ConcernedSpool(Spool):
    """A spool without what concerns other mounts only.

    ``devices`` are the superblocks that targets used, ``daemons`` the processes that serve them,
    ``others`` daemons that serve none of them.
    """

    devices: frozenset[int]
    daemons: frozenset[int]
    others: frozenset[int]

    def requests(self) -> pl.DataFrame:
        return super().requests().filter(pl.col("dev").is_in(list(self.devices)))

    def served(self) -> pl.DataFrame:
        return self._by_daemons(super().served())

    def calls(self) -> pl.DataFrame:
        return self._by_daemons(super().calls())

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

    def _by_daemons(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.filter(pl.col("pid").is_in(list(self.daemons)))

    def _without_others(self, frame: pl.DataFrame) -> pl.DataFrame:
        return frame.filter(~pl.col("pid").is_in(list(self.others)))


def concerned(spool: Spool, journal: Journal) -> ConcernedSpool:
    """The part of a spool that is about the mounts that the targets used."""
    requests = spool.requests()
    used = requests.filter(~pl.col("opcode").is_in([OPCODE_INIT, OPCODE_DESTROY]))
    devices = frozenset(used["dev"].unique()) | _devices_of_files(spool)
    serving = _daemons(requests.filter(pl.col("dev").is_in(list(devices))), spool, journal)
    daemons = _with_founders(serving, spool)
    return ConcernedSpool(spool.run, devices, daemons, _all_daemons(spool, journal) - daemons)


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
