"""Phase markers: what is written, that lines stay whole, and that the program is not disturbed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from cvmprof.phases import named

PREAMBLE = "import importlib.util, os, sys\n" + textwrap.dedent(
    """
    specification = importlib.util.spec_from_file_location("phases", sys.argv[1])
    phases = importlib.util.module_from_spec(specification)
    sys.modules["phases"] = phases
    specification.loader.exec_module(phases)
    phase = phases.phase
    """
)
#: another Python that marks a phase, as a program's child
CHILD = """
import sys
sys.path.insert(0, {directory!r})
from phases import phase
with phase("child"):
    pass
"""


class Program:
    """A program that uses phases.py by itself, as a user's copy would be used, and the run's file.

    ``variable`` is what it finds in its environment.
    """

    def __init__(self, directory: Path, module: Path) -> None:
        self.directory = directory
        self.module = module
        self.file = directory / "phases.jsonl"
        self.file.touch(mode=0o600)
        self.variable = named(str(self.file), self.file.stat())

    def start(self, body: str, *arguments: str) -> subprocess.Popen[str]:
        """Start it."""
        code = PREAMBLE + textwrap.dedent(body)
        return subprocess.Popen(
            [sys.executable, "-I", "-c", code, str(self.module), *arguments],
            cwd=self.directory,
            env={**os.environ, "CVMPROF_PHASES": self.variable},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def output(self, body: str, *arguments: str) -> str:
        """Run it: it must succeed in silence on stderr. Return what it printed."""
        program = self.start(body, *arguments)
        out, err = program.communicate(timeout=60)
        assert (program.returncode, err) == (0, "")
        return out

    def marks(self) -> list[dict[str, Any]]:
        """The lines that were written."""
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    def names(self) -> list[tuple[str, str]]:
        """The names and events of the lines."""
        return [(mark["name"], mark["event"]) for mark in self.marks()]


@pytest.fixture(name="program")
def _program(tmp_path: Path, repository_root: Path) -> Program:
    return Program(tmp_path, repository_root / "phases.py")


def both(*names: str) -> list[tuple[str, str]]:
    """The begin and the end of each, one after the other."""
    return [(name, event) for name in names for event in ("begin", "end")]


# --- what is written ------------------------------------------------------------------------------


def test_a_phase_is_two_lines_with_exactly_the_documented_keys(program: Program) -> None:
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    pid = int(program.output('with phase("load"):\n    print(os.getpid())'))
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    marked = program.marks()
    assert [set(mark) for mark in marked] == [{"name", "event", "time_ns", "pid", "tid"}] * 2
    assert program.names() == both("load")
    assert [(mark["pid"], mark["tid"]) for mark in marked] == [(pid, pid)] * 2
    assert before < marked[0]["time_ns"] < marked[1]["time_ns"] < after


def test_phases_nest_and_end_when_an_exception_passes(program: Program) -> None:
    body = """
    try:
        with phase("outer"):
            with phase("inner"):
                raise LookupError
    except LookupError:
        pass
    """
    program.output(body)
    assert program.names() == [
        ("outer", "begin"),
        ("inner", "begin"),
        ("inner", "end"),
        ("outer", "end"),
    ]


def test_a_decorated_function_is_a_phase_at_every_call(program: Program) -> None:
    body = """
    @phase("step")
    def step(value):
        return value + 1
    assert [step(1), step(2)] == [2, 3] and step.__name__ == "step"
    """
    program.output(body)
    assert program.names() == both("step", "step")


def test_lines_of_concurrent_threads_and_processes_stay_whole(program: Program) -> None:
    """They all open the file at once, since none has marked a phase before."""
    body = """
    import threading
    met = threading.Barrier(3)
    def work():
        name = "%d %s" % (threading.get_native_id(), "x" * 200)
        met.wait()
        for number in range(101):
            with phase(name):
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
    program.output(body)
    marked = program.marks()
    assert len(marked) == 2 * 101 * 3 * 2
    assert all(mark["name"] == f"{mark['tid']} {'x' * 200}" for mark in marked)
    assert len({mark["pid"] for mark in marked}) == 2
    assert len({mark["tid"] for mark in marked}) == 6


