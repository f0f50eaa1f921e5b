"""How the command used its files: the patterns of access, and how long each held it."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ...probes import fuse
from ...profiler.attribution.page_cache import answered_reads
from ..material import IS_FILE_DATA, Material
from .contention import lock_kinds
from .fetching import fetch_summary
from .held import REQUEST, Held, Linked, chosen, held, linked, without_fetches
from .reading import Reading, reading, repeated_reads
from .shared_files import OneHandle, SharedFiles, one_handle, shared_files
from .sums import count_of, total

#: a file up to this size costs what its round trip costs
SMALL_FILE_BYTES = 128 << 10
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

    ``median_bytes``: of a file; ``each_ns``: mean time of a fetch, ``before_ns`` of it until the
    first byte came and ``transfer_ns`` until the last one, where that was seen; ``mean_at_once``:
    in progress while there was any.
    """

    count: int
    bytes: int
    median_bytes: int
    each_ns: int
    before_ns: int | None
    transfer_ns: int | None
    mean_at_once: float
    held: Held


@dataclass(frozen=True)
class Names:
    """Requests for names and attributes: lookups, of which some found nothing, opens of so many
    different files, and ``others`` by the name of their opcode, the most first; the first of these
    asked of ``others_of`` different files.

    ``held`` by them, without fetches of files; ``catalogs`` of that by fetches of catalogs.
    """

    lookups: int
    not_found: int
    opens: int
    opened_files: int
    others: dict[str, int]
    others_of: int
    held: Held
    catalogs: Held

    @property
    def count(self) -> int:
        """All of them."""
        return self.lookups + self.opens + sum(self.others.values())


@dataclass(frozen=True)
class ReadCalls:
    """Calls that read and supplied bytes without waiting, and their time on the CPU."""

    count: int
    bytes: int
    ns: int


@dataclass(frozen=True)
class Unread:
    """Content fetched for the command, and how much of these files its READs asked for, once.
    Files that are read past the client (FUSE passthrough) are left out.

    ``count``: objects; ``held`` by these fetches.
    """

    count: int
    fetched_bytes: int
    asked_bytes: int
    held: Held


@dataclass(frozen=True)
class Patterns:
    """How the command used its files. ``small_files`` are those of ``whole_files`` that have up to
    ``SMALL_FILE_BYTES``. ``lock_kinds_ns``: see `lock_kinds`.
    """

    reading: Reading
    page_cache: PageCache
    whole_files: WholeFiles
    small_files: WholeFiles
    names: Names
    read_calls: ReadCalls
    unread: Unread
    shared: SharedFiles
    one_handle: OneHandle | None
    lock_kinds_ns: dict[str, int]


def patterns(material: Material) -> Patterns:
    """Return how the command used its files."""
    pieces = linked(material)
    whole = material.own["fetches"].filter(object_kind="file", outcome="downloaded")
    small = whole.filter(pl.col("unpacked_bytes") <= SMALL_FILE_BYTES)
    return Patterns(
        reading=reading(material, pieces),
        page_cache=_page_cache(material.page_cache),
        whole_files=_whole_files(material, pieces, whole),
        small_files=_whole_files(material, pieces, small),
        names=_names(material, without_fetches(pieces)),
        read_calls=_read_calls(material.frames["hits"]),
        unread=_unread(material, pieces),
        shared=shared_files(material, pieces),
        one_handle=one_handle(material, pieces),
        lock_kinds_ns=lock_kinds(material.own["lock_waits"], material.frames["fuse_requests"]),
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


def _whole_files(material: Material, pieces: Linked, whole: pl.DataFrame) -> WholeFiles:
    """The numbers of these fetches of whole files."""
    summary = fetch_summary(whole, material.window)
    lasted = whole.select(ns=pl.col("end_ns") - pl.col("start_ns"))
    before_ns, transfer_ns = _until_they_came(whole, material.own["downloads"])
    return WholeFiles(
        count=whole.height,
        bytes=total(whole, "unpacked_bytes"),
        median_bytes=round(whole["unpacked_bytes"].median() or 0),  # type: ignore[arg-type]
        each_ns=total(lasted, "ns") // max(whole.height, 1),
        before_ns=before_ns,
        transfer_ns=transfer_ns,
        mean_at_once=summary.mean_at_once,
        held=held(pieces, whole, "fetch_id"),
    )


def _until_they_came(fetches: pl.DataFrame, downloads: pl.DataFrame) -> tuple[int | None, ...]:
    """Mean time from the beginning of a fetch to its first byte, and from that to the last."""
    times = downloads.select("download_id", "first_byte_ns", "last_byte_ns").drop_nulls()
    means = fetches.join(times, on="download_id").select(
        (pl.col("first_byte_ns") - pl.col("start_ns")).mean(),
        transfer=(pl.col("last_byte_ns") - pl.col("first_byte_ns")).mean(),
    )
    return tuple(None if mean is None else round(mean) for mean in means.row(0))


def _names(material: Material, pieces: Linked) -> Names:
    of_names = material.own["fuse_requests"].filter(pl.col("opcode").is_in(fuse.NAME_OPCODES))
    is_lookup, is_open = pl.col("opcode") == fuse.LOOKUP, pl.col("opcode") == fuse.OPEN
    others = of_names.filter(~is_lookup & ~is_open)["opcode"].value_counts()
    by_count = others.sort("count", "opcode", descending=[True, False])
    return Names(
        lookups=count_of(of_names, is_lookup),
        not_found=count_of(of_names, is_lookup & (pl.col("error") == _NOT_FOUND)),
        opens=count_of(of_names, is_open),
        opened_files=of_names.filter(is_open).select("mount_id", "node_id").n_unique(),
        others={fuse.OPCODES[opcode]: count for opcode, count in by_count.iter_rows()},
        others_of=of_names.join(by_count.head(1), on="opcode", how="semi")
        .select("mount_id", "node_id")
        .n_unique(),
        held=held(pieces, of_names, REQUEST),
        catalogs=held(chosen(pieces, pl.col("fetch_id").is_not_null()), of_names, REQUEST),
    )


def _unread(material: Material, pieces: Linked) -> Unread:
    passed = material.frames["operations"].filter("passthrough")
    downloaded = material.own["fetches"].filter(IS_FILE_DATA & (pl.col("outcome") == "downloaded"))
    fetched = downloaded.join(passed, on="file_id", how="anti")
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
