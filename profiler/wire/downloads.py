"""Table `downloads`: what went over the wire, and for which fetch."""

from __future__ import annotations

import polars as pl

from ...probes.events import DOWNLOAD_ANNOUNCED, DOWNLOAD_TLS, DOWNLOAD_TUNNEL
from ..client.daemon_calls import DOWNLOAD
from ..intervals import next_begun
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
    """HTTP requests from DOWNLOAD records.

    ``daemons``: pid, mount_id; ``attributes``: mount_id, proxy. Returns download_id, mount_id?,
    pid, tid, fd, object_hash?, suffix?, url_path?, host, proxy?, connection_id, socket, local?,
    remote?, encrypted, reused, status?, began_ns, connect_ns?, sent_ns?, first_byte_ns?,
    last_byte_ns?, closed_ns?, wire_bytes, header_bytes?, by began_ns: when the request was sent,
    or, for a connection that failed, its connect(2). A proxy is named by its address; if that is
    unknown, by the mount's attribute, else "unknown".
    """
    recorded = records.filter((pl.col("flags") & DOWNLOAD_ANNOUNCED) == 0).with_columns(
        happened(name) for name in _TIMES
    )
    begun = recorded.with_columns(began_ns=pl.coalesce("sent_ns", "connect_ns", "closed_ns"))
    connection = pl.struct("pid", "fd", "socket", "connect_ns").rank("dense").cast(pl.Int32)
    sent = (
        begun.drop_nulls("began_ns")
        .sort("began_ns", "pid", "fd")
        .with_columns(
            connection_id=connection - 1,
            download_id=pl.int_range(pl.len(), dtype=pl.Int32),
        )
        .join(daemons, on="pid", how="left", maintain_order="left")
        .join(
            attributes.select("mount_id", "proxy"), on="mount_id", how="left", maintain_order="left"
        )
    )
    return _read_target(_with_text(endpoints(sent))).with_columns(
        object_hash=hash_of_path(pl.col("url_path")),
        suffix=pl.col("url_path").str.extract(OBJECT_PATH, 4),
        status=pl.col("answer").str.extract(r"^HTTP/\S+ (\d{3})").cast(pl.Int32),
        reused=(pl.col("sequence") > 0) | pl.col("connect_ns").is_null(),
        wire_bytes="bytes",
        header_bytes=_header_bytes(sent["answer"], sent["bytes"]),
    )


def _with_text(records: pl.DataFrame) -> pl.DataFrame:
    """The messages as text, with their target? and the server they name (header_host)."""
    names = [server_name(raw) for raw in records["request"]]
    text = records.with_columns(c_strings(records["request"]), c_strings(records["answer"]))
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
    """Length of an answer's headers with the empty line; null where their end was not seen.

    ``answers``: Binary, the beginnings; after them the buffer may hold older bytes.
    """
    plain = (answer if answer.startswith(b"HTTP/") else b"" for answer in answers)
    ends = [answer.find(_HEADERS_END) for answer in plain]
    lengths = [at + len(_HEADERS_END) if at >= 0 else None for at in ends]
    frame = pl.DataFrame({"length": pl.Series(lengths, dtype=pl.Int64), "received": received})
    complete = pl.when(pl.col("length") <= pl.col("received")).then("length")
    return frame.select(complete).to_series()


def _read_target(frame: pl.DataFrame) -> pl.DataFrame:
    """Add url_path?, host, proxy?.

    A request goes through a proxy if its target is absolute (it then names the host), if it is
    tunnelled, or if the host is an address and the connection goes to another one.
    """
    absolute = pl.col("target").str.extract(_ABSOLUTE, 2)
    numeric = pl.col("header_host").str.extract(_NUMERIC, 1).is_not_null()
    port = (
        pl.when(pl.col("header_host").str.contains(r":\d+$"))
        .then(pl.lit(""))
        .otherwise(pl.lit(":80"))
    )
    elsewhere = numeric & (pl.concat_str("header_host", port) != pl.col("remote"))
    has_target = pl.col("target").is_not_null()
    proxied = absolute.is_not_null() | pl.col("tunnelled") | (has_target & elsewhere)
    return frame.with_columns(
        url_path=pl.coalesce(absolute, "target"),
        host=pl.coalesce(pl.col("target").str.extract(_ABSOLUTE, 1), "header_host"),
        proxy=pl.when(proxied).then(pl.coalesce("remote", "proxy", pl.lit("unknown"))),
    )


def manifests(sent: pl.DataFrame) -> pl.DataFrame:
    """Manifests whose beginning is in an answer: mount_id, time_ns, root_hash, revision."""
    text = pl.col("answer").str.extract(r"(?s)^HTTP/.*?\r\n\r\n(.*)$")
    return (
        sent.filter(pl.col("url_path").str.ends_with("/.cvmfspublished"))
        .select(
            "mount_id",
            time_ns="last_byte_ns",
            root_hash=text.str.extract(r"(?m)^C([0-9a-f]{40}(?:-[a-z0-9]+)?)\n"),
            revision=text.str.extract(r"(?m)^S(\d+)\n").cast(pl.Int64),
        )
        .drop_nulls()
    )


