"""Programs that lie on the mount: what the kernel reads of them when they are executed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cvmprof import open_run
from cvmprof.profiler.run.opened import Run
from cvmprof.runners.lab.lab import Access, Lab, Rule, Shaping, accesses, cold, mount, order

from .conftest import operations_on, served_lab

#: the server holds back the first and the second object for so long
FIRST_S, SECOND_S = 0.15, 0.25
DELAYS = Shaping(
    rules=(
        Rule("delay", "/data/", delay_s=FIRST_S, times=1),
        Rule("delay", "/data/", delay_s=SECOND_S, skip=1, times=1),
    )
)
#: without a copy of the process; and by a thread that is not the first
SPAWN = """
import os, sys
os.waitpid(os.posix_spawn(sys.argv[1], ["cat", os.devnull], {}), 0)
"""
EXEC_IN_A_THREAD = """
import os, sys, threading
threading.Thread(target=os.execv, args=[sys.argv[1], sys.argv[1:]]).start()
threading.Event().wait()
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Path]]:
    """A lab with programs on its mount: cat, a shell, a script of it, and a file for a shell."""
    root = tmp_path_factory.mktemp("exec")
    source, place = root / "source", root / "mnt"
    source.mkdir()
    for name in ("cat", "sh"):
        shutil.copy(Path("/bin", name).resolve(), source / name)
    (source / "script").write_text(f"#!{place}/sh\nexit 0\n")
    (source / "headless").write_text("exit 0\n")
    for program in source.iterdir():
        program.chmod(0o755)
    with served_lab(root, source) as lab:
        yield lab, mount(lab, place)


@pytest.fixture
def place(programs: tuple[Lab, Path]) -> Iterator[Path]:
    """The mount, cold, with a server that delays the next two objects."""
    lab, mounted = programs
    order(lab, Shaping())
    cold([mounted])
    order(lab, DELAYS)
    yield mounted
    order(lab, Shaping())


Traced = Callable[..., tuple[Run, list[Access]]]


@pytest.fixture
def traced(programs: tuple[Lab, Path], tmp_path: Path) -> Traced:
    """Traces a command; the run, and the data objects that were served meanwhile."""

    def trace(*command: object) -> tuple[Run, list[Access]]:
        before, where = len(accesses(programs[0])), tmp_path / "run.cvmprof"
        tool = [sys.executable, "-m", "cvmprof", "trace", "--no-report", "-o", str(where), "--"]
        subprocess.run(
            [*tool, *map(str, command)], check=True, timeout=120, stdout=subprocess.DEVNULL
        )
        served = [access for access in accesses(programs[0])[before:] if "/data/" in access.path]
        return open_run(where), sorted(served, key=lambda access: access.request_ns)

    return trace


def held_back_ns(access: Access) -> int:
    """How long the server let the client wait for the first byte."""
    assert access.first_byte_ns is not None
    return access.first_byte_ns - access.request_ns


def assert_waited_within(run: Run, execution: dict[str, Any], served: list[Access]) -> None:
    """The call of exec waited for each of these objects, for as long as the server says."""
    segments = run.tables["segments"].filter(op_id=execution["op_id"])
    spent = segments.with_columns(ns=pl.col("end_ns") - pl.col("start_ns"))
    fetches = run.tables["fetches"].sort("start_ns")
    for fetch, access, delay_s in zip(
        fetches.iter_rows(named=True), served, (FIRST_S, SECOND_S)[: len(served)], strict=True
    ):
        waited = spent.filter(fetch_id=fetch["fetch_id"])
        assert delay_s * 1e9 <= held_back_ns(access) <= waited["ns"].sum()
        # on a busy machine the client waits for a CPU as well
        own = waited.filter(pl.col("cause") != "runqueue")
        assert own["ns"].sum() <= held_back_ns(access) + 50_000_000
        assert execution["start_ns"] < access.request_ns
        assert execution["end_ns"] > access.request_ns + held_back_ns(access)
        assert waited["unique"].null_count() == 0


def only_open(run: Run, path: Path) -> dict[str, Any]:
    """The one operation that opened a file, which succeeded."""
    (opened,) = operations_on(run, path).filter(kind="open", result=0).to_dicts()
    return opened


def test_the_command_is_a_program_on_the_mount(place: Path, traced: Traced) -> None:
    """Its time begins when it is executed, before its first byte is there."""
    run, served = traced(place / "cat", "/dev/null")
    assert len(served) == 1
    execution = only_open(run, place / "cat")
    assert_waited_within(run, execution, served)
    segments = run.tables["segments"].sort("start_ns")
    assert segments["start_ns"][0] == execution["start_ns"]
    assert set(segments["tid"]) == {execution["tid"]}
    (fetch,) = run.tables["fetches"].to_dicts()
    assert fetch["file_id"] == execution["file_id"]


def test_the_interpreter_of_the_command_is_on_the_mount_too(place: Path, traced: Traced) -> None:
    run, served = traced(place / "script")
    assert len(served) == 2
    execution = only_open(run, place / "sh")
    assert_waited_within(run, execution, served)
    assert run.tables["segments"]["start_ns"].min() == execution["start_ns"]
    named = run.tables["files"].select("file_id", "path")
    fetched = (
        run.tables["fetches"].sort("start_ns").join(named, on="file_id", maintain_order="left")
    )
    assert fetched["path"].to_list() == [str(place / "script"), str(place / "sh")]


def test_a_command_without_an_interpreter_begins_with_the_call_that_failed(
    place: Path, traced: Traced
) -> None:
    run, served = traced(place / "headless")
    assert len(served) == 1
    (refused,) = run.tables["operations"].filter(kind="open", result=-8).to_dicts()
    assert_waited_within(run, refused, served)
    assert run.tables["segments"]["start_ns"].min() == refused["start_ns"]
    assert run.tables["failed_operations"].is_empty()


@pytest.mark.parametrize("how", ["forked", "spawned", "by a thread"])
def test_a_program_that_is_executed_later(place: Path, traced: Traced, how: str) -> None:
    program = place / "cat"
    commands: dict[str, list[object]] = {
        "forked": ["sh", "-c", f"{program} /dev/null; true"],
        "spawned": [sys.executable, "-I", "-c", SPAWN, program],
        "by a thread": [sys.executable, "-I", "-c", EXEC_IN_A_THREAD, program, os.devnull],
    }  # fmt: skip
    run, served = traced(*commands[how])
    assert len(served) == 1
    execution = only_open(run, program)
    assert_waited_within(run, execution, served)
    assert run.tables["segments"].filter(pl.col("start_ns") < execution["start_ns"]).height > 0
