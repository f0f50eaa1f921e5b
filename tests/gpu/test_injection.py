"""The injected library records exactly what the stand-ins did, and nobody notices it."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cvmprof.probes.events import GPU_IN_GRAPH, GPU_RECORD
from cvmprof.tests.gpu.injected import (
    TIMEOUT_S,
    Injection,
    logged_calls,
    logged_operations,
)
from cvmprof.tests.gpu.stand_ins import WHEEL

#: prime numbers of launches, graphs, copies, memory sets and synchronisations, from three threads
WORK = (
    "threads", 3, "launch", 1009, 3, "graph", 101, 4, "in", 211, 1000, "out", 97, 500,
    "set", 53, 64, "sync", 151,
)  # fmt: skip
COUNTS = {"kernel": 1009, "graph": 101, "copy_in": 211, "copy_out": 97, "memset": 53}
#: longer than a flush takes to come, in microseconds
A_FLUSH = 1_000_000


# --- what is recorded -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", [(), ("ptsz",), ("proc",), ("ptsz", "proc"), ("pinned",)])
def test_work_of_three_threads_is_recorded_one_by_one(
    injection: Injection, how: tuple[str, ...]
) -> None:
    done = injection.run("init", *how, *WORK)
    assert (done.returncode, done.stderr) == (0, "")
    written = injection.only()
    assert Counter(row[0] for row in written.operations()) == COUNTS
    assert written.operations() == logged_operations(injection.log)
    assert written.calls() == logged_calls(injection.log)
    assert len({row[-2] for row in written.calls()}) == 4
    assert written.dropped == 0
    assert [line["kind"] for line in written.lines if line["kind"] != "name"] == [
        "process", "device", "end",
    ]  # fmt: skip


def test_small_buffers_lose_nothing(injection: Injection) -> None:
    injection.run("init", *WORK, CUPTI_BUFFER=1000)
    written = injection.only()
    assert written.operations() == logged_operations(injection.log)
    assert written.calls() == logged_calls(injection.log)


def test_of_calls_that_the_runtime_makes_the_runtimes_are_recorded(injection: Injection) -> None:
    injection.run("init", "threads", 3, "runtime", 13, 100)
    written = injection.only()
    assert written.calls() == logged_calls(injection.log)
    launched = {row[3] for row in written.calls() if row[0] == "cudaLaunchKernel_v7000"}
    kernels = {row[7] for row in written.operations() if row[0] == "kernel"}
    assert len(launched) == 13
    assert launched == kernels


def test_copies_on_and_between_devices(injection: Injection) -> None:
    injection.run("init", "on", 7, 100, "peer", 5, 300)
    written = injection.only()
    assert written.operations() == logged_operations(injection.log)
    assert Counter((row[0], row[3]) for row in written.operations()) == {
        ("copy_device", 100): 7,
        ("copy_device", 300): 5,
    }


def test_a_cupti_that_does_not_trace_graphs_gives_their_kernels(injection: Injection) -> None:
    injection.run("init", "graph", 7, 10, "launch", 5, 10, "sync", 1, CUPTI_NO_GRAPHS=1)
    written = injection.only()
    assert Counter((row[0], row[-1]) for row in written.operations()) == {
        ("kernel", "node"): 7,
        ("kernel", "_Z6squarePKfPf"): 5,
    }
    in_graph = [row for row in written.records if row["flags"] & GPU_IN_GRAPH]
    assert len(in_graph) == 7
    assert written.trouble == []


def test_each_device_is_named_once(injection: Injection) -> None:
    injection.run("init", "launch", 3, 5, "device", 1, "launch", 5, 5, "sync", 1, DEVICES=2)
    written = injection.only()
    assert written.of("device") == [
        {
            "kind": "device",
            "device": 0,
            "uuid": "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f",
            "name": "Stand-in 0",
            "memory_bytes": 16 << 30,
        },
        {
            "kind": "device",
            "device": 1,
            "uuid": "GPU-10111213-1415-1617-1819-1a1b1c1d1e1f",
            "name": "Stand-in 1",
            "memory_bytes": 16 << 30,
        },
    ]
    assert Counter(row[4] for row in written.operations()) == {0: 3, 1: 5}


def test_names_are_demangled_where_the_process_has_a_cxx_library(injection: Injection) -> None:
    environment = {**injection.environment(), "LD_PRELOAD": "libstdc++.so.6"}
    injection.run_in(environment, "init", "launch", 2, 5, "sync", 1)
    names = {line["text"] for line in injection.only().of("name")}
    assert "square(float const*, float*)" in names
    assert "_Z6squarePKfPf" not in names


def test_what_cupti_drops_is_counted(injection: Injection) -> None:
    injection.run("init", *WORK, CUPTI_DROP=7)
    written = injection.only()
    happened = [*logged_operations(injection.log), *logged_calls(injection.log)]
    recorded = [*written.operations(), *written.calls()]
    assert written.dropped == len(happened) // 7
    assert len(recorded) == len(happened) - len(happened) // 7
    assert set(recorded) < set(happened)


def test_what_still_runs_at_the_end_is_counted_as_dropped(injection: Injection) -> None:
    injection.run("init", "launch", 3, 10_000_000)
    written = injection.only()
    assert written.operations() == []
    assert written.dropped == 3


# --- which CUPTI ----------------------------------------------------------------------------------


def found(injection: Injection, **variables: str) -> str:
    """The CUPTI that is used where these variables are set and VIRTUAL_ENV is not."""
    environment = injection.environment()
    del environment["VIRTUAL_ENV"]
    injection.run_in({**environment, **variables}, "init")
    (line,) = injection.only().of("process")
    assert (line["cupti_version"], line["driver_version"]) == (130000, 13000)
    return str(line["cupti"])


def copied(injection: Injection, directory: Path, name: str = "libcupti.so.13") -> Path:
    """A copy of the CUPTI in a directory."""
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(injection.stand_ins.cupti / WHEEL / "libcupti.so.13", directory / name)
    return directory / name


def test_the_cupti_that_is_loaded_already_is_used(injection: Injection, tmp_path: Path) -> None:
    loaded = copied(injection, tmp_path / "anywhere")
    venv = str(injection.stand_ins.cupti)
    assert found(injection, LD_PRELOAD=str(loaded), VIRTUAL_ENV=venv) == str(loaded)


def test_the_wheel_beside_a_loaded_package_is_used(injection: Injection, tmp_path: Path) -> None:
    """As torch's libraries are, whatever the environment's variables say."""
    packages = tmp_path / "venv/lib/python3.12/site-packages"
    wheel = copied(injection, packages / "nvidia/cuda_cupti/lib")
    (packages / "torch/lib").mkdir(parents=True)
    shutil.copy(injection.stand_ins.libraries / "libcudart.so.13", packages / "torch/lib/lib.so")
    venv = str(injection.stand_ins.cupti)
    loaded = str(packages / "torch/lib/lib.so")
    assert found(injection, LD_PRELOAD=loaded, VIRTUAL_ENV=venv) == str(wheel)


def test_the_environment_of_the_interpreter_is_searched(
    injection: Injection, tmp_path: Path
) -> None:
    """A virtual environment's interpreter is a link to another one."""
    wheel = copied(injection, tmp_path / "venv" / WHEEL)
    interpreter = tmp_path / "venv/bin/python"
    interpreter.parent.mkdir()
    interpreter.symlink_to(injection.stand_ins.program)
    environment = {**injection.environment(), "VIRTUAL_ENV": "/absent"}
    subprocess.run([str(interpreter), "init"], env=environment, check=True, timeout=TIMEOUT_S)
    (line,) = injection.only().of("process")
    assert line["cupti"] == str(wheel)


