"""Table `sockets`: samples of the daemons' connections."""

from __future__ import annotations

import polars as pl

from ...probes.events import TCP_STATES
from ..tables import conform


def sockets(samples: pl.DataFrame, wire: pl.DataFrame) -> pl.DataFrame:
    """The samples of connections that carried downloads, known by their sockets' inode numbers.

    ``samples``: SOCKET_SAMPLE records; ``wire``: socket, connection_id, remote? of `downloads`.
    """
    known = (
        wire.filter(pl.col("socket") != 0)
        .select("socket", "connection_id", "remote")
        .unique("socket", keep="last", maintain_order=True)
    )
    states = pl.Series(TCP_STATES, dtype=pl.String)
    rows = samples.join(known, on="socket", maintain_order="left").with_columns(
        state=states.gather(samples.join(known, on="socket", maintain_order="left")["state"]),
        remote=pl.col("remote").fill_null(""),
    )
    return conform("sockets", rows.sort("time_ns", "connection_id"))
