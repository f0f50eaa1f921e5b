"""The lab's client, mounted: right bytes, each object downloaded once, honest failures."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cvmprof.errors import CvmprofError
from cvmprof.runners.lab.lab import (
    Lab,
    MountOptions,
    Rule,
    Shaping,
    accesses,
    await_stalled,
    cold,
    mount,
    mounts,
    order,
    publish,
    serve,
    stop,
    unmount,
)
from cvmprof.runners.lab.processes import Daemon
from cvmprof.runners.lab.shaping import Action

from .conftest import CHUNK_BYTES, CHUNKS, CUTTING, Fresh

LAB = MountOptions(client="lab", timeout_s=0, retries=1)
READ_TO_END = "import sys; open(sys.argv[1], 'rb').read()"


def attribute(path: Path, name: str) -> str:
    return os.getxattr(path, f"user.{name}").decode()


def chunk_list(path: Path) -> list[tuple[str, int, int]]:
    """(hash, offset, size) as the client reports."""
    header, *rows = attribute(path, "chunk_list").splitlines()
    assert header == "hash,offset,size"
    return [(row.split(",")[0], int(row.split(",")[1]), int(row.split(",")[2])) for row in rows]


def at_once(*tasks: Callable[[], object]) -> None:
    """Run these in threads, started together."""
    barrier = threading.Barrier(len(tasks))

    def run(task: Callable[[], object]) -> None:
        barrier.wait()
        task()

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def daemon_of(mounted: Path) -> Daemon:
    return Daemon.of(int(attribute(mounted, "pid")))


def test_every_byte_is_right(mounted: Path, source: Path, content: dict[str, bytes]) -> None:
    for name, data in content.items():
        assert (mounted / name).read_bytes() == data
        ours, theirs = (mounted / name).stat(), (source / name).stat()
        assert (ours.st_size, ours.st_mode) == (theirs.st_size, theirs.st_mode)
        assert ours.st_mtime_ns == theirs.st_mtime_ns
    assert (mounted / "link").readlink() == Path("deep/er/text.txt")


def test_the_tree_is_right(mounted: Path, source: Path) -> None:
    def tree(root: Path) -> list[tuple[str, list[str], list[str]]]:
        return [
            (os.path.relpath(directory, root), sorted(directories), sorted(files))
            for directory, directories, files in sorted(os.walk(root))
        ]

    assert tree(mounted) == tree(source)
    assert not (mounted / "absent").exists()
    with pytest.raises(OSError, match="Read-only") as raised:
        (mounted / "new").write_bytes(b"")
    assert raised.value.errno == errno.EROFS


def test_reads_anywhere(mounted: Path, content: dict[str, bytes]) -> None:
    data = content["chunked.bin"]
    with open(mounted / "chunked.bin", "rb", buffering=0) as file:
        for offset in (0, CHUNK_BYTES - 1, 7 * CHUNK_BYTES - 4096, len(data) - 5, len(data) + 9):
            assert os.pread(file.fileno(), 8192, offset) == data[offset : offset + 8192]


def test_a_large_directory_is_listed_whole(lab: Lab, tmp_path: Path) -> None:
    names = {f"a-file-with-a-long-name-{number:05}" for number in range(2003)}
    (tmp_path / "many").mkdir()
    for name in names:
        (tmp_path / "many" / name).touch()
    publish(lab, tmp_path / "many")
    serve(lab)
    assert set(os.listdir(mount(lab, options=LAB))) == names


def test_a_cold_read_downloads_each_chunk_once(mounted: Path, fresh: Fresh) -> None:
    (mounted / "chunked.bin").read_bytes()
    listed = chunk_list(mounted / "chunked.bin")
    assert len(listed) == CHUNKS
    assert sorted(fresh.paths()) == sorted(f"{digest}P" for digest, _, _ in listed)
    assert [offset for _, offset, _ in listed] == [i * CHUNK_BYTES for i in range(CHUNKS)]


def test_a_warm_read_downloads_nothing(mounted: Path, fresh: Fresh) -> None:
    first = (mounted / "chunked.bin").read_bytes()
    before = len(fresh.accesses())
    assert (mounted / "chunked.bin").read_bytes() == first
    assert len(fresh.accesses()) == before


def test_the_cache_serves_a_new_mount(mounted: Path, lab: Lab) -> None:
    data = (mounted / "chunked.bin").read_bytes()
    unmount(lab)
    mount(lab, options=LAB)
    fresh = Fresh(lab)
    assert (mounted / "chunked.bin").read_bytes() == data
    assert fresh.paths() == []


def test_cold_makes_it_download_again(mounted: Path, lab: Lab, content: dict[str, bytes]) -> None:
    (mounted / "chunked.bin").read_bytes()
    result = cold([mounted / "chunked.bin"])
    assert result.files[0].cached_bytes_after == 0
    assert (result.files[0].cached_bytes_before or 0) >= len(content["chunked.bin"])
    fresh = Fresh(lab)
    assert (mounted / "chunked.bin").read_bytes() == content["chunked.bin"]
    assert len(fresh.paths()) == CHUNKS


def test_readers_of_one_file_share_its_downloads(mounted: Path, lab: Lab, fresh: Fresh) -> None:
    order(lab, Shaping(latency_s=0.02))
    file = mounted / "chunked.bin"
    at_once(file.read_bytes, file.read_bytes, file.read_bytes)
    paths = fresh.paths()
    assert len(paths) == len(set(paths)) == CHUNKS


def test_processes_that_read_one_file_share_its_downloads(
    mounted: Path, lab: Lab, fresh: Fresh
) -> None:
    order(lab, Shaping(latency_s=0.02))
    command = [sys.executable, "-c", READ_TO_END, str(mounted / "chunked.bin")]
    readers = [subprocess.Popen(command) for _ in range(2)]
    assert [reader.wait() for reader in readers] == [0, 0]
    paths = fresh.paths()
    assert len(paths) == len(set(paths)) == CHUNKS


@pytest.mark.parametrize(
    ("names", "count"), [(("one.bin", "two.bin"), 3), (("small-one", "small-two"), 1)]
)
def test_equal_contents_are_downloaded_once(
    mounted: Path, lab: Lab, fresh: Fresh, names: tuple[str, str], count: int
) -> None:
    order(lab, Shaping(latency_s=0.1))
    before = int(attribute(mounted, "ndownload"))
    at_once(*[(mounted / "twins" / name).read_bytes for name in names])
    assert len(fresh.paths()) == count
    assert int(attribute(mounted, "ndownload")) - before == count


def test_a_whole_file_is_fetched_at_open(
    mounted: Path, fresh: Fresh, content: dict[str, bytes]
) -> None:
    with open(mounted / "whole.bin", "rb", buffering=0) as file:
        assert fresh.paths() == [attribute(mounted / "whole.bin", "hash")]
        assert file.read() == content["whole.bin"]
    assert len(fresh.paths()) == 1


def test_a_chunked_file_is_not_fetched_at_open(mounted: Path, fresh: Fresh) -> None:
    with open(mounted / "chunked.bin", "rb", buffering=0):
        assert fresh.paths() == []


def test_attributes_of_files(mounted: Path, content: dict[str, bytes]) -> None:
    chunked, whole = mounted / "chunked.bin", mounted / "whole.bin"
    assert attribute(chunked, "chunks") == str(CHUNKS)
    assert attribute(whole, "chunks") == "1"
    assert attribute(whole, "compression") == "zlib"
    assert chunk_list(whole) == [(attribute(whole, "hash"), 0, len(content["whole.bin"]))]
    assert attribute(whole, "lhash") == "Not in cache"
    for name in ("hash", "lhash", "absent"):
        with pytest.raises(OSError, match="No data available"):
            attribute(chunked, name)


def test_attributes_of_the_mount(mounted: Path, lab: Lab) -> None:
    serving = serve(lab)
    assert attribute(mounted, "fqrn") == lab.repository
    assert attribute(mounted, "version") == "0.lab"
    assert attribute(mounted, "revision") == "1"
    assert attribute(mounted, "host") == serving.url
    assert attribute(mounted, "proxy") == "DIRECT"
    assert attribute(mounted, "nioerr") == "0"
    assert attribute(mounted, "timeout") == "0"
    published = (lab.published / ".cvmfspublished").read_bytes()
    assert published.startswith(b"C" + attribute(mounted, "root_hash").encode() + b"\n")
    assert "user.rx" in os.listxattr(mounted)
    assert os.listxattr(mounted / "whole.bin") == []


def test_a_long_chunk_list_has_pages(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / "big/file").write_bytes(os.urandom(1000 * 1000))
    publish(lab, tmp_path / "big", type(CUTTING)(chunk_bytes=1000, threshold_bytes=1000))
    serve(lab)
    file = mount(lab, options=LAB) / "file"
    assert attribute(file, "chunk_list~?") == "num_pages, 2"
    pages = [attribute(file, f"chunk_list~{page}").splitlines() for page in range(2)]
    assert all(page[0] == "hash,offset,size" for page in pages)
    assert sum(len(page) - 1 for page in pages) == 1000
    assert attribute(file, "chunk_list").splitlines() == pages[0]
    with pytest.raises(OSError, match="No data available"):
        attribute(file, "chunk_list~2")


def test_the_daemon_looks_like_cvmfs2(mounted: Path) -> None:
    pid = attribute(mounted, "pid")
    tasks = Path(f"/proc/{pid}/task").iterdir()
    assert Path(f"/proc/{pid}/comm").read_text() == "cvmfs2\n"
    assert "MainDownload\n" in [(task / "comm").read_text() for task in tasks]
    assert "/libcvmfs_fuse3.so\n" in Path(f"/proc/{pid}/maps").read_text()
    table = Path("/proc/self/mounts").read_text().splitlines()
    line = next(line for line in table if line.split()[1] == str(mounted))
    assert line.startswith("cvmfs2 ")


# libcurl itself retries once if a reused connection closes without an answer.
@pytest.mark.parametrize(
    ("action", "requests"), [("status", 2), ("corrupt", 2), ("truncate", 2), ("drop", 3)]
)
def test_failures_are_errors_after_a_retry(
    mounted: Path, lab: Lab, fresh: Fresh, action: Action, requests: int
) -> None:
    order(lab, Shaping(rules=(Rule(action),)))
    with pytest.raises(OSError, match="Input/output error"):
        (mounted / "whole.bin").read_bytes()
    assert len(fresh.paths()) == requests
    assert attribute(mounted, "nioerr") == "1"
    order(lab, Shaping())
    assert len((mounted / "whole.bin").read_bytes()) == 100_003
    assert list((lab.cache / "lab" / lab.repository / "txn").iterdir()) == []


def test_a_corrupt_chunk_is_an_error(mounted: Path, lab: Lab) -> None:
    digest = chunk_list(mounted / "chunked.bin")[4][0]
    order(lab, Shaping(rules=(Rule("corrupt", path=digest[2:]),)))
    with pytest.raises(OSError, match="Input/output error"):
        (mounted / "chunked.bin").read_bytes()


def test_one_failure_is_retried(mounted: Path, lab: Lab, content: dict[str, bytes]) -> None:
    order(lab, Shaping(rules=(Rule("status", times=1),)))
    assert (mounted / "whole.bin").read_bytes() == content["whole.bin"]
    assert attribute(mounted, "nioerr") == "0"


def test_silence_ends_in_an_error_at_the_timeout(lab: Lab, source: Path) -> None:
    publish(lab, source, CUTTING)
    serve(lab)
    mounted = mount(lab, options=MountOptions(client="lab", timeout_s=1, retries=0))
    order(lab, Shaping(rules=(Rule("stall"),)))
    with pytest.raises(OSError, match="Input/output error"):
        (mounted / "whole.bin").read_bytes()


@pytest.fixture(params=["whole.bin", "chunked.bin"])
def hung(mounted: Path, lab: Lab, request: pytest.FixtureRequest) -> subprocess.Popen[bytes]:
    """A process that reads a file whose objects never come."""
    order(lab, Shaping(rules=(Rule("stall"),)))
    command = [sys.executable, "-c", READ_TO_END, str(mounted / request.param)]
    reader = subprocess.Popen(command, stderr=subprocess.PIPE)
    await_stalled(lab)
    return reader


def error_of(reader: subprocess.Popen[bytes]) -> str:
    _, message = reader.communicate(timeout=20)
    return message.decode()


def test_a_forced_unmount_frees_a_hung_reader(
    hung: subprocess.Popen[bytes], mounted: Path, lab: Lab
) -> None:
    daemon = daemon_of(mounted)
    unmount(lab, force=True)
    assert "Error" in error_of(hung)
    assert not daemon.alive()
    assert mounts(lab) == []


def test_a_killed_daemon_leaves_an_error_and_no_mount(
    hung: subprocess.Popen[bytes], mounted: Path, lab: Lab
) -> None:
    os.kill(daemon_of(mounted).pid, signal.SIGKILL)
    assert "Error" in error_of(hung)
    unmount(lab)
    assert mounts(lab) == []
    assert os.listdir(mounted) == []


def test_a_killed_reader_leaves_a_usable_mount(
    hung: subprocess.Popen[bytes], mounted: Path, lab: Lab, content: dict[str, bytes]
) -> None:
    daemon = daemon_of(mounted)
    hung.kill()
    error_of(hung)
    order(lab, Shaping())
    assert (mounted / "deep/er/text.txt").read_bytes() == content["deep/er/text.txt"]
    unmount(lab)
    assert not daemon.alive()
    assert mounts(lab) == []


def test_a_busy_mount_is_reported(mounted: Path, lab: Lab) -> None:
    with (
        open(mounted / "whole.bin", "rb"),
        pytest.raises(CvmprofError, match="cannot be unmounted"),
    ):
        unmount(lab)
    unmount(lab)


def test_unmount_waits_for_the_daemon(mounted: Path, lab: Lab) -> None:
    daemon = daemon_of(mounted)
    unmount(lab)
    assert not daemon.alive()
    assert os.listdir(mounted) == []
    unmount(lab)


def test_stop_leaves_nothing(mounted: Path, lab: Lab) -> None:
    daemons = [daemon_of(mounted), serve(lab).daemon]
    stop(lab)
    assert [daemon.alive() for daemon in daemons] == [False, False]
    assert mounts(lab) == []


def test_two_mounts_with_caches_of_their_own(mounted: Path, lab: Lab, tmp_path: Path) -> None:
    options = MountOptions(client="lab", cache=tmp_path / "second-cache")
    second = mount(lab, tmp_path / "second", options)
    assert sorted(mounts(lab)) == sorted([mounted, second])
    fresh = Fresh(lab)
    (mounted / "whole.bin").read_bytes()
    (second / "whole.bin").read_bytes()
    assert len(fresh.paths()) == 2


def test_mounting_twice_is_reported(mounted: Path, lab: Lab) -> None:
    with pytest.raises(CvmprofError, match="is a mount point already"):
        mount(lab, options=LAB)


def test_no_server_is_reported(lab: Lab, source: Path) -> None:
    publish(lab, source, CUTTING)
    with pytest.raises(CvmprofError, match="no running server"):
        mount(lab, options=LAB)


def test_nothing_published_is_reported(lab: Lab) -> None:
    serve(lab)
    with pytest.raises(CvmprofError, match=r"cannot get .*\.cvmfspublished"):
        mount(lab, options=LAB)


def test_a_foreign_key_is_refused(lab: Lab, source: Path, tmp_path: Path) -> None:
    publish(lab, source, CUTTING)
    publish(Lab(tmp_path / "other"), source, CUTTING)
    lab.public_key.write_bytes(Lab(tmp_path / "other").public_key.read_bytes())
    serve(lab)
    with pytest.raises(CvmprofError, match="whitelist is not signed"):
        mount(lab, options=LAB)


def test_a_forged_manifest_is_refused(lab: Lab, source: Path) -> None:
    publish(lab, source, CUTTING)
    file = lab.published / ".cvmfspublished"
    file.write_bytes(file.read_bytes().replace(b"\nS1\n", b"\nS9\n"))
    serve(lab)
    with pytest.raises(CvmprofError, match="manifest is not signed"):
        mount(lab, options=LAB)


def test_a_corrupt_catalog_is_refused(lab: Lab, source: Path) -> None:
    publish(lab, source, CUTTING)
    serve(lab, shaping=Shaping(rules=(Rule("corrupt", path="C$"),)))
    with pytest.raises(CvmprofError, match="cannot get the catalog"):
        mount(lab, options=LAB)


def test_a_new_revision_is_seen_by_a_new_mount(mounted: Path, lab: Lab, source: Path) -> None:
    (source / "later").write_bytes(b"later")
    publish(lab, source, CUTTING)
    unmount(lab)
    mount(lab, options=LAB)
    assert attribute(mounted, "revision") == "2"
    assert (mounted / "later").read_bytes() == b"later"


def test_downloads_reuse_their_connections(mounted: Path, fresh: Fresh) -> None:
    (mounted / "chunked.bin").read_bytes()
    assert len({entry.connection for entry in fresh.accesses()}) < CHUNKS


def test_the_log_survives_the_server(mounted: Path, lab: Lab) -> None:
    (mounted / "whole.bin").read_bytes()
    before = accesses(lab)
    stop(lab)
    assert accesses(lab) == before
