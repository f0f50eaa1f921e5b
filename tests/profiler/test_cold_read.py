"""From a spool to tables: two threads read one cold chunk, by literal numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cvmprof.profiler.finalise import finalise

if TYPE_CHECKING:
    from tests.profiler.conftest import SpoolWriter

CHUNK = "0123456789abcdef0123456789abcdef01234567"


def test_tiling_of_the_thread_that_caused_the_fetch(cold_read: SpoolWriter) -> None:
    segments = finalise(cold_read.run).tables["segments"]
    rows = segments.filter(tid=100).sort("start_ns")
    assert rows.select("start_ns", "end_ns", "cause").rows() == [
        (1000, 2000, "cpu"),
        (2000, 2200, "copy"),
        (2200, 2500, "fuse_queue"),
        (2500, 2600, "daemon"),
        (2600, 2700, "cache_read"),
        (2700, 2750, "fetch"),
        (2750, 2800, "fetch_queue"),
        (2800, 3000, "connect"),
        (3000, 4000, "first_byte"),
        (4000, 7000, "transfer"),
        (7000, 7500, "fetch"),
        (7500, 7800, "cache_write"),
        (7800, 7900, "cache_read"),
        (7900, 8000, "reply"),
        (8000, 8100, "reply"),
        (8100, 9000, "copy"),
        (9000, 30000, "cpu"),
    ]
