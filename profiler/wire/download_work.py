"""What download threads did with what they received: unpacking, verifying, writing, other objects.

One thread of a client serves all its connections: it receives a piece of an answer, unpacks,
verifies and writes it, and turns to the next socket. So every nanosecond of it is one object's.
"""

from __future__ import annotations

import polars as pl

#: pieces within this time of each other are told as one, each cause summed
BLOCK_NS = 1_000_000

#: parts of a block, in the order in which they are told
_PARTS = (
    ("gap_ns", "transfer"),
    ("queue_ns", "fetch_queue"),
    ("late_ns", "runqueue"),
    ("unpack_ns", "decompress"),
    ("write_ns", "cache_write"),
    ("off_ns", "runqueue"),
)
_BEFORE_PIECE = ("gap_ns", "queue_ns", "late_ns")
_OF_PIECE = ("unpack_ns", "write_ns", "off_ns")


def download_work(records: pl.DataFrame, wire: pl.DataFrame) -> pl.DataFrame:
    """Name the downloads of WORK records; ``wire``: see `downloads.wire_requests`.

    Returns download_id?, pid, tid, round, start_ns, end_ns, late_ns, write_ns, off_ns, by time.
    """
    names = wire.select("download_id", "pid", "fd", "sent_ns").unique(["pid", "fd", "sent_ns"])
    joined = records.join(names, on=["pid", "fd", "sent_ns"], how="left", maintain_order="left")
    return joined.select(
        "download_id", "pid", "tid", "round", "start_ns", "end_ns", "late_ns", "write_ns", "off_ns"
    ).sort("start_ns")


def divided_work(work: pl.DataFrame, wire: pl.DataFrame) -> pl.DataFrame:
    """Divide the time from each download's first byte to the end of its last piece.

    ``work``: see `download_work`; ``wire``: download_id, sent_ns, handed_ns? (when the result was
    handed to who waits for it: nothing later is the download's). Returns download_id, from_ns,
    start_ns, end_ns, gap_ns, queue_ns, late_ns, unpack_ns, write_ns, off_ns, one row per piece:
    between ``from_ns``, when the piece before it was done, and ``start_ns``, the thread waited for
    the network (``gap_ns``), served others (``queue_ns``) or waited for a CPU (``late_ns``).

    Others can hold a piece up only in the round in which it is received: when the thread looked at
    its sockets before that, there was nothing to receive.
    """
    known = (
        work.drop_nulls("download_id")
        .with_row_index("piece")
        .join(wire.select("download_id", "sent_ns", "handed_ns"), on="download_id")
    )
    until = pl.coalesce("handed_ns", "end_ns")
    ended = pl.max_horizontal("start_ns", pl.min_horizontal("end_ns", until))
    own = known.with_columns(end_ns=ended).sort("download_id", "start_ns")
    before = pl.coalesce(pl.col("end_ns").shift(1).over("download_id"), "sent_ns")
    placed = own.with_columns(from_ns=pl.min_horizontal(before, "start_ns"))
    queued = placed.join(_held_up(placed, work), on="piece", how="left", maintain_order="left")
    gap, length = pl.col("start_ns") - pl.col("from_ns"), pl.col("end_ns") - pl.col("start_ns")
    queue = pl.min_horizontal(pl.col("queue_ns").fill_null(0), gap)
    late = pl.min_horizontal("late_ns", gap - queue)
    write = pl.min_horizontal(pl.max_horizontal("write_ns", 0), length)
    off = pl.min_horizontal("off_ns", length - write)
    return queued.select(
        "download_id",
        "from_ns",
        "start_ns",
        "end_ns",
        gap_ns=gap - queue - late,
        queue_ns=queue,
        late_ns=late,
        unpack_ns=length - write - off,
        write_ns=write,
        off_ns=off,
    )


def _held_up(pieces: pl.DataFrame, work: pl.DataFrame) -> pl.DataFrame:
    """Time that the thread gave to others in a piece's round before it: piece, queue_ns."""
    turn = ["pid", "tid", "round"]
    shared = work.filter(pl.len().over(turn) > 1)
    met = (
        pieces.select("piece", *turn, "from_ns", "start_ns")
        .join(shared.select(*turn, other_start="start_ns", other_end="end_ns"), on=turn)
        .filter(pl.col("other_start") < pl.col("start_ns"))
    )
    low = pl.max_horizontal("other_start", "from_ns")
    high = pl.min_horizontal("other_end", "start_ns")
    return met.group_by("piece").agg(queue_ns=(high - low).clip(0).sum())


def work_marks(divided: pl.DataFrame) -> pl.DataFrame:
    """Where the parts of downloads begin: download_id, at, cause, part, by time.

    ``divided``: see `divided_work`. Pieces of one millisecond are one block, in which each cause
    has its sum, in the order of the work; of the time before the first piece only its end is told
    here, what held it up.
    """
    first = pl.col("start_ns").min().over("download_id")
    is_first = pl.col("start_ns") == first
    held = pl.col("start_ns") - pl.col("queue_ns") - pl.col("late_ns")
    before = divided.filter(is_first).with_columns(from_ns=held, gap_ns=pl.lit(0, pl.Int64))
    before = before.with_columns(pl.lit(0, pl.Int64).alias(name) for name in _OF_PIECE)
    later = divided.with_columns(
        pl.when(is_first).then("start_ns").otherwise("from_ns").alias("from_ns"),
        *(pl.when(is_first).then(0).otherwise(name).alias(name) for name in _BEFORE_PIECE),
        block=(pl.col("end_ns") - first) // BLOCK_NS,
    )
    names = [name for name, _ in _PARTS]
    blocks = (
        later.sort("download_id", "start_ns")
        .group_by("download_id", "block", maintain_order=True)
        .agg(pl.col("from_ns").first(), *(pl.col(name).sum() for name in names))
    )
    return pl.concat([*_block_marks(before), *_block_marks(blocks)]).sort(
        "download_id", "at", "part"
    )


def _block_marks(blocks: pl.DataFrame) -> list[pl.DataFrame]:
    marks, at = list[pl.DataFrame](), pl.col("from_ns")
    for part, (name, cause) in enumerate(_PARTS):
        here = blocks.select(
            "download_id", at=at, cause=pl.lit(cause), part=pl.lit(part, pl.Int64), ns=name
        )
        marks.append(here.filter(pl.col("ns") > 0).drop("ns"))
        at = at + pl.col(name)
    return marks