def named_by_fetches(
    sent: pl.DataFrame, fetches: pl.DataFrame, calls: pl.DataFrame
) -> pl.DataFrame:
    """Name the objects of requests without a visible path and of failed connections.

    If their daemon was downloading exactly one object at the time, they were for that one.
    ``fetches``: pid, start_ns, end_ns?, object_hash of fetches that download; ``calls``:
    `daemon_calls`, for downloads outside any fetch.
    """
    pairs = (
        sent.filter(pl.col("url_path").is_null())
        .select("download_id", "pid", "began_ns")
        .join(_downloading(fetches, calls), on="pid")
    )
    within = (pl.col("began_ns") >= pl.col("start_ns")) & (
        pl.col("end_ns").is_null() | (pl.col("began_ns") <= pl.col("end_ns"))
    )
    certain = (
        pairs.filter(within)
        .group_by("download_id")
        .agg(pl.col("only_object").first(), objects=pl.len())
        .filter(objects=1)
        .drop("objects")
    )
    return (
        sent.join(certain, on="download_id", how="left", maintain_order="left")
        .with_columns(object_hash=pl.coalesce("object_hash", "only_object"))
        .drop("only_object")
    )


def _downloading(fetches: pl.DataFrame, calls: pl.DataFrame) -> pl.DataFrame:
    """When daemons were downloading: pid, start_ns, end_ns?, only_object?: null outside fetches."""
    outside = (pl.col("function") == DOWNLOAD) & pl.col("parent_id").is_null()
    times = ("pid", "start_ns", "end_ns")
    return pl.concat(
        [
            fetches.select(*times, only_object="object_hash"),
            calls.filter(outside).select(*times, only_object=pl.lit(None, pl.String)),
        ]
    )


def attempts(sent: pl.DataFrame, fetches: pl.DataFrame) -> pl.DataFrame:
    """Pair fetches that download with their requests: fetch_id, download_id, attempt, sender_tid.

    Same process, same object, begun within the fetch. A fetch of an unnamed object gets a request
    that belongs to no other fetch. ``fetches``: fetch_id, pid, object_hash?, start_ns, end_ns?
    (null: it never ended).
    """
    pairs = sent.select("download_id", "pid", "object_hash", "began_ns", sender_tid="tid").join(
        fetches.select("fetch_id", "pid", "object_hash", "start_ns", "end_ns"),
        on=["pid", "object_hash"],
    )
    inside = (pl.col("began_ns") >= pl.col("start_ns")) & (
        pl.col("end_ns").is_null() | (pl.col("began_ns") <= pl.col("end_ns"))
    )
    ordered = pairs.filter(inside).sort("fetch_id", "began_ns")
    once = ordered.unique("download_id", keep="last", maintain_order=True)
    once = pl.concat([once, _of_unnamed(sent, fetches, once).select(once.columns)])
    return (
        once.sort("fetch_id", "began_ns")
        .with_columns(attempt=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("fetch_id"))
        .select("fetch_id", "download_id", "attempt", "sender_tid")
    )


def _of_unnamed(sent: pl.DataFrame, fetches: pl.DataFrame, paired: pl.DataFrame) -> pl.DataFrame:
    """Requests sent within a fetch without object_hash; of several such fetches, the latest."""
    unnamed = fetches.filter(pl.col("object_hash").is_null()).drop("object_hash")
    free = sent.join(paired, on="download_id", how="anti").select(
        "download_id", "pid", "object_hash", "began_ns", sender_tid="tid"
    )
    within = free.join(unnamed.select("fetch_id", "pid", "start_ns", "end_ns"), on="pid").filter(
        (pl.col("began_ns") >= pl.col("start_ns"))
        & (pl.col("began_ns") <= pl.col("end_ns")).fill_null(value=True)
    )
    return within.sort("start_ns").unique("download_id", keep="last", maintain_order=True)


def downloads(
    sent: pl.DataFrame, attempts: pl.DataFrame, queued: pl.DataFrame, committed: pl.DataFrame
) -> pl.DataFrame:
    """The table.

    ``sent``: see `wire_requests`; ``attempts``: see `attempts`; ``queued``: fetch_id, queued_ns?;
    ``committed``: see `daemon_calls.commits`.
    """
    of_fetches = sent.join(attempts, on="download_id", how="left", maintain_order="left").join(
        queued, on="fetch_id", how="left", maintain_order="left"
    )
    commits = committed.select("pid", "object_hash", committed_ns="end_ns")
    key = ["pid", "object_hash"]
    dated = next_begun(of_fetches, commits, at="began_ns", begin="committed_ns", by=key)
    is_last = pl.col("attempt") == pl.col("attempt").max().over("fetch_id")
    rows = dated.with_columns(
        pl.col("attempt").fill_null(1),
        committed_ns=pl.when(is_last | pl.col("fetch_id").is_null()).then("committed_ns"),
    )
    return conform("downloads", rows.sort("download_id"))


def download_work(records: pl.DataFrame, sent: pl.DataFrame) -> pl.DataFrame:
    """Add the download to WORK records. ``sent``: see `wire_requests`.

    Returns download_id?, pid, tid, round, start_ns, end_ns, late_ns, write_ns, off_ns, by time.
    """
    names = sent.select("download_id", "pid", "fd", "sent_ns").unique(["pid", "fd", "sent_ns"])
    joined = records.join(names, on=["pid", "fd", "sent_ns"], how="left", maintain_order="left")
    return joined.select(
        "download_id", "pid", "tid", "round", "start_ns", "end_ns", "late_ns", "write_ns", "off_ns"
    ).sort("start_ns")
