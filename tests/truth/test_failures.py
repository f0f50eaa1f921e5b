"""What breaks while it is watched: daemons that die, servers that do not answer."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cvmprof.profiler.run.opened import Run
from cvmprof.runners.lab.lab import (
    Lab,
    MountOptions,
    Rule,
    Shaping,
    await_stalled,
    mount,
    order,
    unmount,
)

from .conftest import (
    CHUNK_BYTES,
    LATENCY_S,
    MODEL_BYTES,
    open_run,
    operations_on,
    reads_of,
    served_lab,
)

#: reads until that fails, and prints the error
READ = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_RDONLY)
try:
    while os.read(descriptor, 65536):
        pass
except OSError as error:
    print(error.errno)
"""
#: touches page after page of a mapping
TOUCH = """
import mmap, os, sys
descriptor = os.open(sys.argv[1], os.O_RDONLY)
view = mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
for offset in range(0, len(view), 4096):
    view[offset]
"""
#: reads of one open file, a page of each chunk: when the last but one hangs, another thread begins
PAIR = """
import os, sys, threading, time
path, chunk_bytes, answered = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
descriptor = os.open(path, os.O_RDONLY)
os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
def read(index):
    try:
        os.pread(descriptor, 4096, index * chunk_bytes)
    except OSError:
        pass
for index in range(answered):
    read(index)
for index in range(answered, answered + 2):
    threading.Thread(target=read, args=[index]).start()
    time.sleep(0.3)
"""
STALLED_AFTER = 8
#: the longest that cvmprof may take from the end of the command to its own, on a busy machine
ENDING_S = 20.0
#: what counts as a hang has to last a second
HANGING_S = 1.2
#: what a server takes for one object that comes late
LATE_S = 3.0


@pytest.fixture(scope="module")
def failing_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab that serves one file of 17 chunks."""
    root = tmp_path_factory.mktemp("failing")
    with served_lab(root, {"model.bin": os.urandom(MODEL_BYTES)}) as lab:
        yield lab


@pytest.fixture
def path(failing_lab: Lab, tmp_path: Path) -> Iterator[Path]:
    """The file in a mount of its own, whose server holds back the ninth chunk for ever."""
    order(failing_lab, Shaping())
    options = MountOptions(cache=tmp_path / "cache", timeout_s=100, retries=0)
    place = mount(failing_lab, tmp_path / "mnt", options)
    order(failing_lab, Shaping(LATENCY_S, rules=(Rule("stall", "/data/", skip=STALLED_AFTER),)))
    try:
        yield place / "model.bin"
    finally:
        order(failing_lab, Shaping())
        unmount(failing_lab, place, force=True)


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Begins to trace a command, in a process group of its own."""
    running: list[subprocess.Popen[str]] = []

    def begin(*command: object) -> subprocess.Popen[str]:
        tracing = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "cvmprof",
                "trace",
                "--no-report",
                "-o",
                _run(tmp_path),
                "--",
                *map(str, command),
            ],
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        running.append(tracing)
        return tracing

    yield begin
    for tracing in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(tracing.pid, signal.SIGKILL)
        tracing.communicate()


def _run(directory: Path) -> Path:
    return directory / "run.cvmprof"


def _daemon(path: Path) -> int:
    return int(os.getxattr(path.parent, "user.pid"))


