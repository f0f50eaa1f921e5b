"""Daemons that are born during the run: in namespaces of their own, by whoever mounts them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from cvmprof.profiler.record.daemons import running_daemons
from cvmprof.profiler.run.opened import Run
from cvmprof.runners.lab import serving
from cvmprof.runners.lab.build import client_program
from cvmprof.runners.lab.lab import Lab

from .conftest import LATENCY_S, MODEL_BYTES, open_run, reads_of, served_lab

#: reads a file in two threads, each in a phase of its own, after a command that mounts
READ = """
import subprocess, sys, threading
from cvmprof import phase
path = sys.argv[1]
with phase("mount"):
    subprocess.run(sys.argv[2:], check=True)
def read(name, offset, size):
    with phase(name), open(path, "rb", buffering=0) as file:
        file.seek(offset)
        while size > 0 and (data := file.read(min(size, 65536))):
            size -= len(data)
half = 8 << 20
second = threading.Thread(target=read, args=("second half", half, 1 << 30), name="second")
second.start()
read("first half", 0, half)
second.join()
"""
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--mount-proc")


@pytest.fixture(scope="module")
def late_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab that serves one file of 17 chunks and is not mounted."""
    root = tmp_path_factory.mktemp("late")
    with served_lab(root, {"model.bin": os.urandom(MODEL_BYTES)}, LATENCY_S) as lab:
        yield lab


@pytest.fixture
def unusual(tmp_path: Path) -> dict[str, str]:
    """Variables that make the lab mount with a copy of the client that nobody has run before."""
    real = shutil.which("cvmfs2")
    if real is None:
        source = client_program().parent
        shutil.copytree(source, tmp_path / "unusual" / "cvmprof" / source.name)
        return {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "unusual")}
    prefix = Path(real).resolve().parent.parent
    for part in ("bin", "lib"):
        shutil.copytree(prefix / part, tmp_path / "unusual" / part, symlinks=True)
    lib = str(tmp_path / "unusual" / "lib")
    path = f"{tmp_path / 'unusual' / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "LD_LIBRARY_PATH": lib, "CVMFS_LIBRARY_PATH": lib}


def client_command(
    lab: Lab,
    place: Path,
    environment: dict[str, str] | None = None,
    further: dict[str, object] | None = None,
) -> list[str]:
    """The client's own command: it looks for nothing in /proc, whose numbers namespaces change.

    ``further``: settings of the real client, which win over the usual ones.
    """
    current = serving.current(lab)
    assert current is not None
    place.mkdir(exist_ok=True)
    cache = place.with_name("cache")
    cache.mkdir(exist_ok=True)
    real = shutil.which("cvmfs2", path=(environment or os.environ)["PATH"])
    if real is None:
        program = client_program()
        if environment is not None:
            program = Path(environment["XDG_CACHE_HOME"], "cvmprof", program.parent.name, "cvmfs2")
        return [
            str(program),
            "--allow-other",
            f"--repository={lab.repository}",
            f"--url={current.url}",
            f"--cache={cache}",
            f"--public-key={lab.public_key}",
            f"--log={place.with_name('client.log')}",
            str(place),
        ]
    settings = {
        "CVMFS_CACHE_BASE": cache,
        "CVMFS_RELOAD_SOCKETS": cache,
        "CVMFS_WORKSPACE": cache,
        "CVMFS_SERVER_URL": current.url,
        "CVMFS_HTTP_PROXY": "DIRECT",
        "CVMFS_PUBLIC_KEY": lab.public_key,
        "CVMFS_KEYS_DIR": lab.keys,
        "CVMFS_SHARED_CACHE": "no",
        "CVMFS_CLAIM_OWNERSHIP": "no",
        "CVMFS_CHECK_PERMISSIONS": "no",
        "CVMFS_CLIENT_PROFILE": "single",
        **(further or {}),
    }
    config = place.with_name("client.conf")
    config.write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()))
    return [real, "-o", f"allow_other,config={config}", lab.repository, str(place)]


@pytest.fixture
def mounted_late() -> Iterator[list[Path]]:
    """Places to unmount in the end."""
    places: list[Path] = []
    yield places
    for place in places:
        subprocess.run(["umount", "-l", str(place)], check=False, stderr=subprocess.DEVNULL)