def test_condas_environment_is_searched(injection: Injection, tmp_path: Path) -> None:
    library = copied(injection, tmp_path / "conda/lib")
    assert found(injection, CONDA_PREFIX=str(tmp_path / "conda")) == str(library)


def test_a_cupti_of_a_newer_cuda_than_the_drivers_is_passed_over(
    injection: Injection, tmp_path: Path
) -> None:
    copied(injection, tmp_path / "conda/lib", "libcupti.so.14")
    library = copied(injection, tmp_path / "conda/lib")
    copied(injection, tmp_path / "conda/lib", "libcupti.so.12")
    assert found(injection, CONDA_PREFIX=str(tmp_path / "conda")) == str(library)


# --- children -------------------------------------------------------------------------------------


def test_a_child_that_starts_cuda_itself_has_files_of_its_own(injection: Injection) -> None:
    injection.run("fork", "init", "launch", 7, 5, "sync", 1)
    written = injection.written()
    assert [len(each.operations()) for each in written] == [7, 7]
    assert sorted(row for each in written for row in each.operations()) == logged_operations(
        injection.log
    )


def test_a_child_of_a_process_that_records_writes_nothing(injection: Injection) -> None:
    done = injection.run("init", "launch", 7, 5, "sync", 1, "fork", "print", "both")
    assert done.stdout == "both\nboth\n"
    written = injection.only()
    assert len(written.operations()) == 7
    assert len(written.of("end")) == 1


