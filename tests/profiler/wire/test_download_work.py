"""What a download thread did, by the records of its work."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes.events import WORK
from cvmprof.profiler.wire.download_work import divided_work, download_work

WIRE = pl.DataFrame(
    {
        "download_id": [0, 1],
        "pid": [9, 9],
        "fd": [4, 5],
        "sent_ns": [100, 90],
        "handed_ns": [None, 340],
    },
    schema={
        "download_id": pl.Int32,
        "pid": pl.Int32,
        "fd": pl.Int32,
        "sent_ns": pl.Int64,
        "handed_ns": pl.Int64,
    },
)


def piece(fd: int, sent: int, start: int, end: int, turn: int, **more: int) -> dict[str, Any]:
    return {
        "fd": fd,
        "sent_ns": sent,
        "start_ns": start,
        "end_ns": end,
        "round": turn,
        "pid": 9,
        "tid": 8,
        **more,
    }


def test_pieces_are_named_by_process_descriptor_and_request(make_raw: Any) -> None:
    rows = [piece(4, 100, 200, 250, 1), piece(4, 99, 300, 310, 2), piece(5, 90, 400, 410, 3)]
    found = download_work(make_raw(WORK, *rows), WIRE)
    assert found["download_id"].to_list() == [0, None, 1]


def test_every_nanosecond_from_the_request_to_the_handing_over_is_one_things(make_raw: Any) -> None:
    """Both are served in round 1, 1 first; 1 is handed over in the midst of its second piece."""
    rows = [
        piece(5, 90, 200, 230, 1, write_ns=10, late_ns=7),
        piece(4, 100, 235, 260, 1, off_ns=5),
        piece(5, 90, 300, 350, 2, write_ns=3, late_ns=9),
    ]
    divided = divided_work(download_work(make_raw(WORK, *rows), WIRE), WIRE)
    names = ("gap_ns", "queue_ns", "late_ns", "unpack_ns", "write_ns", "off_ns")
    assert divided.select("download_id", "from_ns", "start_ns", "end_ns", *names).rows() == [
        (0, 100, 235, 260, 105, 30, 0, 20, 0, 5),
        (1, 90, 200, 230, 103, 0, 7, 20, 10, 0),
        (1, 230, 300, 340, 61, 0, 9, 37, 3, 0),
    ]
    spent = divided.select(pl.sum_horizontal(names)).to_series()
    assert (spent == divided["end_ns"] - divided["from_ns"]).all()
