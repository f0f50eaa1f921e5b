"""Fetches and downloads in a client's debug log, from the lines that begin and end them.

Only one thread at a time downloads an object, so the n-th beginning and the n-th end of an object
belong together, however many threads write between them.
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
#: the part of a URL that names an object, or a file in a repository's root
_NAME = r"(/data/\S+|/\.cvmfs\w+|/[^/]*)$"

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
class Fetching:
    """Two tables, the repository that URLs name, and how many waits for objects name no object."""

    fetches: pl.DataFrame
    downloads: pl.DataFrame
    repository: str | None
    unnamed_waits: int


def fetch_steps(messages: pl.DataFrame) -> pl.DataFrame:
    """Return the messages about fetches and downloads, in order: their kind and what they name.

    ``messages``: text, start_ns.
    """
    numbered = messages.with_row_index("row")
    parts = [_of_kind(numbered, kind, pattern) for kind, pattern in _PATTERNS.items()]
    none = NO_STEPS.with_columns(row=pl.lit(0, pl.UInt32))
    whole = pl.concat([none, *parts], how="diagonal").sort("row")
    return whole.select(_SCHEMA.names())


def _of_kind(messages: pl.DataFrame, kind: str, pattern: str) -> pl.DataFrame:
    steps = messages.filter(pl.col("text").str.contains(pattern)).with_columns(kind=pl.lit(kind))
    if "(?<" in pattern:
        steps = steps.with_columns(pl.col("text").str.extract_groups(pattern).struct.unnest())
    return steps.drop("text")


def read_fetches(steps: pl.DataFrame, files: NamedFiles) -> Fetching:
    """Find the fetches and downloads of a whole log, by the `fetch_steps` of its blocks."""
    ordered = steps.with_row_index("row").with_columns(
        object_hash=pl.coalesce("hash", hash_of_path(pl.col("url"))),
        name=pl.col("url").str.extract(_NAME, 1),
    )
    begun = _paired(ordered, "object_hash", ("missed",), ("finished", "failed"))
    fetches = begun.drop_nulls("object_hash").with_columns(
        fetch_id=pl.int_range(pl.len(), dtype=pl.Int32)
    )
    attempts = _attempts(_paired(ordered, "name", ("asked",), ("verified",)), fetches)
    statuses, commits = _statuses(ordered, attempts), _commits(ordered, fetches, attempts)
    waits = ordered.filter(pl.col("kind") == "waited").height
    return Fetching(
        fetches=_fetches(fetches, attempts, files),
        downloads=_downloads(attempts, statuses, commits),
        repository=next(iter(attempts["url"].str.extract(_REPOSITORY, 1).drop_nulls()), None),
        unnamed_waits=begun.height - fetches.height + waits,
    )


def _paired(
    ordered: pl.DataFrame, key: str, begins: tuple[str, ...], ends: tuple[str, ...]
) -> pl.DataFrame:
    """Return the beginnings, each with the end that is the next step of the same key.

    Adds end_row?, ended_ns?, end_kind?, end_proxy?, end_error?: null where another beginning, or
    nothing, follows.
    """
    edges = ordered.filter(pl.col("kind").is_in([*begins, *ends]))
    ended = pl.col("kind").shift(-1).over(key).is_in(ends)
    following = {"end_row": "row", "ended_ns": "start_ns", "end_kind": "kind", "end_proxy": "proxy",
                 "end_error": "error"}  # fmt: skip
    return edges.with_columns(
        pl.when(ended).then(pl.col(column).shift(-1).over(key)).alias(name)
        for name, column in following.items()
    ).filter(pl.col("kind").is_in(begins))


def _attempts(asked: pl.DataFrame, fetches: pl.DataFrame) -> pl.DataFrame:
    """Number the requests and add the fetch of their object during which they were sent."""
    spans = fetches.select("object_hash", "fetch_id", "row", fetch_end="end_row")
    latest = asked.with_columns(download_id=pl.int_range(pl.len(), dtype=pl.Int32)).join_asof(
        spans, on="row", by="object_hash", check_sortedness=False
    )
    outside = pl.col("fetch_end").is_not_null() & (pl.col("row") > pl.col("fetch_end"))
    attempts = latest.with_columns(fetch_id=pl.when(~outside).then("fetch_id"))
    number = pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("fetch_id")
    return attempts.with_columns(
        attempt=pl.when(pl.col("fetch_id").is_not_null()).then(number).otherwise(1)
    )


def _statuses(ordered: pl.DataFrame, attempts: pl.DataFrame) -> pl.DataFrame:
    """Statuses of answers that came while one request was in progress: download_id, status.

    An answer does not name its request: with several in progress it may be that of any.
    """
    begins = attempts.select("row", in_progress=pl.lit(1))
    ends = attempts.drop_nulls("end_row").select(row="end_row", in_progress=pl.lit(-1))
    in_progress = (
        pl.concat([begins, ends]).sort("row").with_columns(pl.col("in_progress").cum_sum())
    )
    answers = ordered.filter(pl.col("kind") == "answered").select(
        "row", pl.col("status").cast(pl.Int32)
    )
    with_latest = answers.join_asof(in_progress, on="row").join_asof(
        attempts.select("row", "download_id", "end_row"), on="row"
    )
    during = pl.col("end_row").is_null() | (pl.col("row") < pl.col("end_row"))
    unambiguous = with_latest.filter((pl.col("in_progress") == 1) & during)
    return unambiguous.group_by("download_id").agg(pl.col("status").last())


def _commits(ordered: pl.DataFrame, fetches: pl.DataFrame, attempts: pl.DataFrame) -> pl.DataFrame:
    """When a download was put into the cache: download_id, committed_ns?."""
    commits = ordered.filter(pl.col("kind") == "committed").select(
        "row", "object_hash", committed_ns="start_ns"
    )
    succeeded = fetches.filter(pl.col("end_kind") == "finished")
    last = attempts.group_by("fetch_id").agg(pl.col("download_id").last())
    ends = succeeded.join(last, on="fetch_id").select("object_hash", "download_id", row="end_row")
    return (
        ends.sort("row")
        .join_asof(commits, on="row", by="object_hash", strategy="forward", check_sortedness=False)
        .select("download_id", "committed_ns")
    )


def _fetches(fetches: pl.DataFrame, attempts: pl.DataFrame, files: NamedFiles) -> pl.DataFrame:
    last = attempts.drop_nulls("fetch_id").group_by("fetch_id").agg(pl.col("download_id").last())
    suffix = pl.col("url").str.extract(OBJECT_PATH, 4)
    kind = suffix.replace_strict(KIND_BY_SUFFIX, default=None, return_dtype=pl.String)
    outcome = pl.col("end_kind").replace_strict(
        {"finished": "downloaded", "failed": "failed"}, default=None, return_dtype=pl.String
    )
    rows = fetches.join(last, on="fetch_id", how="left", maintain_order="left").select(
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
    attempts: pl.DataFrame, statuses: pl.DataFrame, commits: pl.DataFrame
) -> pl.DataFrame:
    rows = attempts.drop("status")
    for more in (statuses, commits):
        rows = rows.join(more, on="download_id", how="left", maintain_order="left")
    return conform(
        "downloads",
        rows.select(
            "download_id",
            "object_hash",
            "attempt",
            "status",
            "committed_ns",
            mount_id=pl.lit(0),
            url_path=pl.coalesce(pl.col("url").str.extract(_URL, 2), "url"),
            host=pl.col("url").str.extract(_URL, 1).fill_null(""),
            proxy=pl.when(pl.col("end_proxy") != "DIRECT").then("end_proxy"),
            sent_ns="start_ns",
            last_byte_ns="ended_ns",
        ),
    )
