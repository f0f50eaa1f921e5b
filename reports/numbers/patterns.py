"""How the command used its files: the patterns of access, and how long each held it."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ...probes import fuse
from ...profiler.attribution.page_cache import answered_reads
from ..material import IS_FILE_DATA, Material
from .fetching import fetch_summary
from .held import REQUEST, Held, Linked, held, linked, without_fetches
from .reading import Reading, reading, repeated_reads
from .shared_files import OneHandle, SharedFiles, one_handle, shared_files
from .sums import count_of, total

_NOT_FOUND = -2


@dataclass(frozen=True)
class PageCache:
    """What reads and mappings used, in bytes: ``used`` in all.

    Of it ``kept`` lay in MiB of files of which nothing came during the run: it was in the kernel's
    page cache before. ``again`` is what was used beyond what came during the run of such a MiB.
    """

    used_bytes: int
    kept_bytes: int
    again_bytes: int


@dataclass(frozen=True)
class WholeFiles:
    """Files that were fetched whole since they are not chunked; ``held`` by these fetches.

    ``median_bytes``: of a file; ``each_ns``: mean time of a fetch; ``mean_at_once``: in progress
    while there was any.
    """

    count: int
    bytes: int
    median_bytes: int
    each_ns: int
    mean_at_once: float
    held: Held


@dataclass(frozen=True)
class Names:
    """Requests for names and attributes: lookups, of which some found nothing, opens of so many
    different files, and others.

    ``held`` by them, without fetches of files.
    """

    lookups: int
    not_found: int
    opens: int
    opened_files: int
    others: int
    held: Held

    @property
    def count(self) -> int:
        """All of them."""
        return self.lookups + self.opens + self.others


@dataclass(frozen=True)
class ReadCalls:
    """Calls that read and supplied bytes without waiting, and their time on the CPU."""

    count: int
    bytes: int
    ns: int


@dataclass(frozen=True)
class Unread:
    """Content fetched for the command, and how much of these files its READs asked for, once.

    ``count``: objects; ``held`` by these fetches.
    """

    count: int
    fetched_bytes: int
    asked_bytes: int
    held: Held


@dataclass(frozen=True)
class Patterns:
    """How the command used its files."""

    reading: Reading
    page_cache: PageCache
    whole_files: WholeFiles
    names: Names
    read_calls: ReadCalls
    unread: Unread
    shared: SharedFiles
    one_handle: OneHandle | None


def patterns(material: Material) -> Patterns:
    """Return how the command used its files."""
    pieces = linked(material)
    return Patterns(
        reading=reading(material, pieces),
        page_cache=_page_cache(material.page_cache),
        whole_files=_whole_files(material, pieces),
        names=_names(material, without_fetches(pieces)),
        read_calls=_read_calls(material.frames["hits"]),
        unread=_unread(material, pieces),
        shared=shared_files(material, pieces),
        one_handle=one_handle(material, pieces),
    )


def _page_cache(by_granule: pl.DataFrame) -> PageCache:
    used = pl.col("read_bytes") + pl.col("mapped_bytes")
    came = pl.col("fetched_bytes")
    row = by_granule.select(
        used=used.sum(),
        kept=used.filter(came == 0).sum(),
        again=(used - came).clip(lower_bound=0).filter(came > 0).sum(),
    ).row(0)
    return PageCache(*row)


def _whole_files(material: Material, pieces: Linked) -> WholeFiles:
    whole = material.own["fetches"].filter(object_kind="file", outcome="downloaded")
    summary = fetch_summary(whole, material.window)
    lasted = whole.select(ns=pl.col("end_ns") - pl.col("start_ns"))
    return WholeFiles(
        count=whole.height,
        bytes=total(whole, "unpacked_bytes"),
        median_bytes=round(whole["unpacked_bytes"].median() or 0),  # type: ignore[arg-type]
        each_ns=total(lasted, "ns") // max(whole.height, 1),
        mean_at_once=summary.mean_at_once,
        held=held(pieces, whole, "fetch_id"),
    )


def _names(material: Material, pieces: Linked) -> Names:
    of_names = material.own["fuse_requests"].filter(pl.col("opcode").is_in(fuse.NAME_OPCODES))
    is_lookup, is_open = pl.col("opcode") == fuse.LOOKUP, pl.col("opcode") == fuse.OPEN
    return Names(
        lookups=count_of(of_names, is_lookup),
        not_found=count_of(of_names, is_lookup & (pl.col("error") == _NOT_FOUND)),
        opens=count_of(of_names, is_open),
        opened_files=of_names.filter(is_open).select("mount_id", "node_id").n_unique(),
        others=count_of(of_names, ~is_lookup & ~is_open),
        held=held(pieces, of_names, REQUEST),
    )


def _unread(material: Material, pieces: Linked) -> Unread:
    fetched = material.own["fetches"].filter(IS_FILE_DATA & (pl.col("outcome") == "downloaded"))
    files = material.frames["files"].join(fetched, on="file_id", how="semi")
    nodes = files.select("mount_id", node_id="inode")
    asked = repeated_reads(answered_reads(material.own["fuse_requests"])).join(
        nodes, on=["mount_id", "node_id"], how="semi"
    )
    return Unread(
        count=fetched.height,
        fetched_bytes=total(fetched, "unpacked_bytes"),
        asked_bytes=total(asked, "size_bytes") - total(asked, "again_bytes"),
        held=held(pieces, fetched, "fetch_id"),
    )


def _read_calls(hits: pl.DataFrame) -> ReadCalls:
    calls = hits.filter(pl.col("kind").is_in(["read", "splice"]))
    return ReadCalls(total(calls, "count"), total(calls, "bytes"), total(calls, "ns"))
