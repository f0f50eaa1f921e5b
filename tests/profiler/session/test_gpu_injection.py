"""Whether the driver is to load the library, and what the table of probes says of it afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cvmprof.errors import CvmprofError
from cvmprof.probes.events import GPU_RECORD
from cvmprof.profiler.run.directory import create_run
from cvmprof.profiler.session import gpu_injection
from cvmprof.profiler.session.gpu_injection import GpuInjection, prepare_injection

USERS = {"CUDA_INJECTION64_PATH": "/opt/nsight/injection.so"}


@pytest.fixture(name="run")
def _run(tmp_path: Path) -> Path:
    return create_run(tmp_path / "a.cvmprof")


@pytest.fixture(name="library")
def _library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    library = tmp_path / "libcvmprof_gpu.so"
    library.touch()
    monkeypatch.setattr(gpu_injection, "LIBRARY", library)
    return library


@pytest.mark.parametrize("choice", ["auto", "cupti"])
def test_the_command_is_told_the_library_and_an_absolute_directory(
    run: Path, library: Path, choice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    prepared = prepare_injection(Path(run.name), choice, {"PATH": "/bin"})
    directory = run / "spool" / "gpu"
    assert prepared.variables() == {
        "CUDA_INJECTION64_PATH": str(library),
        "CVMPROF_GPU_DIR": str(directory),
    }
    assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("choice", ["off", "api"])
def test_without_cupti_nothing_is_set_and_nothing_said(run: Path, choice: str) -> None:
    prepared = prepare_injection(run, choice, {})
    assert (prepared.variables(), prepared.probe_rows(), prepared.hit_rows()) == ({}, [], [])
    assert not (run / "spool" / "gpu").exists()


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("choice", ["auto", "cupti"])
def test_a_library_that_the_user_injects_is_left_alone(run: Path, choice: str) -> None:
    prepared = prepare_injection(run, choice, USERS)
    assert (prepared.variables(), prepared.hit_rows()) == ({}, [])
    (row,) = prepared.probe_rows()
    assert (row["event"], row["family"]) == ("GPU activity", "none")
    assert row["reason"] == (
        "CUDA_INJECTION64_PATH is set to /opt/nsight/injection.so already, and left alone"
    )


def test_a_missing_library_is_an_error_where_cupti_was_asked_for(run: Path, library: Path) -> None:
    library.unlink()
    with pytest.raises(CvmprofError, match=r"libcvmprof_gpu\.so is missing") as raised:
        prepare_injection(run, "cupti", {})
    assert raised.value.help_text == "install gcc, then cvmprof again: make install"


def test_a_missing_library_is_mentioned_where_a_driver_is(run: Path, library: Path) -> None:
    """The command's own environment says where the driver's library is."""
    library.unlink()
    assert prepare_injection(run, "auto", {}) == GpuInjection()
    (run.parent / "libcuda.so.1").touch()
    prepared = prepare_injection(run, "auto", {"LD_LIBRARY_PATH": str(run.parent)})
    assert prepared.variables() == {}
    (row,) = prepared.probe_rows()
    assert row["family"] == "none"
    assert row["reason"] == f"{library} is missing: install gcc, then cvmprof again: make install"


def write(directory: Path, name: str, records: int, *troubles: str) -> None:
    """The files of a process."""
    lines = [f'{{"kind":"trouble","time_ns":1,"text":"{text}"}}' for text in troubles]
    whole = ['{"kind":"process"}', *lines, '{"kind":"end","time_ns":2}', '{"torn']
    (directory / f"{name}.lines").write_text("\n".join(whole))
    (directory / f"{name}.records").write_bytes(bytes(records * GPU_RECORD.size + 5))


@pytest.mark.usefixtures("library")
def test_records_are_counted_and_trouble_is_the_reason(run: Path) -> None:
    prepared = prepare_injection(run, "auto", {})
    assert prepared.directory is not None
    assert prepared.probe_rows() == [
        {
            "event": "GPU activity",
            "family": "cupti",
            "target": "libcvmprof_gpu.so",
            "build_id": None,
            "reason": None,
        }
    ]
    write(prepared.directory, "7-1", 0, "no CUPTI", "no CUPTI")
    (row,) = prepared.probe_rows()
    assert (row["family"], row["reason"]) == ("none", "no CUPTI")
    write(prepared.directory, "8-2", 3)
    write(prepared.directory, "9-3", 4, "another tool", "no CUPTI")
    (row,) = prepared.probe_rows()
    assert (row["family"], row["reason"]) == ("cupti", "no CUPTI; another tool")
    assert prepared.hit_rows() == [{"event": "GPU activity", "hits": 7}]


@pytest.mark.usefixtures("library")
def test_what_a_process_puts_in_place_of_the_files_does_no_harm(run: Path) -> None:
    """Opening a FIFO would wait for a writer; a link could name any file."""
    prepared = prepare_injection(run, "auto", {})
    assert prepared.directory is not None
    os.mkfifo(prepared.directory / "1-1.lines")
    (prepared.directory / "2-1.lines").mkdir()
    (prepared.directory / "3-1.records").symlink_to("/etc/passwd")
    (prepared.directory / "4-1.lines").write_bytes(b'\xff\n[1]\n{"kind":"trouble"}\n' + bytes(99))
    (row,) = prepared.probe_rows()
    assert (row["family"], row["reason"]) == ("cupti", None)
    assert prepared.hit_rows() == [{"event": "GPU activity", "hits": 0}]


@pytest.mark.usefixtures("library")
def test_processes_whose_last_line_is_missing_may_lack_records(run: Path) -> None:
    prepared = prepare_injection(run, "auto", {})
    assert prepared.directory is not None
    write(prepared.directory, "7-1", 1)
    for name in ("8-1", "9-1"):
        (prepared.directory / f"{name}.lines").write_text('{"kind":"process"}\n')
    (row,) = prepared.probe_rows()
    assert (row["family"], row["reason"]) == (
        "cupti",
        "the last records of 2 processes may be missing: killed, replaced by another program, or "
        "still running",
    )


@pytest.mark.usefixtures("library")
def test_a_directory_that_the_command_replaced_holds_nothing(run: Path) -> None:
    """Whose name cannot even be looked up."""
    prepared = prepare_injection(run, "auto", {})
    assert prepared.directory is not None
    prepared.directory.rmdir()
    prepared.directory.symlink_to("1" * 300)
    assert [row["reason"] for row in prepared.probe_rows()] == [None]
    assert prepared.hit_rows() == [{"event": "GPU activity", "hits": 0}]


@pytest.mark.usefixtures("library")
def test_a_directory_that_cannot_be_made_is_an_error(run: Path) -> None:
    (run / "spool" / "gpu").touch()
    with pytest.raises(CvmprofError, match="cannot make the directory"):
        prepare_injection(run, "auto", {})
