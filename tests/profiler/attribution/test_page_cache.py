"""What lay in the page cache already: granules, touches and requests on both sides."""

from __future__ import annotations

from typing import Any

from cvmprof.probes import fuse
from cvmprof.profiler.attribution.page_cache import answered_reads, page_cache_bytes
from cvmprof.tests.profiler.rows import rows

MIB = 1 << 20
FILE = {"file_id": 3, "mount_id": 1, "inode": 17}
READ = {"mount_id": 1, "node_id": 17, "opcode": fuse.READ, "end_ns": 9}


def read(offset: int, size: int, **changes: Any) -> dict[str, Any]:
    return {**READ, "offset_bytes": offset, "size_bytes": size, **changes}


def touch(granule: int, **changes: Any) -> dict[str, Any]:
    return {"file_id": 3, "granule": granule, **changes}


def found(
    touches: list[dict[str, Any]], reads: list[dict[str, Any]], **operation: Any
) -> list[tuple[int, ...]]:
    """Return file_id, granule, read_bytes, mapped_bytes, fetched_bytes."""
    tables = {
        "files": rows("files", FILE),
        "touches": rows("touches", *touches),
        "fuse_requests": rows("fuse_requests", *reads),
        "operations": rows("operations", {"file_id": 3, **operation}),
    }
    return page_cache_bytes(tables).rows()


def test_requests_are_spread_over_the_granules_that_were_used() -> None:
    touches = [touch(1, bytes_read=7), touch(0, bytes_read=5), touch(1, bytes_read=2)]
    reads = [read(MIB - 4096, 3 * 4096), read(MIB, 4096, unique=2), read(5 * MIB, 4096)]
    assert found(touches, reads) == [(3, 0, 5, 0, 4096), (3, 1, 9, 0, 3 * 4096)]


def test_only_answered_reads_of_the_file_count() -> None:
    reads = [
        read(0, 4096, error=-5),
        read(0, 4096, end_ns=None),
        read(0, 4096, node_id=18),
        read(0, 4096, mount_id=2),
        read(0, 4096, opcode=fuse.OPEN),
        read(0, 0),
    ]
    assert found([touch(0, bytes_read=5)], reads) == [(3, 0, 5, 0, 0)]


def test_pages_are_mapped_once_and_inserted_by_whomever() -> None:
    assert found([touch(0, pages_mapped=255)], []) == [(3, 0, 0, 255 * 4096, 0)]
    assert found([touch(0, pages_mapped=7936, pages_inserted=256)], [read(0, 4096)]) == [
        (3, 0, 0, MIB, MIB)
    ]


def test_a_file_read_through_another_is_left_out() -> None:
    assert found([touch(0, bytes_read=5)], [], passthrough=True) == []


def test_answered_reads_are_in_the_order_of_the_queue() -> None:
    requests = rows(
        "fuse_requests",
        read(0, 1, unique=5, queued_ns=20),
        read(0, 1, unique=4, queued_ns=20),
        read(0, 1, unique=6, queued_ns=10),
    )
    assert answered_reads(requests)["unique"].to_list() == [6, 4, 5]