def test_a_child_whose_fork_was_not_noticed_ends_at_once(injection: Injection) -> None:
    """It has no thread to wait for, and the files are not its own."""
    begun_s = time.monotonic()
    done = injection.run("init", "launch", 7, 5, "sync", 1, "rawfork", "print", "both")
    assert time.monotonic() - begun_s < 2  # as long as an end waits for the thread
    assert done.stdout == "both\nboth\n"
    assert len(injection.only().of("end")) == 1


def test_a_child_that_uses_the_driver_of_its_parent_writes_nothing(injection: Injection) -> None:
    """CUPTI asks for buffers there too, and hands them over full."""
    steps = ("launch", 7, 5, "sync", 1, "sleep", A_FLUSH, "fork", "launch", 97, 5, "sync", 1)
    done = injection.run("init", *steps, "print", "both", CUPTI_BUFFER=1000)
    assert done.stdout == "both\nboth\n"
    written = injection.only()
    assert {row["pid"] for row in written.records} == {written.of("process")[0]["pid"]}
    assert len(written.operations()) == 7 + 97


def test_a_program_executed_by_a_process_that_records_has_files_of_its_own(
    injection: Injection,
) -> None:
    steps = ("launch", 7, 5, "sync", 1, "sleep", A_FLUSH)
    injection.run("init", *steps, "exec", "init", "launch", 5, 5, "sync", 1)
    names = sorted(path.name for path in injection.spool.glob("*.lines"))
    assert names[0].removesuffix(".lines") == names[1].removesuffix("-2.lines") or (
        names[1].removesuffix(".lines") == names[0].removesuffix("-2.lines")
    )
    assert sorted(len(each.operations()) for each in injection.written()) == [5, 7]


def test_each_process_of_a_shell_has_files(injection: Injection) -> None:
    program = injection.stand_ins.program
    script = f"{program} init launch 3 5 sync 1 & {program} init launch 5 5 sync 1; wait"
    subprocess.run(["sh", "-c", script], env=injection.environment(), check=True, timeout=TIMEOUT_S)
    assert sorted(len(each.operations()) for each in injection.written()) == [3, 5]


# --- what goes wrong ------------------------------------------------------------------------------

NEWER = "cuptiSubscribe returned 15, CUPTI_ERROR_NOT_INITIALIZED: it may be newer than the driver"
SUBSCRIBED = (
    "cuptiSubscribe returned 39, CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED: "
    "another tool uses CUPTI in this process"
)
OLDER = "it is too old: it has no cuptiActivityRegisterTimestampCallback"


@pytest.mark.parametrize(
    ("switches", "is_older", "reason"),
    [
        ({"CUPTI_NEWER": 1}, False, NEWER),
        ({"CUPTI_SUBSCRIBED": 1}, False, SUBSCRIBED),
        ({}, True, OLDER),
    ],
)
def test_a_cupti_that_cannot_record_is_reported_and_leaves_the_program_alone(
    injection: Injection, switches: dict[str, int], is_older: bool, reason: str
) -> None:
    environment = injection.environment(**switches)
    if is_older:
        environment["VIRTUAL_ENV"] = str(injection.stand_ins.older_cupti)
    done = injection.run_in(environment, "init", "launch", 7, 5, "print", "fine", "exit", 3)
    assert (done.returncode, done.stdout, done.stderr) == (3, "fine\n", "")
    written = injection.only()
    (trouble,) = written.trouble
    assert trouble.startswith("CUPTI does not record: ")
    assert f"libcupti.so.13: {reason}" in trouble
    assert len(written.records) == 0


