"""What download threads did with what they received: unpacking, verifying, writing, other objects.

One thread of a client serves all its connections: it receives a piece of an answer, unpacks,
verifies and writes it, then turns to the next socket. So each of its nanoseconds belongs to one
object.
"""

from __future__ import annotations

import polars as pl

#: pieces within this time of each other are merged, each cause summed
BLOCK_NS = 1_000_000

#: parts of a block, in the order in which they are laid out
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


def divided_work(work: pl.DataFrame, sent: pl.DataFrame) -> pl.DataFrame:
    """Divide the time from each download's first byte to the end of its last piece.

    ``work``: see `downloads.download_work`; ``sent``: download_id, sent_ns, handed_ns? (when the
    result was handed to the waiting thread; nothing later belongs to the download). Returns
    download_id, from_ns, start_ns, end_ns, gap_ns, queue_ns, late_ns, unpack_ns, write_ns, off_ns,
    one row per piece. From ``from_ns``, the end of the piece before, to ``start_ns`` the thread
    waited for the network (``gap_ns``), served other downloads (``queue_ns``) or waited for a CPU
    (``late_ns``).

    Other downloads can delay a piece only in the round that receives it: in earlier rounds there
    was nothing to receive on its socket.
    """
    pieces = _pieces(work, sent)
    held = pieces.join(_held_up(pieces, work), on="piece", how="left", maintain_order="left")
    queued = held.with_columns(
        pl.col("queue_ns").fill_null(0),
        late_ns=pl.col("late_ns") + pl.col("held_late_ns").fill_null(0),
    )
    gap, length = pl.col("start_ns") - pl.col("from_ns"), pl.col("end_ns") - pl.col("start_ns")
    queue = pl.min_horizontal("queue_ns", gap)
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


def _pieces(work: pl.DataFrame, sent: pl.DataFrame) -> pl.DataFrame:
    """The pieces of each download in the order of time, with ``piece``, their number, and
    ``from_ns``. None of them goes on after the result was handed over.
    """
    pieces = (
        work.drop_nulls("download_id")
        .with_row_index("piece")
        .join(sent.select("download_id", "sent_ns", "handed_ns"), on="download_id")
    )
    until = pl.coalesce("handed_ns", "end_ns")
    ended = pl.max_horizontal("start_ns", pl.min_horizontal("end_ns", until))
    pieces = pieces.with_columns(end_ns=ended).sort("download_id", "start_ns")
    before = pl.coalesce(pl.col("end_ns").shift(1).over("download_id"), "sent_ns")
    return pieces.with_columns(from_ns=pl.min_horizontal(before, "start_ns"))


def _held_up(pieces: pl.DataFrame, work: pl.DataFrame) -> pl.DataFrame:
    """Time the thread spent on others in a piece's round, before the piece: piece, queue_ns, and
    held_late_ns, in which it worked on them and had no CPU.
    """
    turn = ["pid", "tid", "round"]
    shared = work.filter(pl.len().over(turn) > 1)
    pairs = (
        pieces.select("piece", *turn, "from_ns", "start_ns")
        .join(
            shared.select(*turn, other_late="off_ns", other_start="start_ns", other_end="end_ns"),
            on=turn,
        )
        .filter(pl.col("other_start") < pl.col("start_ns"))
    )
    low = pl.max_horizontal("other_start", "from_ns")
    high = pl.min_horizontal("other_end", "start_ns")
    spent = (high - low).clip(0)
    late = pl.min_horizontal("other_late", spent)
    return pairs.group_by("piece").agg(queue_ns=(spent - late).sum(), held_late_ns=late.sum())


def work_marks(divided: pl.DataFrame) -> pl.DataFrame:
    """Where the parts of downloads begin: download_id, at, cause, part, by time.

    ``divided``: see `divided_work`. Pieces within one millisecond form one block with the sum of
    each cause, in the order of the work. Of the time before the first piece only the delay at its
    end is marked here.
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
