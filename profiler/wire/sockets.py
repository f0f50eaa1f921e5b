"""Table `sockets`: samples of the daemons' connections."""

from __future__ import annotations

import polars as pl

from ...probes.events import TCP_STATES
from ..tables import conform


def sockets(samples: pl.DataFrame, sent: pl.DataFrame) -> pl.DataFrame:
    """The samples of connections that carried downloads, matched by the sockets' inode numbers.

    ``samples``: SOCKET_SAMPLE records; ``sent``: socket, connection_id, remote? of
    `downloads.wire_requests`.
    """
    connections = (
        sent.filter(pl.col("socket") != 0)
        .select("socket", "connection_id", "remote")
        .unique("socket", keep="last", maintain_order=True)
    )
    rows = samples.join(connections, on="socket", maintain_order="left")
    names = pl.Series("state", TCP_STATES, dtype=pl.String).gather(rows["state"])
    named = rows.with_columns(names, pl.col("remote").fill_null(""))
    return conform("sockets", named.sort("time_ns", "connection_id"))