@pytest.mark.parametrize("idle", [A_FLUSH, 3 * A_FLUSH])
def test_a_profiler_in_the_process_takes_over(injection: Injection, idle: int) -> None:
    """It gets its place and its records; the library says from when on it has none."""
    done = injection.run(
        "init", "launch", 7, 5, "sync", 1, "sleep", idle, "tool", "launch", 11, 5, "sync", 1,
        "sleep", 3 * A_FLUSH, "count",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "counted 11\n")
    written = injection.only()
    assert len(written.operations()) == 7
    assert written.trouble == [
        "another tool subscribed to CUPTI in this process: nothing is recorded from here on"
    ]


def test_a_cupti_that_refuses_one_kind_is_stopped_and_no_other_is_tried(
    injection: Injection, tmp_path: Path
) -> None:
    """Its buffers are lent by functions that use it; what was enabled is disabled."""
    conda = copied(injection, tmp_path / "conda/lib").parents[1]
    environment = {
        **injection.environment(CUPTI_REFUSE=2),
        "CONDA_PREFIX": str(conda),
        "LD_LIBRARY_PATH": f"{injection.stand_ins.libraries}:{injection.stand_ins.cupti / WHEEL}",
    }
    steps = ("init", "launch", 7, 5, "sync", 1, "tool", "launch", 11, 5, "sync", 1, "count")
    done = injection.run_in(environment, *steps)
    assert (done.returncode, done.stdout, done.stderr) == (0, "counted 11\n", "")
    (trouble,) = injection.only().trouble
    wheel = injection.stand_ins.cupti / WHEEL / "libcupti.so.13"
    assert trouble == (
        f"CUPTI does not record: {wheel}: cuptiActivityEnable returned 1, CUPTI_ERROR_UNKNOWN"
    )


def test_without_a_thread_nothing_is_recorded_and_the_library_says_so(injection: Injection) -> None:
    """Small buffers would be handed over without a flush, if calls were still recorded."""
    environment = {
        **injection.environment(CUPTI_BUFFER=100, NO_THREADS=1),
        "LD_PRELOAD": str(injection.stand_ins.threads),
    }
    done = injection.run_in(environment, "init", "launch", 7, 5, "sync", 1, "print", "fine")
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")
    written = injection.only()
    assert written.trouble == [
        "nothing is recorded: no thread could be started: Resource temporarily unavailable"
    ]
    assert written.calls() == []
    assert written.of("end") == []


def test_records_are_flushed_where_the_start_takes_long(injection: Injection) -> None:
    """The thread may run before its process goes on."""
    environment = {
        **injection.environment(NAMING_US=200_000),
        "LD_PRELOAD": str(injection.stand_ins.threads),
    }
    steps = ("init", "launch", 7, 5, "sync", 1, "sleep", A_FLUSH * 3 // 2, "crash")
    done = injection.run_in(environment, *steps)
    assert done.returncode == -signal.SIGSEGV
    assert injection.only().operations() == logged_operations(injection.log)
    assert len(logged_operations(injection.log)) == 7


@pytest.mark.parametrize("ending", [("exit", 3), ("crash",)])
def test_the_program_ends_as_without_the_library(
    injection: Injection, ending: tuple[object, ...]
) -> None:
    steps = ("init", "launch", 7, 5, "sync", 1, "print", "text", *ending)
    plain = injection.run_in(injection.stand_ins.environment(), *steps)
    recorded = injection.run(*steps)
    assert plain.returncode in (3, -signal.SIGSEGV)
    assert (recorded.returncode, recorded.stdout, recorded.stderr) == (
        plain.returncode, plain.stdout, plain.stderr,
    )  # fmt: skip


@pytest.mark.parametrize("place", ["absent", "a file"])
def test_without_a_directory_nothing_happens(
    injection: Injection, tmp_path: Path, place: str
) -> None:
    (tmp_path / "a file").touch()
    environment = {**injection.environment(), "CVMPROF_GPU_DIR": str(tmp_path / place)}
    done = injection.run_in(environment, "init", "launch", 7, 5, "sync", 1, "print", "fine")
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")
    assert list(injection.spool.iterdir()) == []


@pytest.fixture(name="small_disk")
def _small_disk(injection: Injection) -> Iterator[Path]:
    """The library's directory on a file system with room for some of the records only."""
    injection.spool.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "cvmprof", str(injection.spool)]
    subprocess.run(mount, check=True)
    yield injection.spool
    subprocess.run(["umount", str(injection.spool)], check=True)


