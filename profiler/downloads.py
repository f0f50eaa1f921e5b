"""Table `downloads`: what went over the wire, and for which fetch."""

from __future__ import annotations

import polars as pl

from .hashes import OBJECT_PATH, hash_of_path
from .tables import conform
from .text import c_strings
from .times import happened

_ABSOLUTE = r"^[a-z]+://([^/]+)(/.*)$"
_HEADERS_END = b"\r\n\r\n"


def wire_requests(
    records: pl.DataFrame, daemons: pl.DataFrame, attributes: pl.DataFrame
) -> pl.DataFrame:
    """Read DOWNLOAD records. ``daemons``: pid, mount_id; ``attributes``: mount_id, proxy (its own
    word).

    Returns download_id, mount_id?, pid, object_hash?, suffix, url_path, host, proxy?,
    connection_id, reused, status?, sent_ns, connect_ns?, first_byte_ns?, last_byte_ns?, wire_bytes,
    in order of sent_ns. ``proxy`` is "unknown" where the request went through one that nothing
    names.
    """
    asked = records.filter(pl.col("sent_ns") != 0).sort("sent_ns", "pid", "fd")
    text = asked.with_columns(c_strings(asked["request"]), c_strings(asked["answer"]))
    target = text.with_columns(
        target=pl.col("request").str.extract(r"^[A-Z]+ (\S+)").fill_null(""),
        header_host=pl.col("request").str.extract(r"(?i)\r?\nhost:\s*([^\r\n]+)").fill_null(""),
        connection_id=pl.struct("pid", "fd", "connect_ns").rank("dense").cast(pl.Int32) - 1,
        download_id=pl.int_range(pl.len(), dtype=pl.Int32),
    ).join(daemons, on="pid", how="left", maintain_order="left").join(
        attributes.select("mount_id", "proxy"), on="mount_id", how="left", maintain_order="left"
    )  # fmt: skip
    return _read_target(target).with_columns(
        happened("connect_ns"),
        happened("first_byte_ns"),
        happened("last_byte_ns"),
        object_hash=hash_of_path(pl.col("url_path")),
        suffix=pl.col("url_path").str.extract(OBJECT_PATH, 4),
        status=pl.col("answer").str.extract(r"^HTTP/\S+ (\d{3})").cast(pl.Int32),
        reused=pl.col("sequence") > 0,
        wire_bytes="bytes",
        header_bytes=_header_bytes(asked["answer"], asked["bytes"]),
    )


def _header_bytes(answers: pl.Series, received: pl.Series) -> pl.Series:
    """How long an answer's headers are, the empty line included; null where their end was not seen.

    ``answers``: Binary, the beginnings, behind which may stand what the buffer held before.
    """
    ends = [answer.find(_HEADERS_END) for answer in answers]
    lengths = [at + len(_HEADERS_END) if at >= 0 else None for at in ends]
    found = pl.DataFrame({"length": pl.Series(lengths, dtype=pl.Int64), "received": received})
    whole = pl.when(pl.col("length") <= pl.col("received")).then("length")
    return found.select(whole).to_series()


def _read_target(frame: pl.DataFrame) -> pl.DataFrame:
    """An absolute target goes to a proxy and names the host itself."""
    absolute = pl.col("target").str.extract(_ABSOLUTE, 2)
    proxied = absolute.is_not_null()
    return frame.with_columns(
        url_path=pl.coalesce(absolute, "target"),
        host=pl.coalesce(pl.col("target").str.extract(_ABSOLUTE, 1), "header_host"),
        proxy=pl.when(proxied).then(pl.col("proxy").fill_null("unknown")),
    )


def attempts(wire: pl.DataFrame, fetching: pl.DataFrame) -> pl.DataFrame:
    """Pair fetches that download with their requests on the wire: fetch_id, download_id, attempt.

    Same process, same object, sent within the fetch. ``fetching``: fetch_id, pid, object_hash,
    start_ns, end_ns? (null: it never ended).
    """
    pairs = wire.select("download_id", "pid", "object_hash", "sent_ns").join(
        fetching.select("fetch_id", "pid", "object_hash", "start_ns", "end_ns"),
        on=["pid", "object_hash"],
    )
    inside = (pl.col("sent_ns") >= pl.col("start_ns")) & (
        pl.col("end_ns").is_null() | (pl.col("sent_ns") <= pl.col("end_ns"))
    )
    ordered = pairs.filter(inside).sort("fetch_id", "sent_ns")
    once = ordered.unique("download_id", keep="last", maintain_order=True)
    return once.sort("fetch_id", "sent_ns").with_columns(
        attempt=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("fetch_id")
    ).select("fetch_id", "download_id", "attempt")  # fmt: skip


def downloads(
    wire: pl.DataFrame, tried: pl.DataFrame, queued: pl.DataFrame, committed: pl.DataFrame
) -> pl.DataFrame:
    """The table. ``tried``: see `attempts`; ``queued``: fetch_id, queued_ns?; ``committed``: see
    `daemon_calls.commits`: pid, object_hash, end_ns of renames into the cache.
    """
    known = wire.join(tried, on="download_id", how="left", maintain_order="left").join(
        queued, on="fetch_id", how="left", maintain_order="left"
    )
    ends = committed.select("pid", "object_hash", committed_ns="end_ns").drop_nulls()
    dated = known.sort("sent_ns").join_asof(
        ends.sort("committed_ns"), left_on="sent_ns", right_on="committed_ns",
        by=["pid", "object_hash"], strategy="forward", check_sortedness=False, coalesce=False,
    )  # fmt: skip
    last = pl.col("attempt") == pl.col("attempt").max().over("fetch_id")
    rows = dated.with_columns(
        pl.col("attempt").fill_null(1),
        committed_ns=pl.when(last | pl.col("fetch_id").is_null()).then("committed_ns"),
    )
    return conform("downloads", rows.sort("download_id"))