def test_any_name_gives_a_line(program: Program) -> None:
    body = r"""
    class Unspeakable:
        def __str__(self): raise ValueError
    for name in ("\N{GRINNING FACE}" * 5000, "a\nb\0c%s\"", "\udcff", 7, None, Unspeakable()):
        with phase(name):
            pass
    """
    program.output(body)
    expected = ["\N{GRINNING FACE}" * 256, 'a\nb\0c%s"', "\udcff", "7", "None", "Unspeakable"]
    assert [mark["name"] for mark in program.marks()[::2]] == expected
    assert max(map(len, program.file.read_bytes().splitlines())) < 4096


# --- children -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "import subprocess; subprocess.run([sys.executable, '-I', '-c', sys.argv[2]], check=True)",
        "os.execv(sys.executable, [sys.executable, '-I', '-c', sys.argv[2]])",
        """os.closerange(3, 4096)
os.execv(sys.executable, [sys.executable, '-I', '-c', sys.argv[2]])""",
        """os.waitpid(os.posix_spawn(sys.executable, [sys.executable, '-I', '-c', sys.argv[2]],
                                     os.environ), 0)""",
    ],
    ids=["subprocess", "exec", "closed and exec", "posix_spawn"],
)  # fmt: skip
def test_a_program_that_is_executed_marks_its_phases(program: Program, body: str) -> None:
    child = CHILD.format(directory=str(program.module.parent))
    body = 'with phase("parent"):\n    pass\n' + textwrap.dedent(body)
    program.output(body, child)
    assert program.names() == both("parent", "child")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_multiprocessing_mark_their_phases(program: Program, method: str) -> None:
    (program.directory / "worker.py").write_text(
        f"import os, sys\nsys.path.insert(0, {str(program.module.parent)!r})\n"
        "from phases import phase\n"
        "def work(name):\n"
        "    with phase(name):\n"
        "        return os.getpid()\n"
    )
    body = f"""
    import multiprocessing
    sys.path.insert(0, os.getcwd())
    from worker import work
    if __name__ == "__main__":
        work("parent")
        with multiprocessing.get_context({method!r}).Pool(1) as pool:
            print(*pool.map(work, ["a", "b"]))
    """
    first, second = map(int, program.output(body).split())
    marked = program.marks()
    assert program.names() == both("parent", "a", "b")
    assert [mark["pid"] for mark in marked[2:]] == [first, first, second, second]
    assert marked[0]["pid"] != first == second


def test_a_daemon_that_closed_everything_marks_its_phases(program: Program) -> None:
    body = """
    with phase("starter"):
        pass
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.chdir("/")
            os.closerange(5, 4096)
            with phase("daemon"):
                pass
        os._exit(0)
    os.close(writing)
    os.read(reading, 1)  # until the last of them ended
    """
    program.output(body)
    assert program.names() == both("starter", "daemon")


def test_a_phase_that_a_child_was_forked_in_ends_in_each_under_its_own_pid(
    program: Program,
) -> None:
    body = """
    with phase("both"):
        child = os.fork()
    if child:
        os.waitpid(child, 0)
        print(os.getpid(), child)
    """
    parent, child = map(int, program.output(body).split())
    ended = [mark["pid"] for mark in program.marks() if mark["event"] == "end"]
    assert sorted(ended) == sorted([parent, child])


def test_after_chroot_an_open_file_is_written_and_a_closed_one_is_not_opened(
    program: Program,
) -> None:
    body = """
    with phase("before"):
        pass
    os.makedirs("root")
    os.chroot("root")
    with phase("after"):
        pass
    os.closerange(3, 4096)
    with phase("out of reach"):
        print("alive")
    """
    assert program.output(body) == "alive\n"
    assert program.names() == both("before", "after")


def test_another_users_process_writes_where_it_had_the_file_open(program: Program) -> None:
    body = """
    if os.fork() == 0:
        os.setuid(65534)
        with phase("never opened"):
            print("alive")
        sys.exit()
    os.wait()
    with phase("before"):
        pass
    os.setuid(65534)
    with phase("after"):
        pass
    """
    assert program.output(body) == "alive\n"
    assert program.names() == both("before", "after")


def test_a_privileged_process_does_not_write_to_a_file_of_another_user(program: Program) -> None:
    os.chown(program.file, 65534, 65534)
    assert program.output('with phase("x"):\n    print("alive")') == "alive\n"
    assert program.marks() == []


# --- the program's descriptors --------------------------------------------------------------------


