"""Tables `operations`, `hits`, `touches`: what target threads did with files."""

from __future__ import annotations

import polars as pl

from ..probes.events import OPERATION_HAS_RANGE, OPERATION_KINDS, OPERATION_KNOWN_FILE
from .tables import OPERATION_KIND, conform
from .times import happened

GRANULE_BYTES = 1 << 20
BUCKET_NS = 100_000_000


def known_files(records: pl.DataFrame) -> pl.DataFrame:
    """Those OPERATION records that know their file."""
    return records.filter((pl.col("flags") & OPERATION_KNOWN_FILE) != 0)


def operations(records: pl.DataFrame, file_id: pl.Series) -> pl.DataFrame:
    """Number the operations. ``records``: OPERATION records by start; ``file_id``: theirs."""
    known = (pl.col("flags") & OPERATION_KNOWN_FILE) != 0
    ranged = (pl.col("flags") & OPERATION_HAS_RANGE) != 0
    rows = records.select(
        "start_ns",
        happened("end_ns"),
        "pid",
        "tid",
        "result",
        op_id=pl.int_range(pl.len(), dtype=pl.Int32),
        kind=kind_name(pl.col("kind")),
        file_id=pl.when(known).then(file_id),
        offset_bytes=pl.when(ranged).then("offset"),
        size_bytes=pl.when(ranged).then("size"),
    )
    return conform("operations", rows)


def kind_name(kind: pl.Expr) -> pl.Expr:
    """The name of an operation kind's number."""
    names = {number: name for number, name in enumerate(OPERATION_KINDS) if name != "none"}
    return kind.cast(pl.Int32).replace_strict(
        names, default=None, return_dtype=OPERATION_KIND
    )  # fmt: skip


def hits(records: pl.DataFrame, file_id: pl.Series) -> pl.DataFrame:
    """Table `hits` from HIT records; those of no known file are dropped."""
    rows = records.with_columns(file_id=file_id, kind=kind_name(pl.col("kind")))
    return conform("hits", rows.drop_nulls(["file_id", "kind"]).sort("start_ns"))


def touches(records: pl.DataFrame, file_id: pl.Series) -> pl.DataFrame:
    """Table `touches` from TOUCH_KEY and TOUCH records; a key that occurs twice is summed."""
    counts = ["bytes_read", "pages_mapped", "pages_inserted"]
    summed = (
        records.with_columns(file_id=file_id, start_ns=pl.col("bucket") * BUCKET_NS)
        .drop_nulls("file_id")
        .group_by("file_id", "granule", "start_ns")
        .agg(pl.col(counts).cast(pl.Int64).sum())
    )
    return conform("touches", summed.sort("file_id", "granule", "start_ns"))
