"""What made downloads slow: the server, the network path to it, or the daemon that reads.

Taken from the downloads of chunks and files on connections that were sampled, without the time in
which the client was stopped; what was given up or had not ended counts in `waits`. The round trip
is the shortest one measured on a connection. The smoothed one includes the time that the server
takes to answer, since the answer is what acknowledges the request.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ...profiler.attribution.delays import stopped_clients
from ...profiler.intervals import latest_begun
from ..material import IS_FILE_DATA, Frames
from .running import download_times

#: what a client reads from a socket at once; with fewer bytes unread it is just reading
READ_BYTES = 16 << 10


@dataclass(frozen=True)
class Network:
    """Sums over the downloads of chunks and files on sampled connections.

    ``round_trip_ns`` is the median of the connections' shortest, None where none was measured.
    ``travel_ns`` is one round trip per request, ``answer_ns`` the rest of the time to the first
    byte. ``transfer_samples`` were taken during transfers; in ``unread_samples`` of them more than
    ``READ_BYTES`` waited to be read by the daemon, ``unread_bytes`` in the median. ``segments``
    with data arrived on these connections while they were sampled, ``disordered`` of them out of
    order; ``retransmits`` is how many segments this end sent again: these three are the mount's,
    since whoever uses it shares its connections. ``failed_connections`` carried no
    request; ``failed_ns`` is the time from each to the next attempt, else to its end;
    ``failed_to``: their remote addresses.
    """

    downloads: int
    round_trip_ns: int | None
    answer_ns: int
    travel_ns: int
    transfer_ns: int
    transfer_samples: int
    unread_samples: int
    unread_bytes: int
    segments: int
    disordered: int
    retransmits: int
    failed_connections: int
    failed_ns: int
    failed_to: tuple[str, ...]

    @property
    def total_ns(self) -> int:
        """Time from the requests to the last bytes."""
        return self.answer_ns + self.travel_ns + self.transfer_ns


def network(frames: Frames) -> Network:
    """Return what the samples of connections say about the downloads."""
    samples, failed = frames["sockets"], _failed(frames["downloads"])
    shortest = (
        samples.filter(pl.col("min_rtt_us") > 0)
        .group_by("connection_id")
        .agg(round_trip_ns=pl.col("min_rtt_us").min() * 1000)
    )
    downloads = _data(frames).join(shortest, on="connection_id", how="inner")
    waited = pl.col("to_first_byte_ns")
    travel = pl.min_horizontal(waited, "round_trip_ns")
    sums = downloads.select(
        travel=travel.sum(),
        answer=(waited - travel).sum(),
        transfer=pl.col("in_transfer_ns").sum(),
        round_trip=pl.col("round_trip_ns").median(),
    ).row(0, named=True)
    during = _during_transfers(samples, downloads, stopped_clients(frames))
    unread = during.filter(pl.col("unread_bytes") > READ_BYTES)["unread_bytes"]
    counted = _counted(samples.join(downloads, on="connection_id", how="semi"))
    return Network(
        downloads=downloads.height,
        round_trip_ns=None if sums["round_trip"] is None else round(sums["round_trip"]),
        answer_ns=int(sums["answer"]),
        travel_ns=int(sums["travel"]),
        transfer_ns=int(sums["transfer"]),
        transfer_samples=during.height,
        unread_samples=unread.len(),
        unread_bytes=round(float(str(unread.median() or 0))),
        segments=counted["segments_received"],
        disordered=counted["out_of_order"],
        retransmits=counted["retransmits"],
        failed_connections=failed.height,
        failed_ns=int(failed["cost_ns"].sum()),
        failed_to=tuple(failed["remote"].drop_nulls().unique(maintain_order=True)),
    )


def _data(frames: Frames) -> pl.DataFrame:
    """The downloads of chunks and files of which all times are known, with `download_times`. Not
    the first one of an HTTPS connection: its first bytes may be those of the handshake.
    """
    arrived = frames["fetches"].filter(IS_FILE_DATA & (pl.col("outcome") == "downloaded"))
    of_files = arrived["download_id"].drop_nulls().unique()
    complete = pl.all_horizontal(pl.col("sent_ns", "first_byte_ns", "last_byte_ns").is_not_null())
    clear = pl.col("reused") | ~pl.col("encrypted")
    with_data = pl.col("download_id").is_in(of_files.implode())
    return download_times(frames).filter(with_data & complete & clear)


def _failed(downloads: pl.DataFrame) -> pl.DataFrame:
    """The connections that carried no request, with ``cost_ns``."""
    begun = downloads.sort("download_id").with_columns(
        began_ns=pl.coalesce("sent_ns", "connect_ns", "closed_ns")
    )
    following = pl.col("attempt").shift(-1) == pl.col("attempt") + 1
    again_ns = pl.when(following).then(pl.col("began_ns").shift(-1)).over("object_hash")
    failed = pl.col("sent_ns").is_null() & pl.col("closed_ns").is_not_null()
    given_up_ns = pl.coalesce(again_ns, "closed_ns")
    return begun.with_columns(cost_ns=given_up_ns - pl.col("began_ns")).filter(failed)


def _during_transfers(
    samples: pl.DataFrame, downloads: pl.DataFrame, stopped: pl.DataFrame
) -> pl.DataFrame:
    """The samples that were taken during a transfer on their connection, its client running.

    ``stopped``: see `stopped_clients`.
    """
    transfers = downloads.select("connection_id", "mount_id", "first_byte_ns", "last_byte_ns")
    latest = latest_begun(
        samples, transfers, at="time_ns", begin="first_byte_ns", by="connection_id"
    )
    taken = latest.filter(pl.col("time_ns") <= pl.col("last_byte_ns"))
    seen = latest_begun(taken, stopped, at="time_ns", begin="start_ns", by="mount_id")
    return seen.filter((pl.col("end_ns") <= pl.col("time_ns")).fill_null(value=True))


def _counted(samples: pl.DataFrame) -> dict[str, int]:
    """How much the counters of the connections grew while they were sampled."""
    names = ("segments_received", "out_of_order", "retransmits")
    grown = samples.group_by("connection_id").agg(
        pl.col(name).max() - pl.col(name).min() for name in names
    )
    return {name: int(grown[name].sum()) for name in names}
