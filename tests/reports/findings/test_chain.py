from __future__ import annotations

from dataclasses import replace

from cvmprof.reports.findings import chain
from cvmprof.reports.numbers.links import Access, Fetch, Link, Part, Request
from cvmprof.tests.reports.synthetic import MIB, MS

PART = Part("/cvmfs/m/model.safetensors", 20 * MIB, ("a.weight",), 0)
LINK = Link(
    7 * MS, 0, 7 * MS, 101, "python3",
    Access("fault", 0, 7 * MS, PART),
    Request("/cvmfs/m", 2004, 0, 6 * MS),
    Fetch(2, "faadb0600ea00a4b", "chunk", "stratum1:80", 0, 5 * MS, PART),
    1,
)  # fmt: skip


def test_the_steps_from_the_thread_to_the_chunk() -> None:
    assert chain.steps(LINK) == (
        "thread python3 101 ← page fault at a.weight (model.safetensors + 20.0 MiB) ← "
        "request 2004 on /cvmfs/m, 6.00 ms ← "
        "fetch of chunk faadb0600ea0… from stratum1:80, 5.00 ms"
    )


def test_steps_that_are_not_known_are_left_out() -> None:
    bare = replace(LINK, thread=None, access=None, request=None, fetch=None)
    assert chain.steps(bare) == "thread 101"
    assert LINK.fetch is not None
    assert LINK.request is not None
    unknown = replace(LINK.fetch, object_hash=None, object_kind=None, host=None, end_ns=None)
    assert chain.fetch(unknown) == "fetch of object, never ended"
    assert chain.request(replace(LINK.request, end_ns=None)) == "request 2004 on /cvmfs/m"
    assert chain.where(Part(None, None, (), 0)) == "at a file not known"
    assert chain.where(replace(PART, tensors=())) == "at model.safetensors + 20.0 MiB"


def test_other_fetches_of_the_wait_are_counted() -> None:
    assert chain.steps(replace(LINK, fetches=3)).endswith(", 5.00 ms and 2 more fetches")
    assert chain.others(replace(LINK, fetches=2)) == " and 1 more fetch"


def test_two_tensors_are_named_and_more_are_counted() -> None:
    assert chain.tensors(replace(PART, tensors=("a", "b"))) == "a and b"
    assert chain.tensors(replace(PART, tensors=("a", "b"), more=2)) == "a and 3 more"
    assert chain.tensors(replace(PART, tensors=("\x1b[1m",))) == "\\x1b[1m"
