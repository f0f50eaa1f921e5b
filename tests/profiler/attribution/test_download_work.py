"""What a download thread did, by the records of its work."""

from __future__ import annotations

from typing import Any

import polars as pl

from cvmprof.probes.events import WORK
from cvmprof.profiler.attribution.download_work import divided_work, work_marks
from cvmprof.profiler.wire.downloads import download_work
from cvmprof.tests.profiler.rows import frame

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


def test_work_on_others_without_a_cpu_is_want_of_cpu_and_not_a_queue(make_raw: Any) -> None:
    rows = [
        piece(5, 90, 200, 230, 1, off_ns=12),
        piece(4, 100, 235, 260, 1, late_ns=2),
    ]
    divided = divided_work(download_work(make_raw(WORK, *rows), WIRE), WIRE)
    assert divided.select("download_id", "gap_ns", "queue_ns", "late_ns").rows() == [
        (0, 103, 18, 14), (1, 110, 0, 0),
    ]  # fmt: skip


NAMES = ("gap_ns", "queue_ns", "late_ns", "unpack_ns", "write_ns", "off_ns")


def test_work_finds_its_download_once_and_is_in_order(make_raw: Any) -> None:
    """By process, descriptor and request; a connection may fail where another is made."""
    doubled = pl.concat([WIRE, WIRE.with_columns(pid=pl.lit(8, pl.Int32))] * 2)
    rows = [piece(4, 100, 300, 350, 1), piece(4, 100, 200, 250, 1), piece(5, 100, 100, 150, 1)]
    found = download_work(make_raw(WORK, *rows), doubled.sort("pid", descending=True))
    assert found.select("start_ns", "download_id").rows() == [(100, None), (200, 0), (300, 0)]


def divided(make_raw: Any, *pieces: dict[str, Any]) -> list[tuple[int, ...]]:
    found = divided_work(download_work(make_raw(WORK, *pieces), WIRE), WIRE)
    return found.select("download_id", "from_ns", "start_ns", "end_ns", *NAMES).rows()


def test_no_part_is_longer_than_the_whole(make_raw: Any) -> None:
    """Delays not longer than the gap, writing and preemption not longer than the piece."""
    assert divided(make_raw, piece(4, 100, 110, 130, 1, late_ns=99, write_ns=99, off_ns=99)) == [
        (0, 100, 110, 130, 0, 0, 10, 0, 20, 0)
    ]
    assert divided(make_raw, piece(4, 100, 110, 130, 1, late_ns=3, write_ns=15, off_ns=9)) == [
        (0, 100, 110, 130, 7, 0, 3, 0, 15, 5)
    ]


def test_a_piece_of_no_download_is_left_out_but_holds_up_others(make_raw: Any) -> None:
    other = piece(6, 1, 90, 105, 1)
    late = piece(4, 100, 110, 120, 1, late_ns=99)
    assert divided(make_raw, late, other) == [(0, 100, 110, 120, 0, 5, 5, 10, 0, 0)]


def test_only_pieces_of_the_same_round_of_the_thread_that_began_before_hold_up(
    make_raw: Any,
) -> None:
    own = piece(4, 100, 150, 160, 2)
    for other, queue in (
        (piece(6, 1, 120, 130, 2), 10),
        (piece(6, 1, 140, 170, 2), 10),
        (piece(6, 1, 150, 170, 2), 0),
        (piece(6, 1, 80, 90, 2), 0),
        (piece(6, 1, 120, 130, 1), 0),
        (piece(6, 1, 120, 130, 2, tid=7), 0),
        (piece(6, 1, 120, 130, 2, pid=7), 0),
    ):
        assert divided(make_raw, own, other) == [
            (0, 100, 150, 160, 50 - queue, queue, 0, 10, 0, 0)
        ], other


def test_what_comes_after_the_hand_over_is_not_of_the_download(make_raw: Any) -> None:
    """Handed over at 340, in the midst of the first piece and before the second."""
    late = [piece(5, 90, 350, 360, 2, write_ns=5), piece(5, 90, 330, 345, 1)]
    assert divided(make_raw, *late) == [
        (1, 90, 330, 340, 240, 0, 0, 10, 0, 0),
        (1, 340, 350, 350, 10, 0, 0, 0, 0, 0),
    ]


def test_work_that_began_before_its_request_was_seen_sent(make_raw: Any) -> None:
    assert divided(make_raw, piece(4, 100, 95, 120, 1)) == [(0, 95, 95, 120, 0, 0, 0, 25, 0, 0)]


MS = 1_000_000
DIVIDED = dict.fromkeys(("from_ns", "start_ns", "end_ns", *NAMES), pl.Int64)


def marked(*pieces: tuple[int, ...]) -> list[tuple[Any, ...]]:
    """Marks of pieces: download_id, from, start, end, gap, queue, late, unpack, write, off."""
    return work_marks(frame({"download_id": pl.Int32, **DIVIDED}, *pieces)).rows()


def test_of_the_first_piece_the_delay_ends_where_it_begins() -> None:
    """And the gap before it is not marked."""
    assert marked((0, 0, 100, 150, 60, 30, 10, 25, 20, 5)) == [
        (0, 60, "fetch_queue", 1),
        (0, 90, "runqueue", 2),
        (0, 100, "decompress", 3),
        (0, 125, "cache_write", 4),
        (0, 145, "runqueue", 5),
    ]


def test_pieces_within_a_millisecond_are_one_block_of_sums() -> None:
    """Counted from the first piece to the end of each; in order, whatever that of the rows."""
    first = 5 * MS
    second = (0, first + 10, first + 20, first + MS - 1, 6, 3, 1, MS - 100, 79, 0)
    third = (0, first + MS - 1, first + MS - 1, first + MS, 0, 0, 0, 0, 0, 1)
    other = (1, 0, first, first + 9, 0, 0, 0, 9, 0, 0)
    assert marked(third, other, second, (0, 0, first, first + 10, 7, 0, 0, 8, 2, 0)) == [
        (0, first, "transfer", 0),
        (0, first + 6, "fetch_queue", 1),
        (0, first + 9, "runqueue", 2),
        (0, first + 10, "decompress", 3),
        (0, first + MS - 82, "cache_write", 4),
        (0, first + MS - 1, "runqueue", 5),
        (1, first, "decompress", 3),
    ]
