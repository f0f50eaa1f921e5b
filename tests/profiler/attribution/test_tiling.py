"""The tiling of a whole run: which requests are divided, for which mounts, and the waits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl
import pytest

from cvmprof.profiler.attribution.tiling import tiling, waits_once
from cvmprof.profiler.client.side import client_side
from cvmprof.profiler.device.side import DeviceSide
from cvmprof.profiler.kernel.side import file_accesses, kernel_side
from cvmprof.profiler.run.spool import Spool
from cvmprof.profiler.sides import Sides
from cvmprof.profiler.wire.side import wire_side

from ..rows import rows

if TYPE_CHECKING:
    from cvmprof.tests.profiler.conftest import SpoolWriter


@pytest.fixture
def spool(cold_read: SpoolWriter) -> Spool:
    return Spool(cold_read.run)


@pytest.fixture
def sides(spool: Spool) -> Sides:
    """The cold read, as if nothing had been fetched for it."""
    journal = spool.journal()
    kernel = kernel_side(spool, journal, file_accesses(spool, journal)[0])
    client = client_side(spool, journal, kernel)
    none = rows("fetches", queued_ns=pl.Int64, returned_ns=pl.Int64)
    return Sides(
        kernel, replace(client, fetches=none), wire_side(spool, kernel, client), DeviceSide()
    )


def spent(spool: Spool, sides: Sides, tid: int) -> dict[str, int]:
    """What the time of a thread was spent on."""
    parts = [frame for name, frame in tiling(spool, sides) if name == "segments"]
    length = pl.col("end_ns") - pl.col("start_ns")
    sums = pl.concat(parts).filter(tid=tid).group_by("cause").agg(length.sum())
    return dict(sums.rows())


def test_of_two_requests_with_one_number_the_last(spool: Spool, sides: Sides) -> None:
    """An earlier one had ended before: its reply would be the whole sleep."""
    earlier = sides.kernel.requests.filter(unique=4).with_columns(
        queued_ns=pl.lit(100, pl.Int64),
        served_ns=pl.lit(110, pl.Int64),
        end_ns=pl.lit(120, pl.Int64),
    )
    both = pl.concat([earlier, sides.kernel.requests])
    doubled = replace(sides, kernel=replace(sides.kernel, requests=both))
    found = spent(spool, doubled, 101)
    assert found["reply"] == 150
    assert sum(found.values()) == 18900


ACTIONS = ("calls", "lookups", "wire")


@pytest.mark.parametrize("source", ["attributes", *ACTIONS, None])
def test_a_mount_is_a_clients_by_its_version_or_by_what_it_does(
    spool: Spool, sides: Sides, source: str | None
) -> None:
    kernel, client, wire = sides.kernel, sides.client, sides.wire
    unversioned = kernel.attributes.with_columns(client_version=pl.lit(None, pl.String))
    only = Sides(
        kernel if source == "attributes" else replace(kernel, attributes=unversioned),
        replace(
            client,
            calls=client.calls if source == "calls" else client.calls.clear(),
            lookups=client.lookups if source == "lookups" else client.lookups.clear(),
        ),
        replace(wire, requests=wire.requests if source == "wire" else wire.requests.clear()),
        DeviceSide(),
    )
    assert ("daemon" in spent(spool, only, 100)) == (source is None)


def test_a_wait_that_several_parts_hold_is_one_and_ties_are_in_order() -> None:
    wait = {"op_id": 1, "start_ns": 10, "end_ns": 20}
    first = rows("waits", {**wait, "mount_id": 1, "unique": 2}, {**wait, "unique": 6})
    second = rows("waits", {**wait, "unique": 6}, {**wait, "unique": 4}, {**wait, "op_id": 0})
    found = waits_once([first, second]).select("op_id", "mount_id", "unique")
    assert found.rows() == [(0, 0, 0), (1, 0, 4), (1, 0, 6), (1, 1, 2)]
