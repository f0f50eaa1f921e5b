"""Phase markers: what is written, that lines stay whole, and that the program is not disturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest

PREAMBLE = "import importlib.util, sys\n" + textwrap.dedent(
    """
    specification = importlib.util.spec_from_file_location("phases", sys.argv[1])
    phases = importlib.util.module_from_spec(specification)
    sys.modules["phases"] = phases
    specification.loader.exec_module(phases)
    phase = phases.phase
    """
)


@pytest.fixture(name="module")
def _module(repository_root: Path) -> Path:
    return repository_root / "phases.py"


@contextmanager
def pipe() -> Generator[tuple[BinaryIO, BinaryIO]]:
    """Give the reading and the writing end of a pipe."""
    reading, writing = os.pipe()
    with open(reading, "rb") as reader, open(writing, "wb", buffering=0) as writer:
        yield reader, writer


def start(
    module: Path, body: str, writer: BinaryIO, *, inherit: bool = True
) -> subprocess.Popen[str]:
    """Start a program that uses phases.py by itself, as a user's copy would be used."""
    return subprocess.Popen(
        [sys.executable, "-I", "-c", PREAMBLE + textwrap.dedent(body), str(module)],
        env={**os.environ, "CVMPROF_PHASE_FD": str(writer.fileno())},
        pass_fds=[writer.fileno()] if inherit else [],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(program: subprocess.Popen[str]) -> str:
    """Wait for a program that must succeed in silence on stderr; return its stdout."""
    out, err = program.communicate(timeout=60)
    assert (program.returncode, err) == (0, "")
    return out


def marks(module: Path, body: str) -> tuple[list[dict[str, Any]], int]:
    """Run a program; return the lines it wrote, decoded, and its pid."""
    with pipe() as (reader, writer):
        program = start(module, body, writer)
        writer.close()
        decoded = [json.loads(line) for line in reader]
        finish(program)
    return decoded, program.pid


def test_a_phase_is_two_lines_with_exactly_the_documented_keys(module: Path) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    marked, pid = marks(module, 'with phase("load"):\n    pass')
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    assert [set(mark) for mark in marked] == [{"name", "event", "time_ns", "pid", "tid"}] * 2
    assert [(mark["name"], mark["event"]) for mark in marked] == [
        ("load", "begin"),
        ("load", "end"),
    ]
    assert [(mark["pid"], mark["tid"]) for mark in marked] == [(pid, pid)] * 2
    assert before < marked[0]["time_ns"] < marked[1]["time_ns"] < after


def test_phases_nest_and_end_when_an_exception_passes(module: Path) -> None:
    body = """
    try:
        with phase("outer"):
            with phase("inner"):
                raise LookupError
    except LookupError:
        pass
    """
    marked, _ = marks(module, body)
    assert [(mark["name"], mark["event"]) for mark in marked] == [
        ("outer", "begin"),
        ("inner", "begin"),
        ("inner", "end"),
        ("outer", "end"),
    ]


def test_a_decorated_function_is_a_phase_at_every_call(module: Path) -> None:
    body = """
    @phase("step")
    def step(value):
        return value + 1
    assert [step(1), step(2)] == [2, 3] and step.__name__ == "step"
    """
    marked, _ = marks(module, body)
    assert [mark["event"] for mark in marked] == ["begin", "end", "begin", "end"]


def test_lines_of_concurrent_threads_and_processes_stay_whole(module: Path) -> None:
    body = """
    import os, threading
    def work():
        for number in range(101):
            with phase("%d %s" % (threading.get_native_id(), "x" * 200)):
                pass
    def threads():
        started = [threading.Thread(target=work) for _ in range(3)]
        for each in started: each.start()
        for each in started: each.join()
    child = os.fork()
    threads()
    if child:
        assert os.waitpid(child, 0)[1] == 0
    """
    marked, _ = marks(module, body)
    assert len(marked) == 2 * 101 * 3 * 2
    assert all(mark["name"] == f"{mark['tid']} {'x' * 200}" for mark in marked)
    assert len({mark["pid"] for mark in marked}) == 2
    assert len({mark["tid"] for mark in marked}) == 6


def test_a_program_that_was_executed_by_another_keeps_the_pipe(module: Path) -> None:
    body = """
    import os
    if len(sys.argv) == 2:
        with phase("before"):
            pass
        code = open("/proc/self/cmdline").read().split("\\0")[3]
        os.execv(sys.executable, [sys.executable, "-I", "-c", code, sys.argv[1], "again"])
    with phase("after"):
        pass
    """
    marked, pid = marks(module, body)
    assert [mark["name"] for mark in marked] == ["before", "before", "after", "after"]
    assert {mark["pid"] for mark in marked} == {pid}


def test_any_name_gives_a_line_that_fits_in_an_atomic_write(module: Path) -> None:
    body = r"""
    for name in ("\N{GRINNING FACE}" * 5000, "a\nb\0c", "\udcff", 7):
        with phase(name):
            pass
    """
    marked, _ = marks(module, body)
    expected = ["\N{GRINNING FACE}" * 256, "a\nb\0c", "\udcff", "7"]
    assert [mark["name"] for mark in marked[::2]] == expected
    assert max(len(json.dumps(mark)) + 1 for mark in marked) <= 4096


def test_a_reader_that_went_away_does_not_disturb_even_with_sigpipe_restored(module: Path) -> None:
    body = """
    import signal
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    with phase("one"):
        print("ready", flush=True)
        sys.stdin.readline()
    with phase("two"):
        pass
    print("alive")
    """
    with pipe() as (reader, writer):
        program = subprocess.Popen(
            [sys.executable, "-I", "-c", PREAMBLE + textwrap.dedent(body), str(module)],
            env={**os.environ, "CVMPROF_PHASE_FD": str(writer.fileno())},
            pass_fds=[writer.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert program.stdout is not None
        assert program.stdout.readline() == "ready\n"
        reader.close()
        out, _ = program.communicate("go\n", timeout=60)
    assert (program.returncode, out) == (0, "alive\n")


def test_a_stuck_reader_delays_the_program_once_by_about_a_second(
    module: Path,
) -> None:
    body = """
    import time
    started = time.monotonic()
    for number in range(100000):
        with phase("x" * 250):
            pass
    print(time.monotonic() - started)
    """
    with pipe() as (_, writer):
        seconds = float(finish(start(module, body, writer)))
    assert 0.9 < seconds < 10


def test_a_descriptor_that_became_another_file_is_not_written_to(
    module: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    body = f"""
    import os
    with phase("one"):
        os.dup2(os.open({str(other)!r}, os.O_CREAT | os.O_WRONLY), int(sys.argv[2]))
    """
    code = PREAMBLE + textwrap.dedent(body)
    with pipe() as (reader, writer):
        program = subprocess.Popen(
            [sys.executable, "-I", "-c", code, str(module), str(writer.fileno())],
            env={**os.environ, "CVMPROF_PHASE_FD": str(writer.fileno())},
            pass_fds=[writer.fileno()],
        )
        writer.close()
        events = [json.loads(line)["event"] for line in reader]
        assert program.wait(timeout=60) == 0
    assert events == ["begin"]
    assert other.read_bytes() == b""


@pytest.mark.parametrize("value", ["", "-1", "1.5", "seven", "²", "9" * 400, "99999"])
def test_a_variable_that_names_no_pipe_is_ignored(module: Path, value: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-I", "-c", PREAMBLE + 'with phase("x"):\n    print("in")', str(module)],
        env={**os.environ, "CVMPROF_PHASE_FD": value},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "in\n", "")


def test_a_regular_file_behind_the_number_is_not_written_to(module: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with open(other, "wb", buffering=0) as file:
        finish(start(module, 'with phase("x"):\n    pass', file))
    assert other.read_bytes() == b""


def test_a_file_opened_for_appending_takes_the_lines(module: Path, tmp_path: Path) -> None:
    log = tmp_path / "phases.jsonl"
    with open(log, "ab", buffering=0) as file:
        finish(start(module, 'with phase("x"):\n    pass', file))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["name"], line["event"]) for line in lines] == [("x", "begin"), ("x", "end")]


def test_a_descriptor_that_was_not_inherited_is_ignored(module: Path) -> None:
    with pipe() as (_, writer):
        program = start(module, 'with phase("x"):\n    print("in")', writer, inherit=False)
        assert finish(program) == "in\n"


def test_untraced_a_decorator_returns_the_function_itself_and_a_phase_costs_under_5_us(
    module: Path,
) -> None:
    body = """
    import timeit
    def step(): pass
    assert phase("x")(step) is step
    def one():
        with phase("x"):
            pass
    print(min(timeit.repeat(one, number=20000, repeat=5)) / 20000)
    """
    with pipe() as (_, writer):
        seconds = float(finish(start(module, body, writer, inherit=False)))
    assert seconds < 5e-6


def test_marking_phases_imports_neither_polars_nor_the_rest_of_the_package() -> None:
    code = (
        "import sys; from cvmprof import phase\n"
        "rooms = ('cvmprof', 'polars', 'click')\n"
        "print(*sorted(name for name in sys.modules if name.split('.')[0] in rooms))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert out.split() == ["cvmprof", "cvmprof.phases"]
