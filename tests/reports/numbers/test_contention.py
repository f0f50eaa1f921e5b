"""Waits for a lock that another open file held, and what was fetched for no request."""

from __future__ import annotations

from typing import Any

from cvmprof.reports.numbers.contention import (
    Collisions,
    collisions,
    lock_kinds,
    own_fetches,
)
from cvmprof.tests.reports.synthetic import Rows

NONE = Collisions(0, 0, 0, None, None)


def named_rows() -> Rows:
    """Requests 1, 2 on mount 0 about files a, b, and 1 on mount 1 about c; 3 is about no file."""
    rows = Rows()
    files = ((0, 0, 10, "/a"), (1, 0, 20, "/b"), (2, 1, 10, "/c"))
    for file_id, mount, inode, path in files:
        rows.add("files", file_id=file_id, mount_id=mount, inode=inode, generation=0, path=path)
    for mount, unique, node in ((0, 1, 10), (0, 2, 20), (1, 1, 10), (0, 3, 99)):
        rows.add("fuse_requests", mount_id=mount, unique=unique, node_id=node, opcode=15, pid=1,
                 tid=1, error=0)  # fmt: skip
    return rows


def waited(rows: Rows, start_ns: int, end_ns: int | None, **values: Any) -> None:
    """A collision of request 1 with request 2 on mount 0, unless said otherwise."""
    plain = {"mount_id": 0, "unique": 1, "holder_unique": 2, "kind": "collision"}
    rows.add("lock_waits", start_ns=start_ns, end_ns=end_ns, pid=9, tid=9, holder_tid=8,
             **{**plain, **values})  # fmt: skip


def of(rows: Rows) -> Collisions:
    return collisions(rows.frames())


def test_without_a_collision_that_ended_there_is_none() -> None:
    rows = named_rows()
    assert of(rows) == NONE
    waited(rows, 0, 90, kind="same_handle")
    waited(rows, 0, 90, kind="catalog")
    waited(rows, 0, None)
    assert of(rows) == NONE


def test_one_collision() -> None:
    rows = named_rows()
    waited(rows, 100, 130)
    waited(rows, 0, None)
    waited(rows, 0, 90, kind="other")
    assert of(rows) == Collisions(1, 30, 30, "/a", "/b")


def test_the_longest_is_named_and_all_are_summed() -> None:
    rows = named_rows()
    waited(rows, 0, 10)
    waited(rows, 100, 150, unique=2, holder_unique=1)
    waited(rows, 200, 230)
    assert of(rows) == Collisions(2, 90, 50, "/b", "/a")


def test_of_two_equally_long_the_first_is_named() -> None:
    rows = named_rows()
    waited(rows, 200, 250)
    waited(rows, 100, 150, unique=2, holder_unique=1)
    assert of(rows).waiting_path == "/b"


def test_a_request_is_one_of_its_mount() -> None:
    rows = named_rows()
    waited(rows, 0, 50, mount_id=1, unique=1, holder_unique=2)
    waited(rows, 60, 70)
    assert of(rows) == Collisions(2, 60, 50, "/c", None)


def test_what_is_about_no_known_file_has_no_path() -> None:
    rows = named_rows()
    waited(rows, 0, 50, unique=3, holder_unique=None)
    assert of(rows) == Collisions(1, 50, 50, None, None)
    waited(rows, 0, 60, unique=77, holder_unique=3)
    assert of(rows) == Collisions(2, 110, 60, None, None)


def test_a_file_without_a_path_is_named_by_its_inode() -> None:
    rows = named_rows()
    rows.rows["files"][0]["path"] = None
    waited(rows, 0, 50)
    assert of(rows).waiting_path == "inode 10 on mount 0"


def test_waits_for_locks_by_their_kind() -> None:
    rows = named_rows()

    def found() -> dict[str, int]:
        return lock_kinds(*(rows.frames()[table] for table in ("lock_waits", "fuse_requests")))

    rows.rows["fuse_requests"][1]["tid"] = 2
    assert found() == {}
    for kind, lasted in (("collision", 7), ("same_handle", 9), ("collision", 4), ("other", None)):
        waited(rows, 10, None if lasted is None else 10 + lasted, kind=kind)
    assert list(found().items()) == [("collision", 11), ("same_handle", 9)]
    waited(rows, 0, 3, kind="same_handle", holder_unique=3)
    waited(rows, 0, 4, kind="same_handle", holder_unique=None)
    assert found() == {"collision": 11, "same_handle": 13, "readahead": 3}


def test_objects_of_files_that_no_request_asked_for() -> None:
    rows = Rows()
    assert own_fetches(rows.frames()) == 0
    fetched = ((None, "chunk"), (None, "file"), (None, "chunk"), (None, "catalog"), (None, None),
               (5, "chunk"), (0, "file"))  # fmt: skip
    for number, (unique, kind) in enumerate(fetched):
        rows.add("fetches", fetch_id=number, pid=1, tid=1, start_ns=0, unique=unique,
                 object_kind=kind)  # fmt: skip
    assert own_fetches(rows.frames()) == 3
