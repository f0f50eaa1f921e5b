"""The parts of a page as data: whose work a lane shows, and what is said beside it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cvmprof.reports.figures.heat import Heat
from cvmprof.reports.figures.parts import fetch_parts
from cvmprof.reports.material import gather
from cvmprof.reports.numbers.statistics import Outcome, compute
from cvmprof.reports.numbers.survivors import Survivor, Survivors
from cvmprof.reports.page.sections import Block, facts_of_run, heat_block, with_scope
from cvmprof.reports.page.tables import sections_of_run
from cvmprof.reports.page.tensors import sections_of_tensors
from cvmprof.tests.reports.rows import quiet
from cvmprof.tests.reports.synthetic import MS, PID, START, cold_run, run_of, tiny_rows
from cvmprof.tests.reports.synthetic_gpu import gpu_run

OTHER = 777


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("requests", "Of 2 requests of everybody, 1 for the command. Every interval is drawn."),
        ("threads", "Every interval is drawn."),
    ],
)
def test_a_lane_of_the_mounts_says_how_much_is_the_command_s(name: str, said: str) -> None:
    rows = tiny_rows()
    request: dict[str, Any] = {
        "mount_id": 0, "opcode": 15, "node_id": 1, "queued_ns": START, "end_ns": START + MS,
        "error": 0,
    }  # fmt: skip
    rows.add("fuse_requests", **request, unique=98, pid=PID, tid=PID)
    block = Block(name, "", "", note="Every interval is drawn.")
    assert with_scope(block, gather(run_of(rows))) == block
    rows.add("fuse_requests", **request, unique=99, pid=OTHER, tid=OTHER)
    assert with_scope(block, gather(run_of(rows))).note == said


def test_a_heat_map_of_one_of_several_files_says_so() -> None:
    heat = Heat("/cvmfs/a/m", [0, 1], [0, 1], gather(run_of(tiny_rows())).frames["files"]["inode"])
    assert heat_block(heat).explanation == (
        "/cvmfs/a/m: the offset runs downwards, darker is more."
    )
    assert heat_block(replace(heat, files=2)).explanation == (
        "/cvmfs/a/m, the most touched of 2 files above 1 MiB: the offset runs downwards, darker is "
        "more."
    )


@pytest.mark.parametrize(
    ("fetched", "title"),
    [(17, "The slowest chunks"), (40, "The 30 slowest chunks or files; 40 were downloaded")],
)
def test_a_table_of_some_chunks_says_of_how_many(fetched: int, title: str) -> None:
    run = cold_run(fetched, fetched + 2)
    material = gather(run)
    statistics = compute(material)
    found = sections_of_run(statistics, fetch_parts(material.frames, material.window))
    assert [each.title for each in found if each.anchor == "chunks"] == [title]


@pytest.mark.parametrize(
    ("kept", "title"), [(15, "The longest stalls"), (44, "The 15 longest stalls, of 44")]
)
def test_a_table_of_some_stalls_says_of_how_many(kept: int, title: str) -> None:
    material = gather(gpu_run())
    found = compute(material)
    stalls = replace(found.stalls, count=kept, longest=found.stalls.longest[:kept])
    sections = sections_of_run(
        replace(found, stalls=stalls), fetch_parts(material.frames, material.window)
    )
    assert [each.title for each in sections if each.anchor == "stalls"] == [title]


@pytest.mark.parametrize(
    ("times", "title"),
    [
        (1, "Tensors that were late"),
        (2, "Tensors that were late: the 20 waited for longest, of 24"),
    ],
)
def test_a_table_of_some_tensors_says_of_how_many(times: int, title: str) -> None:
    found = compute(gather(gpu_run()))
    late = found.tensors.latest * times
    tensors = replace(found.tensors, latest=late, late=len(late))
    assert [each.title for each in sections_of_tensors(replace(found, tensors=tensors))] == [title]


@pytest.mark.parametrize(
    ("outcome", "text", "tone"),
    [
        (Outcome(0, None, complete=True), "succeeded", ""),
        (Outcome(None, None, complete=True), "end not seen", ""),
        (Outcome(3, None, complete=True), "exit code 3", "bad"),
        (Outcome(None, 9, complete=True), "killed by signal 9", "bad"),
        (Outcome(0, None, complete=False), "incomplete run", "bad"),
    ],
)
def test_the_end_of_the_command(outcome: Outcome, text: str, tone: str) -> None:
    took, ended, *_ = facts_of_run(quiet(outcome=outcome))
    assert (took.text, ended.text, ended.tone) == ("100 ms", text, tone)


def test_the_end_of_a_recording_is_not_that_of_the_command() -> None:
    alive = Survivors((Survivor(PID, "sleep", ("sleep", "3"), "blocked"),), command_did=True)
    failed = Outcome(3, None, complete=True)
    took, ended, *_ = facts_of_run(quiet(outcome=failed, survivors=alive))
    assert took.text == "100 ms recorded"
    assert (ended.text, ended.tone) == ("then the command went on (exit code 3)", "bad")
    took, ended, *_ = facts_of_run(quiet(survivors=replace(alive, command_did=False)))
    assert (took.text, ended.text) == ("100 ms", "succeeded")
