"""Tables `operations`, `hits`, `touches`: what target threads did with files."""

from __future__ import annotations

import polars as pl

from ...probes.events import (
    LONG_READ_BYTES,
    OPERATION_HAS_RANGE,
    OPERATION_KINDS,
    OPERATION_KNOWN_FILE,
    OPERATION_PASSTHROUGH,
    TOUCH_BUCKET_NS,
    TOUCH_GRANULE_BYTES,
)
from ..run.times import happened
from ..tables import OPERATION_KIND, conform


def known_files(records: pl.DataFrame) -> pl.DataFrame:
    """The OPERATION records whose file is known."""
    return records.filter((pl.col("flags") & OPERATION_KNOWN_FILE) != 0)


def operations(records: pl.DataFrame, file_id: pl.Series) -> pl.DataFrame:
    """Number the operations.

    ``records``: OPERATION records by start; ``file_id``: the file of each record.
    """
    has_file = (pl.col("flags") & OPERATION_KNOWN_FILE) != 0
    ranged = (pl.col("flags") & OPERATION_HAS_RANGE) != 0
    rows = records.select(
        "start_ns",
        happened("end_ns"),
        "pid",
        "tid",
        "result",
        op_id=pl.int_range(pl.len(), dtype=pl.Int32),
        kind=kind_name(pl.col("kind")),
        file_id=pl.when(has_file).then(file_id),
        offset_bytes=pl.when(ranged).then("offset"),
        size_bytes=pl.when(ranged).then("size"),
        passthrough=(pl.col("flags") & OPERATION_PASSTHROUGH) != 0,
    )
    return conform("operations", rows)


def kind_name(kind: pl.Expr) -> pl.Expr:
    """The name of an operation kind's number."""
    names = {number: name for number, name in enumerate(OPERATION_KINDS) if name != "none"}
    return kind.cast(pl.Int32).replace_strict(names, default=None, return_dtype=OPERATION_KIND)


def hits(records: pl.DataFrame, file_id: pl.Series) -> pl.DataFrame:
    """Table `hits` from HIT records; records without a known file are dropped."""
    rows = records.with_columns(file_id=file_id, kind=kind_name(pl.col("kind")))
    return conform("hits", rows.drop_nulls(["file_id", "kind"]).sort("start_ns"))


def touches(records: pl.DataFrame, file_id: pl.Series, operations: pl.DataFrame) -> pl.DataFrame:
    """Table `touches` from TOUCH_KEY and TOUCH records, and from long reads.

    Reads longer than `LONG_READ_BYTES` are not spread over granules by the BPF program but here. A
    key that occurs twice is summed.
    """
    counts = ["bytes_read", "pages_mapped", "pages_inserted"]
    columns = ["file_id", "granule", "start_ns", *counts]
    counted = records.with_columns(
        pl.col("granule").cast(pl.Int64),
        pl.col(counts).cast(pl.Int64),
        file_id=file_id,
        start_ns=(pl.col("bucket") * TOUCH_BUCKET_NS).cast(pl.Int64),
    )
    summed = (
        pl.concat([counted.select(columns), _long_reads(operations).select(columns)])
        .drop_nulls("file_id")
        .group_by("file_id", "granule", "start_ns")
        .agg(pl.col(counts).sum())
    )
    return conform("touches", summed.sort("file_id", "granule", "start_ns"))


def _long_reads(operations: pl.DataFrame) -> pl.DataFrame:
    """Reads above `LONG_READ_BYTES` spread over their granules; rows as in `touches`."""
    first = pl.col("offset_bytes") // TOUCH_GRANULE_BYTES
    last = (pl.col("offset_bytes") + pl.col("result") - 1) // TOUCH_GRANULE_BYTES
    spread = (
        operations.filter(
            pl.col("kind").is_in(["read", "splice"]) & (pl.col("result") > LONG_READ_BYTES)
        )
        .drop_nulls(["file_id", "offset_bytes", "end_ns"])
        .with_columns(granule=pl.int_ranges(first, last + 1))
        .explode("granule")
    )
    begin = pl.max_horizontal(pl.col("granule") * TOUCH_GRANULE_BYTES, "offset_bytes")
    end = pl.min_horizontal(
        (pl.col("granule") + 1) * TOUCH_GRANULE_BYTES, pl.col("offset_bytes") + pl.col("result")
    )
    return spread.with_columns(
        start_ns=pl.col("end_ns") // TOUCH_BUCKET_NS * TOUCH_BUCKET_NS,
        bytes_read=end - begin,
        pages_mapped=pl.lit(0, pl.Int64),
        pages_inserted=pl.lit(0, pl.Int64),
    )
