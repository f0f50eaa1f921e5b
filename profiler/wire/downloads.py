"""Table `downloads`: what went over the wire, and for which fetch."""

from __future__ import annotations

import polars as pl

from ...probes.events import DOWNLOAD_ANNOUNCED, DOWNLOAD_TLS, DOWNLOAD_TUNNEL
from ..client.daemon_calls import DOWNLOAD
from ..run.hashes import OBJECT_PATH, hash_of_path
from ..run.text import c_strings
from ..run.times import happened
from ..tables import conform
from .connections import endpoints, server_name

_ABSOLUTE = r"^[a-z]+://([^/]+)(/.*)$"
_NUMERIC = r"^(\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\])(?::\d+)?$"
_TIMES = ("connect_ns", "sent_ns", "first_byte_ns", "last_byte_ns", "closed_ns")
_HEADERS_END = b"\r\n\r\n"


def wire_requests(
    records: pl.DataFrame, daemons: pl.DataFrame, attributes: pl.DataFrame
) -> pl.DataFrame:
    """Read DOWNLOAD records. ``daemons``: pid, mount_id; ``attributes``: mount_id, proxy (its own
    word).

    Returns download_id, mount_id?, pid, tid, fd, object_hash?, suffix?, url_path?, host, proxy?,
    connection_id, socket, local?, remote?, encrypted, reused, status?, began_ns, connect_ns?,
    sent_ns?, first_byte_ns?, last_byte_ns?, closed_ns?, wire_bytes, in order of began_ns: the
    request's sending, or of a connection that failed its connect(2). A proxy is known by its
    address; where that is not known, by the mount's word, else "unknown".
    """
    known = records.filter((pl.col("flags") & DOWNLOAD_ANNOUNCED) == 0).with_columns(
        happened(name) for name in _TIMES
    )
    begun = known.with_columns(began_ns=pl.coalesce("sent_ns", "connect_ns", "closed_ns"))
    asked = (
        begun.drop_nulls("began_ns")
        .sort("began_ns", "pid", "fd")
        .with_columns(
            connection_id=pl.struct("pid", "fd", "socket", "connect_ns")
            .rank("dense")
            .cast(pl.Int32)
            - 1,
            download_id=pl.int_range(pl.len(), dtype=pl.Int32),
        )
        .join(daemons, on="pid", how="left", maintain_order="left")
        .join(
            attributes.select("mount_id", "proxy"), on="mount_id", how="left", maintain_order="left"
        )
    )
    return _read_target(_with_text(endpoints(asked))).with_columns(
        object_hash=hash_of_path(pl.col("url_path")),
        suffix=pl.col("url_path").str.extract(OBJECT_PATH, 4),
        status=pl.col("answer").str.extract(r"^HTTP/\S+ (\d{3})").cast(pl.Int32),
        reused=(pl.col("sequence") > 0) | pl.col("connect_ns").is_null(),
        wire_bytes="bytes",
        header_bytes=_header_bytes(asked["answer"], asked["bytes"]),
    )


def _with_text(asked: pl.DataFrame) -> pl.DataFrame:
    """The messages as text, and what of them names the server asked."""
    hellos = asked.select("request", wanted=(pl.col("flags") & DOWNLOAD_TLS) != 0)
    names = [server_name(raw) if wanted else None for raw, wanted in hellos.iter_rows()]
    text = asked.with_columns(c_strings(asked["request"]), c_strings(asked["answer"]))
    sent = pl.col("sent_ns").is_not_null()
    encrypted = (pl.col("flags") & DOWNLOAD_TLS) != 0
    return text.with_columns(
        encrypted=encrypted,
        tunnelled=(pl.col("flags") & DOWNLOAD_TUNNEL) != 0,
        target=pl.when(sent & ~encrypted).then(pl.col("request").str.extract(r"^[A-Z]+ (\S+)")),
        header_host=pl.coalesce(
            pl.col("request").str.extract(r"(?i)\r?\nhost:\s*([^\r\n]+)"),
            pl.Series(names, dtype=pl.String),
            pl.when(~sent | encrypted).then("remote"),
        ).fill_null(""),
    )


def _header_bytes(answers: pl.Series, received: pl.Series) -> pl.Series:
    """How long an answer's headers are, the empty line included; null where their end was not seen.

    ``answers``: Binary, the beginnings, behind which may stand what the buffer held before.
    """
    plain = (answer if answer.startswith(b"HTTP/") else b"" for answer in answers)
    ends = [answer.find(_HEADERS_END) for answer in plain]
    lengths = [at + len(_HEADERS_END) if at >= 0 else None for at in ends]
    found = pl.DataFrame({"length": pl.Series(lengths, dtype=pl.Int64), "received": received})
    whole = pl.when(pl.col("length") <= pl.col("received")).then("length")
    return found.select(whole).to_series()


def _read_target(frame: pl.DataFrame) -> pl.DataFrame:
    """An absolute target goes to a proxy and names the host itself; a tunnel goes through one; so
    does what goes to another address than the host's, where the host is an address.
    """
    absolute = pl.col("target").str.extract(_ABSOLUTE, 2)
    numeric = pl.col("header_host").str.extract(_NUMERIC, 1).is_not_null()
    port = (
        pl.when(pl.col("header_host").str.contains(r":\d+$"))
        .then(pl.lit(""))
        .otherwise(pl.lit(":80"))
    )
    elsewhere = numeric & (pl.concat_str("header_host", port) != pl.col("remote"))
    asked = pl.col("target").is_not_null()
    proxied = absolute.is_not_null() | pl.col("tunnelled") | (asked & elsewhere)
    return frame.with_columns(
        url_path=pl.coalesce(absolute, "target"),
        host=pl.coalesce(pl.col("target").str.extract(_ABSOLUTE, 1), "header_host"),
        proxy=pl.when(proxied.fill_null(value=False)).then(
            pl.coalesce("remote", "proxy", pl.lit("unknown"))
        ),
    )


