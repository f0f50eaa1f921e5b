"""A journal with any value at any place: it is read, or refused in one clear line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cvmprof.errors import BadRun, CvmprofError
from cvmprof.profiler.finalise import finalise
from cvmprof.profiler.run.journal import parse_journal
from cvmprof.reports.material import gather
from cvmprof.reports.numbers.statistics import compute
from cvmprof.reports.terminal.summary import render_summary, summary_json

if TYPE_CHECKING:
    from tests.profiler.conftest import SpoolWriter

Line = dict[str, Any]
Place = tuple[str | int, ...]
PROBE = {"event": "request", "family": "raw", "target": "fuse", "reason": None, "hits": 3}
COUNTERS = {"user.pid": "200", "user.ndownload": "7", "user.rx": "9", "user.revision": "2"}
#: a line of each kind that is read and that the run which is damaged does not have yet
MORE: list[Line] = [
    {"kind": "daemon", "pid": 200, "name": "cvmfs2", "threads": [200, 201], "start_ns": 10},
    {"kind": "neighbour", "pid": 300, "name": "cp", "start_ns": 20},
    {"kind": "reader", "pid": 400},
    {"kind": "cache", "pid": 200, "directory": "/cache", "names": ["/cache/cachedb"]},
    {"kind": "library", "pid": 200, "path": "/lib/libcvmfs_fuse.so", "opened_ns": 5000},
    {"kind": "attributes_before", "device": "0:50", "mountpoint": "/cvmfs/models.lab.test",
     "attributes": COUNTERS, "asked_ns": 1010, "answered_ns": 1020, "reason": None},
    {"kind": "attributes", "device": "0:50", "mountpoint": "/cvmfs/models.lab.test",
     "attributes": {**COUNTERS, "user.ndownload": "8"}, "asked_ns": 29000, "answered_ns": 29010},
    {"kind": "probes", "rows": [PROBE]},
    {"kind": "hits", "rows": [{"event": "request", "hits": 4}]},
    {"kind": "losses", "rows": [{"probe": "request", "cause": "full", "count": 2}]},
    {"kind": "incident", "incident": "unasked", "detail": "some were not", "pid": 100},
    {"kind": "launches", "watched": False},
    {"kind": "gpu", "devices": [{"index": 0, "uuid": "G", "name": "H", "memory_bytes": 9}]},
]  # fmt: skip
UGLY: list[Any] = [-1, 2**31, 2**63, 2**64, 1e999, "9" * 40, "\u00b2", "0:50\0", [], {}]
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.sampled_from(UGLY),
    lambda each: st.lists(each, max_size=2) | st.dictionaries(st.text(), each, max_size=2),
    max_leaves=4,
)  # fmt: skip


def places(value: Any) -> Iterator[Place]:
    """Every place in a value where another one can be put."""
    names: list[Any] = []
    if type(value) in (dict, list):
        names = [*value] if type(value) is dict else [*range(len(value))]
    for name in names:
        yield (name,)
        yield from ((name, *rest) for rest in places(value[name]))


def changed(line: Line, place: Place, value: object) -> Line:
    """The line with another value at a place."""
    copy = deepcopy(line)
    inner: Any = copy
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    return copy


@pytest.fixture
def lines(cold_read: SpoolWriter) -> list[Line]:
    """The journal of a run with a line of every kind."""
    written = (cold_read.run / "journal.jsonl").read_text().splitlines()
    more = ({"time_ns": 25000, **line} for line in MORE)
    return [*map(json.loads, written[:-2]), *more, *map(json.loads, written[-2:])]


def read(run: Path, lines: list[Line]) -> None:
    """Make the tables of a run with this journal, and the summary."""
    with TemporaryDirectory() as directory:
        copy = Path(directory) / "run.cvmprof"
        shutil.copytree(run, copy)
        (copy / "journal.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        statistics = compute(gather(finalise(copy)))
        render_summary(statistics)
        summary_json(statistics)


def test_as_it_is_written_it_is_read(cold_read: SpoolWriter, lines: list[Line]) -> None:
    read(cold_read.run, lines)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_value_anywhere_is_read_or_refused(
    cold_read: SpoolWriter, lines: list[Line], data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(lines) - 1))
    place = data.draw(st.sampled_from(list(places(lines[number]))))
    damaged = [*lines]
    damaged[number] = changed(lines[number], place, data.draw(ANYTHING))
    with suppress(CvmprofError):
        read(cold_read.run, damaged)


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ({"kind": "start", "options": 3}, "start.options is not an object"),
        ({"kind": "start", "command": 5}, "start.command is not a list"),
        ({"kind": "start", "command": ["a", 5]}, "start.command[1] is not text"),
        ({"kind": "hits", "rows": [{"hits": -1}]},
         "hits.rows[0].hits is not a whole number from 0 to 9,223,372,036,854,775,807"),
        ({"kind": "stop", "complete": 1}, "stop.complete is not true or false"),
        ({"kind": "attributes", "attributes": {"user.pid": 7}},
         "attributes.attributes.user.pid is not text"),
        ({"kind": "reader"}, "reader.pid is not a whole number from 0 to 2,147,483,647"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(line: Line, fact: str) -> None:
    data = json.dumps({"time_ns": 1, **line}).encode()
    with pytest.raises(BadRun) as refused:
        parse_journal(data)
    assert refused.value.fact == f"the run's journal is damaged: {fact}"


@pytest.mark.parametrize(
    "line",
    [
        {"kind": "losses", "rows": None},
        {"kind": "start", "options": None, "unknown": 5},
        {"kind": "of a later version", "pid": "none"},
    ],
)
def test_what_may_be_absent_or_unknown_is_read(line: Line) -> None:
    assert parse_journal(json.dumps({"time_ns": 1, **line}).encode()).lines


@pytest.mark.parametrize("text", ["9" * 40, "4294967296", "\u00b2", ""])
@pytest.mark.parametrize("kind", ["attributes", "attributes_before"])
def test_what_a_client_says_may_be_no_number(
    cold_read: SpoolWriter, lines: list[Line], kind: str, text: str
) -> None:
    said = dict.fromkeys(COUNTERS, text)
    read(cold_read.run, [{**each, "attributes": said} if each["kind"] == kind else each
                         for each in lines])  # fmt: skip
