"""Fetches and downloads in a client's debug log, from the lines that begin and end them.

The client has an object downloaded by one thread at a time, so the n-th beginning of an object and
its n-th end belong together, however many threads write between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ..run.hashes import KIND_BY_SUFFIX, OBJECT_PATH, hash_of_path
from ..tables import OBJECT_KIND, OUTCOME, conform
from .named_files import NamedFiles

_MISSED = r"^\(cache\) miss: (?<label>.*) (?<url>/\S+)$"
_FINISHED = r"^\(cache\) finished downloading of (?<url>/\S+)$"
_FAILED = r"^\(cache\) failed to fetch (?<label>.*) \(hash: (?<hash>[0-9a-f]{40}\S*?)[A-Z]?, error "
_WAITED = r"^\(cache\) received from another thread fd "
_ASKED = r"^\(download\) escaped \S+ to (?<url>\S+)$"
_VERIFIED = (
    r"^\(download\) (?:\(manager \S+\) )?Verify downloaded url (?<url>\S+), proxy (?<proxy>\S+) "
    r"\(curl error (?<error>\d+)\)$"
)
_COMMITTED = r"^\(cache\) commit (?<url>\S+) "
_ANSWERED = r"^\(curl\) \{header/in\} HTTP/\S+ (?<status>\d{3})"
_URL = r"^[a-z]+://([^/]+)(/.*)$"
_REPOSITORY = r"/cvmfs/([^/]+)/"
#: what a URL names: an object, or one of the files at a repository's top
_NAMED = r"(/data/\S+|/\.cvmfs\w+|/[^/]*)$"

_PATTERNS = {
    "missed": _MISSED, "finished": _FINISHED, "failed": _FAILED, "waited": _WAITED,
    "asked": _ASKED, "verified": _VERIFIED, "committed": _COMMITTED, "answered": _ANSWERED,
}  # fmt: skip
_SCHEMA = pl.Schema(
    {
        "kind": pl.String,
        "start_ns": pl.Int64,
        "url": pl.String,
        "label": pl.String,
        "proxy": pl.String,
        "error": pl.String,
        "status": pl.String,
        "hash": pl.String,
    }
)
NO_STEPS = pl.DataFrame(schema=_SCHEMA)


@dataclass(frozen=True)
class Found:
    """The tables, the repository that URLs name, and how many waits for objects name none."""

    fetches: pl.DataFrame
    downloads: pl.DataFrame
    repository: str | None
    unnamed: int


def steps(messages: pl.DataFrame) -> pl.DataFrame:
    """The messages about fetches and downloads, in order: what each is and names.

    ``messages``: text, start_ns.
    """
    numbered = messages.with_row_index("row")
    parts = [_of_kind(numbered, kind, pattern) for kind, pattern in _PATTERNS.items()]
    none = NO_STEPS.with_columns(row=pl.lit(0, pl.UInt32))
    whole = pl.concat([none, *parts], how="diagonal").sort("row")
    return whole.select(_SCHEMA.names())


def _of_kind(messages: pl.DataFrame, kind: str, pattern: str) -> pl.DataFrame:
    mine = messages.filter(pl.col("text").str.contains(pattern))
    named = mine.with_columns(pl.lit(kind).alias("kind"))
    if "(?<" in pattern:
        named = named.with_columns(pl.col("text").str.extract_groups(pattern).struct.unnest())
    return named.drop("text")


def read(all_steps: pl.DataFrame, files: NamedFiles) -> Found:
    """Fetches and downloads of a whole log."""
    ordered = all_steps.with_row_index("row").with_columns(
        object_hash=pl.coalesce("hash", hash_of_path(pl.col("url"))),
        name=pl.col("url").str.extract(_NAMED, 1),
    )
    begun = _paired(ordered, "object_hash", ("missed",), ("finished", "failed"))
    named = begun.drop_nulls("object_hash").with_columns(
        fetch_id=pl.int_range(pl.len(), dtype=pl.Int32)
    )
    tried = _attempts(_paired(ordered, "name", ("asked",), ("verified",)), named)
    answered = _answers(ordered, tried)
    waited = ordered.filter(pl.col("kind") == "waited").height
    return Found(
        fetches=_fetches(named, tried, files),
        downloads=_downloads(tried, answered, _commits(ordered, named, tried)),
        repository=next(iter(tried["url"].str.extract(_REPOSITORY, 1).drop_nulls()), None),
        unnamed=begun.height - named.height + waited,
    )


def _paired(
    ordered: pl.DataFrame, key: str, begins: tuple[str, ...], ends: tuple[str, ...]
) -> pl.DataFrame:
    """Beginnings with the end that follows them next under the same key; null where none does.

    Adds end_row?, ended_ns?, end_kind?, end_proxy?, end_error?.
    """
    edges = ordered.filter(pl.col("kind").is_in([*begins, *ends]))
    ended = pl.col("kind").shift(-1).over(key).is_in(ends)
    following = {"end_row": "row", "ended_ns": "start_ns", "end_kind": "kind", "end_proxy": "proxy",
                 "end_error": "error"}  # fmt: skip
    return edges.with_columns(
        pl.when(ended).then(pl.col(column).shift(-1).over(key)).alias(name)
        for name, column in following.items()
    ).filter(pl.col("kind").is_in(begins))


def _attempts(asked: pl.DataFrame, named: pl.DataFrame) -> pl.DataFrame:
    """Requests with the fetch that they were made for: those of its object while it lasted."""
    spans = named.select("object_hash", "fetch_id", "row", fetch_end="end_row")
    told = asked.with_columns(download_id=pl.int_range(pl.len(), dtype=pl.Int32)).join_asof(
        spans, on="row", by="object_hash", check_sortedness=False
    )
    outside = pl.col("fetch_end").is_not_null() & (pl.col("row") > pl.col("fetch_end"))
    mine = told.with_columns(fetch_id=pl.when(~outside).then("fetch_id"))
    number = pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("fetch_id")
    return mine.with_columns(
        attempt=pl.when(pl.col("fetch_id").is_not_null()).then(number).otherwise(1)
    )


def _answers(ordered: pl.DataFrame, tried: pl.DataFrame) -> pl.DataFrame:
    """Statuses by download, where only one was in progress: an answer does not name its request."""
    begins = tried.select("row", step=pl.lit(1))
    ends = tried.drop_nulls("end_row").select(row="end_row", step=pl.lit(-1))
    depth = pl.concat([begins, ends]).sort("row").with_columns(pl.col("step").cum_sum())
    heard = ordered.filter(pl.col("kind") == "answered").select(
        "row", pl.col("status").cast(pl.Int32)
    )
    placed = heard.join_asof(depth, on="row").join_asof(
        tried.select("row", "download_id", "end_row"), on="row"
    )
    during = pl.col("end_row").is_null() | (pl.col("row") < pl.col("end_row"))
    sure = placed.filter((pl.col("step") == 1) & during)
    return sure.group_by("download_id").agg(pl.col("status").last())


def _commits(ordered: pl.DataFrame, named: pl.DataFrame, tried: pl.DataFrame) -> pl.DataFrame:
    """When what a request brought was put into the cache: download_id, committed_ns."""
    done = ordered.filter(pl.col("kind") == "committed").select(
        "row", "object_hash", committed_ns="start_ns"
    )
    succeeded = named.filter(pl.col("end_kind") == "finished")
    last = tried.group_by("fetch_id").agg(pl.col("download_id").last())
    brought = succeeded.join(last, on="fetch_id").select(
        "object_hash", "download_id", row="end_row"
    )
    return (
        brought.sort("row")
        .join_asof(done, on="row", by="object_hash", strategy="forward", check_sortedness=False)
        .select("download_id", "committed_ns")
    )


def _fetches(named: pl.DataFrame, tried: pl.DataFrame, files: NamedFiles) -> pl.DataFrame:
    last = tried.drop_nulls("fetch_id").group_by("fetch_id").agg(pl.col("download_id").last())
    suffix = pl.col("url").str.extract(OBJECT_PATH, 4)
    kind = suffix.replace_strict(KIND_BY_SUFFIX, default=None, return_dtype=pl.String)
    outcome = pl.col("end_kind").replace_strict(
        {"finished": "downloaded", "failed": "failed"}, default=None, return_dtype=pl.String
    )
    rows = named.join(last, on="fetch_id", how="left", maintain_order="left").select(
        "fetch_id",
        "start_ns",
        "object_hash",
        "download_id",
        end_ns="ended_ns",
        mount_id=pl.lit(0),
        pid=pl.lit(0),
        tid=pl.lit(0),
        object_kind=kind.cast(OBJECT_KIND),
        outcome=outcome.cast(OUTCOME),
        path=pl.when(pl.col("label").str.starts_with("/")).then("label"),
    )
    return conform("fetches", rows.with_columns(file_id=files.numbers(rows["path"])))


def _downloads(
    tried: pl.DataFrame, answered: pl.DataFrame, committed: pl.DataFrame
) -> pl.DataFrame:
    heard = answered.rename({"status": "status_heard"})
    rows = tried.join(heard, on="download_id", how="left", maintain_order="left")
    dated = rows.join(committed, on="download_id", how="left", maintain_order="left")
    return conform(
        "downloads",
        dated.select(
            "download_id",
            "object_hash",
            "attempt",
            "committed_ns",
            mount_id=pl.lit(0),
            url_path=pl.coalesce(pl.col("url").str.extract(_URL, 2), "url"),
            host=pl.col("url").str.extract(_URL, 1).fill_null(""),
            proxy=pl.when(pl.col("end_proxy") != "DIRECT").then("end_proxy"),
            status="status_heard",
            sent_ns="start_ns",
            last_byte_ns="ended_ns",
        ),
    )