@pytest.mark.usefixtures("small_disk")
def test_a_full_disk_ends_the_file_after_a_whole_record(injection: Injection) -> None:
    done = injection.run("init", *WORK, "print", "fine")
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = injection.spool.glob("*.records")
    happened = len([*logged_operations(injection.log), *logged_calls(injection.log)])
    assert 0 < path.stat().st_size < happened * GPU_RECORD.size
    assert path.stat().st_size % GPU_RECORD.size == 0


def test_a_limit_on_the_size_of_files_sends_no_signal(injection: Injection) -> None:
    limit = 50 * GPU_RECORD.size + 7
    environment = injection.environment()
    del environment["STANDIN_LOG"]  # which would exceed the limit itself
    done = subprocess.run(
        injection.command("init", "launch", 1009, 3, "sync", 1, "exit", 3),
        env=environment,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 3
    written = injection.only()
    assert len(written.records) == 50
    assert written.dropped == 1009 + 1013 - 50
    assert written.trouble == ["records could not be written: File too large"]


def test_a_crash_while_cupti_writes_leaves_whole_records(injection: Injection) -> None:
    steps = ("init", "launch", 7, 5, "sync", 1, "sleep", A_FLUSH, "launch", 100, 5)
    done = injection.run(*steps, CUPTI_CRASH=50)
    assert done.returncode == -signal.SIGSEGV
    written = injection.only()
    assert written.operations() == logged_operations(injection.log)[:7]


def test_a_kill_loses_at_most_the_last_second(injection: Injection) -> None:
    command = injection.command(
        "init", "launch", 7, 5, "sync", 1, "sleep", A_FLUSH, "print", "ready", "pause"
    )
    with subprocess.Popen(command, env=injection.environment(), stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.read() == b"ready\n"
        running.kill()
    written = injection.only()
    assert written.operations() == logged_operations(injection.log)
    assert written.of("end") == []


def test_its_thread_blocks_all_signals_and_no_descriptor_stays_open(injection: Injection) -> None:
    command = injection.command("init", "launch", 7, 5, "sync", 1, "sleep", A_FLUSH, "pause")
    with subprocess.Popen(command, env=injection.environment(), stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.read()
        named = {
            (task / "comm").read_text().strip()
            for task in Path(f"/proc/{running.pid}/task").iterdir()
        }
        blocked = {
            int(task.name): _blocked_signals(task)
            for task in Path(f"/proc/{running.pid}/task").iterdir()
        }
        opened = [os.readlink(path) for path in Path(f"/proc/{running.pid}/fd").iterdir()]
        running.kill()
    assert named == {"program", "cvmprof-gpu"}
    assert blocked.pop(running.pid) == 0
    (of_thread,) = blocked.values()
    can_be_handled = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM, signal.SIGCHLD}
    assert all(of_thread >> (number - 1) & 1 for number in can_be_handled)
    assert not [path for path in opened if str(injection.spool) in path]


def _blocked_signals(task: Path) -> int:
    lines = (task / "status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("SigBlk"))


def test_errno_is_as_before(gpu_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the library fails, as here without its directory."""
    monkeypatch.delenv("CVMPROF_GPU_DIR", raising=False)
    library = ctypes.CDLL(str(gpu_library), use_errno=True)
    ctypes.set_errno(77)
    assert library.InitializeInjection() == 1
    assert ctypes.get_errno() == 77
