"""Samples of sockets whose numbers were given again."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes.events import SOCKET_SAMPLE
from cvmprof.profiler.wire.sockets import sockets
from cvmprof.tests.profiler.rows import frame

SENT = {"socket": pl.UInt64, "connection_id": pl.Int32, "remote": pl.String}


def test_a_sample_belongs_to_the_last_connection_of_its_socket(make_raw: Any) -> None:
    """Once; in order of time, then of connections; socket 0 is none."""
    sent = frame(SENT, (7, 1, "a:80"), (7, 0, None), (8, 2, "b:80"), (0, 3, "c:80"))
    times = ((30, 7), (20, 8), (20, 7), (10, 0), (11, 9))
    raw = make_raw(SOCKET_SAMPLE, *({"time_ns": at, "socket": on, "state": 1} for at, on in times))
    assert sockets(raw, sent).select("time_ns", "connection_id", "remote").rows() == [
        (20, 0, ""), (20, 2, "b:80"), (30, 0, ""),
    ]  # fmt: skip
    assert sockets(raw.with_columns(state=pl.Series([0, 1, 2, 3, 4], dtype=raw["state"].dtype)),
                   sent)["state"].to_list() == ["syn_sent", "established", "none"]  # fmt: skip