def test_a_descriptor_is_open_from_the_first_phase_on_and_not_inherited(program: Program) -> None:
    body = """
    import subprocess
    def opened():
        numbers = sorted(map(int, os.listdir("/proc/self/fd")))
        return [each for each in numbers if os.path.exists("/proc/self/fd/%d" % each)]
    import_left = opened()
    with phase("x"):
        assert opened() == import_left + [64], opened()
        assert os.open("/", os.O_RDONLY) == len(import_left)
        listed = subprocess.check_output(["ls", "/proc/self/fd"], close_fds=False)
        assert b"64" not in listed.split(), listed
    print(os.readlink("/proc/self/fd/64"))
    """
    assert program.output(body) == f"{program.file}\n"


@pytest.mark.parametrize("flags", ["os.O_WRONLY", "os.O_WRONLY | os.O_APPEND"])
def test_a_descriptor_that_became_another_file_is_not_written_to(
    program: Program, flags: str
) -> None:
    body = f"""
    with phase("one"):
        os.dup2(os.open("other", os.O_CREAT | {flags}), 64)
    with phase("two"):
        pass
    os.write(64, b"own")
    """
    program.output(body)
    assert program.names() == both("one", "two")
    assert (program.directory / "other").read_bytes() == b"own"


def test_a_child_whose_log_has_the_number_keeps_its_log_clean(program: Program) -> None:
    body = """
    with phase("parent"):
        pass
    if os.fork() == 0:
        os.closerange(3, 4096)
        log = os.open("log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for number in range(3, 200):
            os.dup2(log, number)
        with phase("child"):
            os.write(64, b"own ")
        os.write(64, b"only")
        os._exit(0)
    os.wait()
    """
    program.output(body)
    assert program.names() == both("parent", "child")
    assert (program.directory / "log").read_bytes() == b"own only"


def test_the_file_opened_by_the_program_to_write_from_its_start_is_not_taken_for_it(
    program: Program,
) -> None:
    body = """
    with phase("one"):
        pass
    os.dup2(os.open("phases.jsonl", os.O_WRONLY), 64)
    with phase("two"):
        pass
    """
    program.output(body)
    assert program.names() == both("one", "two")


# --- out of reach ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "variable",
    ["", "-1", "64", "::", "1:2:", "1:2:relative", "a:b:/c", "²:²:/c", "9" * 9999 + ":1:/c",
     "1:1:/no/such/file"],
)  # fmt: skip
def test_a_variable_that_names_no_file_is_ignored(program: Program, variable: str) -> None:
    program.variable = variable
    assert program.output('with phase("x"):\n    print("in")') == "in\n"


@pytest.mark.parametrize(
    "device", ["/dev/null", "/dev/full", "/proc/self/comm", "fifo", "link", "."]
)
def test_what_is_no_plain_file_is_not_written_to(program: Program, device: str) -> None:
    os.mkfifo(program.directory / "fifo")
    (program.directory / "link").symlink_to(program.file)
    path = program.directory / device
    program.variable = named(str(path), path.stat())
    assert program.output('with phase("x"):\n    print("in")') == "in\n"
    assert program.marks() == []


def test_a_file_that_replaced_the_runs_is_not_written_to(program: Program) -> None:
    body = """
    with phase("one"):
        os.rename("phases.jsonl", "moved")
        open("phases.jsonl", "w").close()
    os.closerange(3, 4096)
    with phase("two"):
        print("alive")
    """
    assert program.output(body) == "alive\n"
    assert program.marks() == []
    written = (program.directory / "moved").read_text().splitlines()
    assert [json.loads(line)["event"] for line in written] == ["begin", "end"]


def test_after_the_file_was_removed_nothing_is_written(program: Program) -> None:
    body = """
    with phase("one"):
        os.remove("phases.jsonl")
    print(os.fstat(64).st_size, open("/proc/self/fd/64").read().count("end"))
    """
    size, ends = program.output(body).split()
    assert int(size) > 0 and ends == "0"


def test_a_file_that_may_not_grow_does_not_end_the_program(program: Program) -> None:
    body = """
    import resource
    with phase("one"):
        size = os.stat("phases.jsonl").st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, resource.RLIM_INFINITY))
    with phase("two"):
        print("alive")
    """
    assert program.output(body) == "alive\n"
    lines = program.file.read_text().split("\n")
    assert json.loads(lines[0])["event"] == "begin"
    assert len(lines[1]) == 10


# --- without a run --------------------------------------------------------------------------------


def test_untraced_a_decorator_returns_the_function_itself_and_a_phase_costs_under_5_us(
    program: Program,
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
    program.variable = ""
    assert float(program.output(body)) < 5e-6


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