def manifests(wire: pl.DataFrame) -> pl.DataFrame:
    """Manifests whose beginning was seen in an answer: mount_id, time_ns, root_hash, revision."""
    text = pl.col("answer").str.extract(r"(?s)^HTTP/.*?\r\n\r\n(.*)$")
    return (
        wire.filter(pl.col("url_path").str.ends_with("/.cvmfspublished"))
        .select(
            "mount_id",
            time_ns="last_byte_ns",
            root_hash=text.str.extract(r"(?m)^C([0-9a-f]{40}(?:-[a-z0-9]+)?)\n"),
            revision=text.str.extract(r"(?m)^S(\d+)\n").cast(pl.Int64),
        )
        .drop_nulls()
    )


def named_by_fetches(
    wire: pl.DataFrame, fetching: pl.DataFrame, calls: pl.DataFrame
) -> pl.DataFrame:
    """Name the objects of requests whose path is not seen, and of connections that failed: where
    their daemon was downloading one object just then, it was for that.

    ``fetching``: pid, start_ns, end_ns?, object_hash of fetches that download; ``calls``:
    `daemon_calls`, for downloads that no fetch asked for.
    """
    others = calls.filter((pl.col("function") == DOWNLOAD) & pl.col("parent_id").is_null()).select(
        "pid", "start_ns", "end_ns", meant=pl.lit(None, pl.String)
    )
    busy = pl.concat(
        [
            fetching.select("pid", "start_ns", "end_ns", meant="object_hash"),
            others,
        ]
    )
    pairs = (
        wire.filter(pl.col("url_path").is_null())
        .select("download_id", "pid", "began_ns")
        .join(busy, on="pid")
    )
    within = (pl.col("began_ns") >= pl.col("start_ns")) & (
        pl.col("end_ns").is_null() | (pl.col("began_ns") <= pl.col("end_ns"))
    )
    certain = (
        pairs.filter(within)
        .group_by("download_id")
        .agg(pl.col("meant").first(), found=pl.len())
        .filter(found=1)
        .drop("found")
    )
    return (
        wire.join(certain, on="download_id", how="left", maintain_order="left")
        .with_columns(object_hash=pl.coalesce("object_hash", "meant"))
        .drop("meant")
    )


def attempts(wire: pl.DataFrame, fetching: pl.DataFrame) -> pl.DataFrame:
    """Pair fetches that download with their requests on the wire: fetch_id, download_id, attempt,
    sender_tid.

    Same process, same object, begun within the fetch; for a fetch whose object nothing names, a
    request that no other fetch has sent. ``fetching``: fetch_id, pid, object_hash,
    start_ns, end_ns? (null: it never ended).
    """
    pairs = wire.select("download_id", "pid", "object_hash", "began_ns", sender_tid="tid").join(
        fetching.select("fetch_id", "pid", "object_hash", "start_ns", "end_ns"),
        on=["pid", "object_hash"],
    )
    inside = (pl.col("began_ns") >= pl.col("start_ns")) & (
        pl.col("end_ns").is_null() | (pl.col("began_ns") <= pl.col("end_ns"))
    )
    ordered = pairs.filter(inside).sort("fetch_id", "began_ns")
    once = ordered.unique("download_id", keep="last", maintain_order=True)
    once = pl.concat([once, _of_unnamed(wire, fetching, once).select(once.columns)])
    return (
        once.sort("fetch_id", "began_ns")
        .with_columns(attempt=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("fetch_id"))
        .select("fetch_id", "download_id", "attempt", "sender_tid")
    )


def _of_unnamed(wire: pl.DataFrame, fetching: pl.DataFrame, paired: pl.DataFrame) -> pl.DataFrame:
    """Requests sent within fetches without object_hash, those of the latest fetch."""
    unnamed = fetching.filter(pl.col("object_hash").is_null()).drop("object_hash")
    free = wire.join(paired, on="download_id", how="anti").select(
        "download_id", "pid", "object_hash", "began_ns", sender_tid="tid"
    )
    met = free.join(unnamed.select("fetch_id", "pid", "start_ns", "end_ns"), on="pid").filter(
        (pl.col("began_ns") >= pl.col("start_ns"))
        & (pl.col("began_ns") <= pl.col("end_ns")).fill_null(value=True)
    )
    return met.sort("start_ns").unique("download_id", keep="last", maintain_order=True)


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
    dated = known.sort("began_ns").join_asof(
        ends.sort("committed_ns"),
        left_on="began_ns",
        right_on="committed_ns",
        by=["pid", "object_hash"],
        strategy="forward",
        check_sortedness=False,
        coalesce=False,
    )
    last = pl.col("attempt") == pl.col("attempt").max().over("fetch_id")
    rows = dated.with_columns(
        pl.col("attempt").fill_null(1),
        committed_ns=pl.when(last | pl.col("fetch_id").is_null()).then("committed_ns"),
    )
    return conform("downloads", rows.sort("download_id"))