def traced(where: Path, command: list[str], environment: dict[str, str] | None = None) -> Run:
    """Traces a command and opens the run."""
    ended = subprocess.run(
        [sys.executable, "-m", "cvmprof", "trace", "--no-report", "-o", where, "--", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment,
    )
    assert ended.returncode == 0, ended.stderr
    return open_run(where)


def reading_and_mounting(
    lab: Lab, place: Path, environment: dict[str, str] | None = None
) -> list[str]:
    """The command that mounts and then reads."""
    mounting = client_command(lab, place, environment)
    return [sys.executable, "-c", READ, str(place / "model.bin"), *mounting]


def assert_identity(run: Run) -> None:
    """Every READ that was answered joins one daemon call, every fetch its call and its download."""
    answered = reads_of(run).drop_nulls("end_ns").filter(pl.col("error") == 0)
    calls = run.tables["daemon_calls"].filter(function="cvmfs_read")
    joined = answered.join(calls, on=["mount_id", "unique"], how="left")
    assert answered["size_bytes"].sum() >= MODEL_BYTES
    assert joined.height == answered.height  # none joins two
    assert joined["call_id"].null_count() <= answered.height * 0.001
    fetches = run.tables["fetches"].filter(outcome="downloaded", object_kind="chunk")
    assert fetches.height == fetches["object_hash"].n_unique() == 17
    assert fetches.join(run.tables["daemon_calls"], on="call_id").height == 17
    assert fetches.join(run.tables["downloads"], on=["download_id", "object_hash"]).height == 17


def assert_chunks(run: Run) -> None:
    """The chunk list could be read: every fetch is a chunk of it."""
    fetches = run.tables["fetches"].filter(outcome="downloaded", object_kind="chunk")
    chunks = fetches.join(run.tables["chunks"], on=["file_id", "object_hash", "offset_bytes"])
    assert chunks.height == run.tables["chunks"].height == 17


def assert_probed(run: Run, directory: Path) -> None:
    """The daemon's functions were watched in a file of that directory, all of them."""
    probes = run.tables["probes"].filter(event="daemon call")
    here = probes.filter(pl.col("target").str.contains(str(directory), literal=True))
    assert here.height > 10
    assert here["reason"].null_count() == here.height


def assert_tiling(run: Run) -> None:
    """No gap and no overlap in any target thread's life."""
    segments = run.tables["segments"].sort("tid", "start_ns")
    gaps = segments.with_columns(
        gap=pl.col("start_ns") - pl.col("end_ns").shift().over("pid", "tid")
    )["gap"].drop_nulls()
    assert segments.height > 100
    assert (gaps == 0).all()
    lives = run.tables["tasks"].filter(role="target")
    assert segments["tid"].unique().sort().to_list() == lives["tid"].unique().sort().to_list()


def assert_mount_incident(run: Run, place: Path) -> int:
    """The mount is an incident inside the run; its mount_id."""
    found = run.tables["incidents"].filter(kind="mount")
    assert found.height == 1
    assert str(place) in found["detail"].item()
    first = reads_of(run)["queued_ns"].min()
    assert run.meta["start_ns"] < found["time_ns"].item() < first
    mounted = run.tables["mounts"].filter(mount_id=found["mount_id"].item())
    assert reads_of(run)["mount_id"].unique().to_list() == mounted["mount_id"].to_list()
    assert mounted["mountpoint"].to_list() == [str(place)]
    assert mounted["daemon_pid"].item() == found["pid"].item()
    return int(found["mount_id"].item())


def assert_phases_are_the_threads(run: Run) -> None:
    """Phases bear the system's numbers of the threads that marked them, whatever they wrote."""
    threads = run.tables["tasks"].filter(role="target").select("pid", "tid", "start_ns", "end_ns")
    marked = run.tables["phases"].join(threads, on=["pid", "tid"], suffix="_of_thread")
    assert sorted(marked["name"]) == ["first half", "mount", "second half"]
    assert (marked["start_ns"] >= marked["start_ns_of_thread"]).all()
    assert (marked["end_ns"] <= marked["end_ns_of_thread"]).all()
    halves = marked.filter(pl.col("name") != "mount")
    assert halves["tid"].n_unique() == 2
    for pid, tid, start_ns, end_ns in halves.select("pid", "tid", "start_ns", "end_ns").iter_rows():
        inside = run.tables["segments"].filter(
            (pl.col("pid") == pid)
            & (pl.col("tid") == tid)
            & (pl.col("end_ns") > start_ns)
            & (pl.col("start_ns") < end_ns)
        )
        assert inside["fetch_id"].drop_nulls().n_unique() >= 4  # each half waited for its chunks


def test_mounted_in_namespaces_of_its_own(late_lab: Lab, tmp_path: Path) -> None:
    place = tmp_path / "mnt"
    command = [*NAMESPACES, *reading_and_mounting(late_lab, place)]
    run = traced(tmp_path / "run.cvmprof", command)
    assert_identity(run)
    assert_tiling(run)
    assert_mount_incident(run, place)
    assert_phases_are_the_threads(run)
    assert run.tables["phases"]["pid"].to_list() != [1, 1, 1]  # what the target wrote
    assert not os.path.ismount(place)


def test_mounted_by_a_descendant(
    late_lab: Lab, tmp_path: Path, unusual: dict[str, str], mounted_late: list[Path]
) -> None:
    place = tmp_path / "mnt"
    mounted_late.append(place)
    run = traced(tmp_path / "run.cvmprof", reading_and_mounting(late_lab, place, unusual), unusual)
    assert_identity(run)
    assert_tiling(run)
    assert_mount_incident(run, place)
    assert_phases_are_the_threads(run)
    assert_chunks(run)
    assert_probed(run, tmp_path / "unusual")


def test_mounted_where_another_mount_had_the_number(
    late_lab: Lab, tmp_path: Path, mounted_late: list[Path]
) -> None:
    """The kernel gives the lowest free device number: that of the mount that has just gone."""
    place, other = tmp_path / "late" / "mnt", tmp_path / "early" / "mnt"
    place.parent.mkdir()
    other.parent.mkdir()
    mounted_late += [place, other]
    subprocess.run(client_command(late_lab, other), check=True)
    changing = [
        "sh",
        "-c",
        'umount "$0" && exec "$@"',
        str(other),
        *client_command(late_lab, place),
    ]
    run = traced(
        tmp_path / "run.cvmprof", [sys.executable, "-c", READ, str(place / "model.bin"), *changing]
    )
    assert_identity(run)
    assert_mount_incident(run, place)


def test_mounted_by_a_bystander(
    late_lab: Lab, tmp_path: Path, unusual: dict[str, str], mounted_late: list[Path]
) -> None:
    """As autofs does: who mounts is no relative of the target."""
    place, asked, done = tmp_path / "mnt", tmp_path / "asked", tmp_path / "done"
    mounted_late.append(place)
    os.mkfifo(asked)
    os.mkfifo(done)
    watcher = subprocess.Popen(
        [
            "sh",
            "-c",
            'read _ < "$0" && "$@" && echo > "$ASKED_DONE"',
            str(asked),
            *client_command(late_lab, place, unusual),
        ],
        env={**unusual, "ASKED_DONE": str(done)},
    )
    ask = ["sh", "-c", 'echo > "$0" && read _ < "$1"', str(asked), str(done)]
    command = [sys.executable, "-c", READ, str(place / "model.bin"), *ask]
    run = traced(tmp_path / "run.cvmprof", command)
    assert watcher.wait() == 0
    assert_identity(run)
    assert_tiling(run)
    assert_mount_incident(run, place)
    assert_chunks(run)
    assert_probed(run, tmp_path / "unusual")


#: give the client's files another path, which only the namespace knows, and run the command there
BIND = 'mount --bind "$COPY" "$INNER" && exec "$@"'
CHROOT = """
mount --rbind / "$ROOT" && mount --bind "$COPY" "$ROOT$INNER" && exec chroot "$ROOT" "$@"
"""


@pytest.mark.parametrize("script", [BIND, CHROOT], ids=["bind", "chroot"])
def test_the_client_in_a_root_of_its_own(
    late_lab: Lab, tmp_path: Path, unusual: dict[str, str], script: str
) -> None:
    """As in a container: the client's files are where no path of the system's leads."""
    place, copy, inner, root = (tmp_path / name for name in ("mnt", "unusual", "inner", "root"))
    inner.mkdir()
    root.mkdir()
    client = client_command(late_lab, place, unusual)
    moved = [word.replace(str(copy), str(inner)) for word in client]
    inside = {name: value.replace(str(copy), str(inner)) for name, value in unusual.items()}
    places = {"COPY": str(copy), "INNER": str(inner), "ROOT": str(root)}
    run = traced(
        tmp_path / "run.cvmprof",
        [
            *NAMESPACES,
            "sh",
            "-c",
            script,
            "sh",
            sys.executable,
            "-c",
            READ,
            str(place / "model.bin"),
            *moved,
        ],
        {**inside, **places},
    )
    assert list(inner.iterdir()) == list(root.iterdir()) == []
    assert_identity(run)
    assert_tiling(run)
    assert_phases_are_the_threads(run)
    assert_probed(run, inner)
    assert_mount_incident(run, place)


def test_a_daemon_that_has_ended_is_none(tmp_path: Path) -> None:
    """Where nobody collects what has ended, as in many containers, it stays as a zombie."""
    cat = shutil.which("cat")
    assert cat is not None
    client = Path(shutil.copy(cat, tmp_path / "cvmfs2"))
    with subprocess.Popen([client], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as daemon:
        assert daemon.stdin is not None and daemon.stdout is not None
        daemon.stdin.write(b"begun\n")
        daemon.stdin.flush()
        assert daemon.stdout.readline() == b"begun\n"
        assert daemon.pid in [found.pid for found in running_daemons()]
        daemon.kill()
        os.waitid(os.P_PID, daemon.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{daemon.pid}/comm").read_text() == "cvmfs2\n"
        assert daemon.pid not in [found.pid for found in running_daemons()]