def _said(run: Run, *command: str) -> str:
    made = subprocess.run(
        [sys.executable, "-m", "cvmprof", *command, str(run.path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return made.stdout


def _assert_tiled(run: Run) -> None:
    segments = run.tables["segments"].sort("tid", "start_ns")
    gaps = segments.select(pl.col("start_ns") - pl.col("end_ns").shift().over("pid", "tid"))
    assert segments.height > 10
    assert (gaps.to_series().drop_nulls() == 0).all()


def _assert_explained(run: Run) -> None:
    """The time that the server took to answer nothing is that of a fetch, and little is unknown.

    Of two requests for one chunk the later may fetch it, with the lock that the other waits for:
    that it is the same chunk cannot be told where the daemon died before it said of what chunks
    the file consists.
    """
    segments = run.tables["segments"].drop_nulls("op_id")
    spent = segments.with_columns(ns=pl.col("end_ns") - pl.col("start_ns"))
    assert spent.filter(cause="unknown")["ns"].sum() <= 0.02 * int(spent["ns"].sum())
    behind = run.tables["lock_waits"].drop_nulls("holder_fetch_id").select("mount_id", "unique")
    locked = spent.filter(cause="daemon_lock").join(behind, on=["mount_id", "unique"], how="semi")
    explained = pl.concat([spent.drop_nulls("fetch_id"), locked])
    assert explained["ns"].sum() >= HANGING_S * 0.9e9


def _assert_hung(run: Run, path: Path) -> dict[str, Any]:
    """One read of the file has no end, nor has what it waits for; summary and report name it.

    Returns the summary.
    """
    unended = run.tables["operations"].filter(pl.col("end_ns").is_null())
    assert unended.height == 1
    assert operations_on(run, path).filter(pl.col("end_ns").is_null()).height == 1
    (hang,) = run.tables["incidents"].filter(kind="hang").to_dicts()
    assert str(path) in hang["detail"]
    assert hang["time_ns"] == unended["start_ns"].item()
    waits = run.tables["waits"].filter(op_id=unended["op_id"].item())
    unanswered = reads_of(run).filter(pl.col("end_ns").is_null())
    assert unanswered.height > 0
    assert waits.join(unanswered, on=["mount_id", "unique"]).height > 0
    _assert_tiled(run)
    _assert_explained(run)
    said: dict[str, Any] = json.loads(_said(run, "summary", "--json"))
    (unfinished,) = said["unfinished"]
    assert unfinished.startswith(f"read of {path} by thread ")
    page = Path(_said(run, "report").strip())
    assert f"read of {path} never ended" in page.read_text()
    return said


def _assert_hang_told(said: dict[str, Any], path: Path) -> None:
    """One object never came, the others' median is theirs, and no faster line is advised."""
    waits, latency = said["waits"], said["latency"]
    pending = waits["pending"]
    assert (pending["count"], pending["received_bytes"], pending["path"]) == (1, 0, str(path))
    assert waits["kinds_ns"]["in_flight"] >= HANGING_S * 0.9e9
    assert waits["kinds_ns"]["in_flight"] <= pending["longest_ns"]
    assert latency["downloads"] == waits["answered"] == STALLED_AFTER
    (server,) = pending["servers"]
    assert server["is_local"]
    found = {finding["headline"]: finding["meaning"] for finding in said["findings"]}
    (meaning,) = (
        text
        for headline, text in found.items()
        if "for 1 object that had not come when recording ended" in headline
    )
    assert meaning.startswith(f"The server on this machine ({server['name']}) sent nothing for ")
    assert f"{STALLED_AFTER} other downloads began to arrive" in meaning
    assert not [text for text in found.values() if "fetching ahead" in text or "Bandwidth" in text]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_daemon_that_dies_leaves_a_complete_run(
    failing_lab: Lab, path: Path, start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    daemon = _daemon(path)
    tracing = start(sys.executable, "-I", "-c", READ, path)
    await_stalled(failing_lab)
    threading.Event().wait(HANGING_S)
    before_ns = time.monotonic_ns()
    os.kill(daemon, number)
    output, _ = tracing.communicate(timeout=60)
    after_ns = time.monotonic_ns()
    assert tracing.returncode == 0
    run = open_run(_run(tmp_path))
    assert run.meta["complete"]
    (crash,) = run.tables["incidents"].filter(kind="crash").to_dicts()
    assert (crash["pid"], crash["signal"]) == (daemon, number)
    assert before_ns < crash["time_ns"] < after_ns
    mounted = run.tables["mounts"].filter(mount_id=crash["mount_id"])
    assert mounted["mountpoint"].to_list() == [str(path.parent)]
    failed = operations_on(run, path).filter(pl.col("result") < 0)
    assert failed["result"].to_list() == [-int(output)]
    assert int(output) in (errno.EIO, errno.ENOTCONN, errno.ECONNABORTED)
    assert failed["end_ns"].item() > before_ns
    assert run.tables["operations"]["end_ns"].null_count() == 0
    _assert_tiled(run)
    _assert_explained(run)
    assert "of signal" in _said(run, "summary")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGINT])
def test_who_waits_for_the_lock_of_one_that_hangs(
    failing_lab: Lab, path: Path, start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    """Until the daemon dies, or the command at Ctrl-C: the holder is named, with its fetch."""
    tracing = start(sys.executable, "-I", "-c", PAIR, path, CHUNK_BYTES, STALLED_AFTER)
    await_stalled(failing_lab)
    threading.Event().wait(1.0 + HANGING_S)
    if number == signal.SIGINT:
        os.killpg(tracing.pid, number)
    else:
        os.kill(_daemon(path), number)
    tracing.communicate(timeout=60)
    run = open_run(_run(tmp_path))
    reads = operations_on(run, path).filter(kind="read").sort("start_ns")
    # the kernel may ask again for a page that it did not get
    first, second = (
        reads.tail(2)
        .select("op_id")
        .join(reads_of(run), on="op_id")
        .sort("queued_ns")
        .unique("op_id", keep="first", maintain_order=True)
        .to_dicts()
    )
    cut = run.tables["fetches"].filter(pl.col("end_ns").is_null())
    # several waits where a debugger of the client's watchdog stops it meanwhile
    waits = run.tables["lock_waits"].filter(unique=second["unique"])
    assert waits.select("holder_unique", "holder_fetch_id", "kind").unique().rows() == [
        (first["unique"], cut["fetch_id"].item(), "same_handle")
    ]
    spent = run.tables["segments"].filter(cause="daemon_lock", op_id=second["op_id"])
    assert (spent["end_ns"] - spent["start_ns"]).sum() >= HANGING_S * 0.9e9
    _assert_tiled(run)
    _assert_explained(run)


def test_a_fetch_that_a_death_cut_short_has_no_end(
    failing_lab: Lab, path: Path, start: Start, tmp_path: Path
) -> None:
    tracing = start(sys.executable, "-I", "-c", READ, path)
    await_stalled(failing_lab)
    os.kill(_daemon(path), signal.SIGKILL)
    tracing.communicate(timeout=60)
    tables = open_run(_run(tmp_path)).tables
    fetches = tables["fetches"].sort("start_ns")
    assert fetches.filter(pl.col("end_ns").is_not_null()).height == STALLED_AFTER
    cut = fetches.filter(pl.col("end_ns").is_null())
    assert cut.height == 1
    download = tables["downloads"].join(cut.select("download_id"), on="download_id")
    assert download["first_byte_ns"].to_list() == [None]


def test_a_page_of_a_dead_daemon_is_a_fault_that_failed(
    failing_lab: Lab, path: Path, start: Start, tmp_path: Path
) -> None:
    tracing = start(sys.executable, "-I", "-c", TOUCH, path)
    await_stalled(failing_lab)
    before_ns = time.monotonic_ns()
    os.kill(_daemon(path), signal.SIGKILL)
    assert tracing.wait(timeout=60) == -signal.SIGBUS
    run = open_run(_run(tmp_path))
    assert run.meta["complete"]
    failed = operations_on(run, path).filter(pl.col("result") < 0)
    assert failed.select("kind", "result").rows() == [("fault", -errno.EIO)]
    assert failed["end_ns"].item() > before_ns
    assert run.tables["incidents"]["kind"].to_list() == ["crash"]
    _assert_tiled(run)


def test_a_page_fault_killed_while_its_server_hangs(
    path: Path, start: Start, tmp_path: Path
) -> None:
    tracing = start("timeout", "2.5", sys.executable, "-I", "-c", TOUCH, path)
    assert tracing.wait(timeout=60) == 124
    run = open_run(_run(tmp_path))
    unended = operations_on(run, path).filter(pl.col("end_ns").is_null())
    assert unended["kind"].to_list() == ["fault"]
    (hang,) = run.tables["incidents"].filter(kind="hang").to_dicts()
    assert hang["detail"] == f"fault of {path} never ended"
    _assert_tiled(run)
    _assert_explained(run)


def test_a_command_killed_while_its_server_hangs(path: Path, start: Start, tmp_path: Path) -> None:
    tracing = start("timeout", "2.5", "md5sum", path)
    assert tracing.wait(timeout=60) == 124
    run = open_run(_run(tmp_path))
    assert run.meta["complete"]
    assert run.tables["tasks"].filter(name="md5sum")["signal"].to_list() == [signal.SIGTERM]
    _assert_hang_told(_assert_hung(run, path), path)


def test_ctrl_c_while_the_server_hangs(
    failing_lab: Lab, path: Path, start: Start, tmp_path: Path
) -> None:
    tracing = start("md5sum", path)
    await_stalled(failing_lab)
    threading.Event().wait(HANGING_S)
    interrupted = time.monotonic()
    os.killpg(tracing.pid, signal.SIGINT)
    assert tracing.wait(timeout=60) == -signal.SIGINT
    assert time.monotonic() - interrupted < ENDING_S
    run = open_run(_run(tmp_path))
    assert run.meta["complete"]
    _assert_hang_told(_assert_hung(run, path), path)


def test_a_mount_that_answers_nothing_holds_nobody_up(
    failing_lab: Lab, path: Path, start: Start, tmp_path: Path
) -> None:
    """A stopped daemon: neither the read nor what is asked afterwards is answered."""
    daemon = _daemon(path)
    path.open("rb").close()  # the kernel learns that closing needs no answer
    tracing = start("md5sum", path)
    await_stalled(failing_lab)
    os.kill(daemon, signal.SIGSTOP)
    try:
        threading.Event().wait(HANGING_S)
        interrupted = time.monotonic()
        os.killpg(tracing.pid, signal.SIGINT)
        assert tracing.wait(timeout=60) == -signal.SIGINT
        assert time.monotonic() - interrupted < ENDING_S
        run = open_run(_run(tmp_path))
        said = _assert_hung(run, path)
    finally:
        os.kill(daemon, signal.SIGCONT)
    lines = [json.loads(line) for line in (run.path / "journal.jsonl").read_text().splitlines()]
    reasons = {line["reason"] for line in lines if line["kind"] == "attributes"}
    assert reasons == {"no answer within 2 s"}
    assert said["command_time"]["causes_ns"]["stopped"] >= HANGING_S * 0.9e9
    assert any("was stopped" in finding["headline"] for finding in said["findings"])


@dataclass(frozen=True)
class Fault:
    """What a server does to one request for the fifth object, and what is to be said of that:
    its kind and words, and how long the command waited for it at least.
    """

    rule: Rule
    status: int | None
    kind: str
    said: str
    waited_s: float = 0.0


TIMEOUT_S = 2
FAULTS = {
    "error": Fault(
        Rule("status", "/data/", skip=4, times=1), 503, "error", "1 answered with status 503."
    ),
    "stall": Fault(
        Rule("stall", "/data/", skip=4, times=1), None, "unanswered", "1 not answered.",
        0.9 * TIMEOUT_S,
    ),
    "corrupt": Fault(
        Rule("corrupt", "/data/", skip=4, times=1),
        200,
        "rejected",
        "1 answered, but cut short, too slowly or with other content.",
    ),
}  # fmt: skip


def _read_despite(rule: Rule, lab: Lab, tmp_path: Path, start: Start) -> Run:
    """A run in which all of the model is read, by a client that asks a faulty server again."""
    order(lab, Shaping())
    options = MountOptions(cache=tmp_path / "cache", timeout_s=TIMEOUT_S, retries=2)
    place = mount(lab, tmp_path / "mnt", options)
    order(lab, Shaping(rules=(rule,)))
    try:
        tracing = start(sys.executable, "-I", "-c", READ, place / "model.bin")
        output, _ = tracing.communicate(timeout=120)
    finally:
        order(lab, Shaping())
        unmount(lab, place, force=True)
    assert (tracing.returncode, output) == (0, "")
    return open_run(_run(tmp_path))


@pytest.mark.parametrize("name", FAULTS)
def test_a_server_that_fails_once(
    failing_lab: Lab, tmp_path: Path, start: Start, name: str
) -> None:
    """Asked once more, by the client or by the kernel, all is read; both requests are there."""
    fault = FAULTS[name]
    run = _read_despite(fault.rule, failing_lab, tmp_path, start)
    fetches = run.tables["fetches"].filter(object_kind="chunk")
    assert fetches.filter(outcome="downloaded")["object_hash"].n_unique() == 17
    failed = fetches.filter(outcome="failed").height
    assert fetches.height == 17 + failed <= 18
    fifth = run.tables["downloads"].drop_nulls("object_hash").sort("sent_ns")[4:6]
    assert fifth["object_hash"].n_unique() == 1
    assert fifth["status"].to_list() == [fault.status, 200]
    assert set(run.tables["reconciliation"]["difference"]) == {0}
    _assert_tiled(run)
    written = json.loads(_said(run, "summary", "--json"))
    waits = written["waits"]
    silence_s = written["failures"]["silences_ns"].get("direct", 0) / 1e9
    assert fault.waited_s <= silence_s < fault.waited_s + TIMEOUT_S
    # an error that comes at once may be over before the thread sleeps
    waited = {"answered", fault.kind} if fault.waited_s else {"answered"}
    assert waited <= set(waits["kinds_ns"]) <= {"answered", fault.kind}
    assert waits["kinds_ns"].get(fault.kind, 0) >= fault.waited_s * 1e9
    assert waits["answered"] == 17
    summary = " ".join(_said(run, "summary").split())
    said = "1 fetch failed (EIO: 1), and" if failed else "No fetch failed, but"
    assert f"{said} 1 request to servers brought no usable answer." in summary
    assert fault.said in summary
    sooner = "Look at that server; a shorter CVMFS_TIMEOUT_DIRECT would give up sooner."
    assert (sooner in summary) is (fault.kind == "unanswered")
    page = Path(_said(run, "report").strip()).read_text()
    assert f"{said} 1 request to servers brought no usable answer." in page


def test_a_body_that_freezes_until_the_client_gives_up(
    failing_lab: Lab, tmp_path: Path, start: Start
) -> None:
    """What came of it was for nothing, and so was the wait; what helps transfers would not."""
    run = _read_despite(Rule("freeze", "/data/", skip=4, times=1), failing_lab, tmp_path, start)
    said = json.loads(_said(run, "summary", "--json"))
    time = said["command_time"]
    assert 0.9 * TIMEOUT_S * 1e9 <= time["vain_causes_ns"]["transfer"] <= time["cvmfs_ns"]
    assert time["hung_causes_ns"] == {}
    main = next(each for each in said["findings"] if each["tone"] == "main")
    assert main["headline"].endswith("of it for requests to servers that brought nothing.")
    assert not [each for each in said["findings"] if "Receiving the data" in each["headline"]]


def test_a_body_that_freezes_until_the_command_is_ended(
    failing_lab: Lab, path: Path, start: Start, tmp_path: Path
) -> None:
    """It hangs since its last byte."""
    order(failing_lab, Shaping(LATENCY_S, rules=(Rule("freeze", "/data/", skip=STALLED_AFTER),)))
    tracing = start("md5sum", path)
    await_stalled(failing_lab)
    threading.Event().wait(HANGING_S)
    os.killpg(tracing.pid, signal.SIGINT)
    assert tracing.wait(timeout=60) == -signal.SIGINT
    said = json.loads(_said(open_run(_run(tmp_path)), "summary", "--json"))
    time = said["command_time"]
    hung = time["hung_causes_ns"]
    assert HANGING_S * 0.9e9 <= hung["transfer"] <= sum(hung.values()) <= time["cvmfs_ns"]
    main = next(each for each in said["findings"] if each["tone"] == "main")
    assert main["headline"].endswith("of it for what had not come when recording ended.")
    assert not [each for each in said["findings"] if "Receiving the data" in each["headline"]]


def test_one_object_that_comes_late(failing_lab: Lab, tmp_path: Path, start: Start) -> None:
    """What all downloads take in the median is not the matter, and not said as if it were."""
    order(failing_lab, Shaping())
    place = mount(failing_lab, tmp_path / "mnt", MountOptions(cache=tmp_path / "cache"))
    late = Rule("delay", "/data/", delay_s=LATE_S, skip=4, times=1)
    order(failing_lab, Shaping(LATENCY_S, rules=(late,)))
    try:
        tracing = start(sys.executable, "-I", "-c", READ, place / "model.bin")
        tracing.communicate(timeout=120)
    finally:
        order(failing_lab, Shaping())
        unmount(failing_lab, place, force=True)
    said = json.loads(_said(open_run(_run(tmp_path)), "summary", "--json"))
    slowest, answered_ns = said["waits"]["slowest"], said["waits"]["kinds_ns"]["answered"]
    assert LATE_S * 1e9 <= slowest["first_byte_ns"] < 1.5 * LATE_S * 1e9
    assert slowest["waited_ns"] <= answered_ns
    assert said["latency"]["first_byte_ns"] < 0.1 * LATE_S * 1e9
    found = {finding["headline"]: finding["meaning"] for finding in said["findings"]}
    assert [line for line in found if "for one of 17 downloads" in line]
    assert not [line for line in found if "was slow to answer" in line]
    assert not [text for text in found.values() if "fetching ahead" in text]


def test_a_server_that_goes_on_failing(failing_lab: Lab, tmp_path: Path, start: Start) -> None:
    """The client gives up: the read fails, and the object is named."""
    order(failing_lab, Shaping())
    options = MountOptions(cache=tmp_path / "cache", timeout_s=2, retries=1)
    place = mount(failing_lab, tmp_path / "mnt", options)
    order(failing_lab, Shaping(rules=(Rule("status", "/data/", skip=4),)))
    try:
        tracing = start(sys.executable, "-I", "-c", READ, place / "model.bin")
        output, _ = tracing.communicate(timeout=120)
    finally:
        order(failing_lab, Shaping())
        unmount(failing_lab, place, force=True)
    assert int(output) == errno.EIO
    run = open_run(_run(tmp_path))
    failed = run.tables["fetches"].filter(outcome="failed")
    assert failed.height >= 1
    assert run.tables["fetches"].filter(outcome="downloaded").height == 4
    bad = run.tables["downloads"].filter(status=503)
    assert set(bad["object_hash"]) == set(failed["object_hash"])
    (broken,) = run.tables["operations"].filter(result=-errno.EIO).to_dicts()
    failed_paths = run.tables["failed_operations"].select("op_id", "path").rows()
    assert failed_paths == [(broken["op_id"], str(place / "model.bin"))]
    assert set(run.tables["reconciliation"]["difference"]) == {0}
    summary = " ".join(_said(run, "summary").split())
    assert f"failed (EIO: {failed.height})" in summary
    assert f"{bad.height} answered with status 503." in summary
