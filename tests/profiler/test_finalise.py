"""The run directory: made, finalised, recovered, refused."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

import cvmprof
from cvmprof.errors import BadRun, CvmprofError
from cvmprof.profiler.finalise import finalise, finish, recover_run
from cvmprof.profiler.run.directory import SCHEMA_VERSION, create_run
from cvmprof.profiler.run.opened import open_run
from cvmprof.profiler.tables import TABLES

if TYPE_CHECKING:
    from tests.profiler.conftest import SpoolWriter


def test_a_new_run_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        run = create_run(tmp_path / "a.cvmprof")
    finally:
        os.umask(before)
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    assert stat.S_IMODE((run / "spool").stat().st_mode) == 0o700


def test_nothing_is_overwritten_and_no_link_followed(tmp_path: Path) -> None:
    (tmp_path / "link.cvmprof").symlink_to(tmp_path / "elsewhere")
    for name in ("link.cvmprof", "."):
        with pytest.raises(CvmprofError, match="exists already"):
            create_run(tmp_path / name)
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(CvmprofError, match="No such file"):
        create_run(tmp_path / "no" / "where.cvmprof")


def test_all_tables_of_a_run_without_a_single_event(spool_writer: SpoolWriter) -> None:
    spool_writer.begin()
    spool_writer.end(2000)
    run = finalise(spool_writer.run)
    assert {table.name: run.tables[table.name].schema for table in TABLES} == {
        table.name: table.schema() for table in TABLES
    }
    assert run.tables["mounts"].select("mountpoint", "filesystem").rows() == [
        ("/cvmfs/models.lab.test", "fuse")
    ]
    assert all(run.tables[t.name].height == 0 for t in TABLES if t.name != "mounts")


def test_every_table_of_a_run_has_its_schema(cold_read: SpoolWriter) -> None:
    run = finalise(cold_read.run)
    assert {name: frame.schema for name, frame in run.tables.items()} == {
        table.name: table.schema() for table in TABLES
    }
    for table in TABLES:
        for column in table.columns:
            if not column.nullable:
                assert run.tables[table.name][column.name].null_count() == 0


def test_files_are_private_and_the_spool_goes(cold_read: SpoolWriter) -> None:
    before = os.umask(0)
    try:
        run = finalise(cold_read.run).path
    finally:
        os.umask(before)
    files = [run / "meta.json", *(run / "tables").iterdir()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert {file.name for file in (run / "tables").iterdir()} == {
        f"{t.name}.parquet" for t in TABLES
    }
    assert stat.S_IMODE((run / "tables").stat().st_mode) == 0o700
    assert not (run / "spool").exists()


def test_how_many_cpus_the_command_might_use(cold_read: SpoolWriter) -> None:
    assert finalise(cold_read.run, keep_spool=True).meta["allowed_cpus"] is None
    cold_read.journal("cpu_sampler", 29000, cpu_ns=1, allowed_cpus=3)
    assert finalise(cold_read.run).meta["allowed_cpus"] == 3


def test_the_spool_may_be_kept_and_finalised_again(cold_read: SpoolWriter) -> None:
    first = finalise(cold_read.run, keep_spool=True)
    again = finalise(cold_read.run, keep_spool=True)
    assert first.meta == again.meta
    assert (cold_read.run / "spool" / "operation.ring").exists()


def test_tables_whose_spool_is_gone_are_not_made_again(cold_read: SpoolWriter) -> None:
    made = finalise(cold_read.run).tables["downloads"]
    with pytest.raises(BadRun, match="no longer has a spool"):
        finalise(cold_read.run)
    assert open_run(cold_read.run).tables["downloads"].equals(made)


def test_the_notebooks_way(cold_read: SpoolWriter) -> None:
    finalise(cold_read.run)
    run = cvmprof.open_run(cold_read.run)
    assert run.tables.operations.height == 2
    assert run.scan("operations").select(pl.len()).collect().item() == 2
    assert set(run.tables) == {table.name for table in TABLES}
    assert run.losses == 0
    with pytest.raises(KeyError):
        run.scan("nonsense")
    with pytest.raises(AttributeError):
        _ = run.tables.nonsense


def torn(run: Path) -> None:
    """Cut every ring in the middle of its last record, and the journal in its last line."""
    for file in (run / "spool").glob("*.ring"):
        file.write_bytes(file.read_bytes()[:-3])
    journal = run / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-4])


def test_a_run_that_was_cut_off_is_recovered_and_says_so(cold_read: SpoolWriter) -> None:
    torn(cold_read.run)
    with pytest.raises(BadRun, match="never finalised"):
        open_run(cold_read.run)
    run = recover_run(cold_read.run)
    assert not run.is_complete
    assert run.meta["stop_ns"] is None
    assert run.tables["operations"]["start_ns"].to_list() == [2000]
    tiles = run.tables["segments"].filter(tid=100).sort("start_ns")
    assert tiles["start_ns"].to_list() == [1100, *tiles["end_ns"].to_list()[:-1]]
    assert tiles["end_ns"].to_list()[-1] == 20000  # the exit of 101, the last thing seen
    assert recover_run(cold_read.run).meta == run.meta


def test_attributes_are_read_once_and_a_full_disk_prevents_only_that(
    cold_read: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def full_disk(run: Path) -> None:
        read.append(run)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cvmprof.profiler.finalise.collect", full_disk)
    assert finish(cold_read.run).is_complete
    assert recover_run(cold_read.run).is_complete
    assert read == [cold_read.run]


def test_attributes_that_were_read_are_not_read_again(
    cold_read: SpoolWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run: Path) -> None:
        raise AssertionError(run)

    monkeypatch.setattr("cvmprof.profiler.finalise.collect", fail)
    cold_read.journal("collected", 30003)
    assert recover_run(cold_read.run).is_complete


@pytest.mark.parametrize(
    "ring", ["operation", "blocked", "request", "served", "call", "task", "file"]
)
def test_a_ring_may_be_missing(cold_read: SpoolWriter, ring: str) -> None:
    (cold_read.run / "spool" / f"{ring}.ring").unlink()
    run = finalise(cold_read.run)
    for tid in (100, 101):
        tiles = run.tables["segments"].filter(tid=tid).sort("start_ns")
        assert tiles["start_ns"].to_list()[1:] == tiles["end_ns"].to_list()[:-1]
    assert run.tables["tasks"].filter(role="target").height == 2


def test_runs_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "meta.json").write_text('{"format": "something else"}')
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "meta.json").write_text("[]")
    (tmp_path / "garbled").mkdir()
    (tmp_path / "garbled" / "meta.json").write_bytes(b"\xff{")
    for name, fact in (
        ("absent", "there is no"),
        ("empty", "is not a run"),
        ("file", "is not a directory"),
        ("foreign", "is not a run"),
        ("list", "is not a run"),
        ("garbled", "damaged"),
    ):
        for opening in (open_run, recover_run):
            with pytest.raises(BadRun, match=fact) as caught:
                opening(tmp_path / name)
            assert "\n" not in caught.value.fact + caught.value.help_text
    with pytest.raises(BadRun, match="holds no recording"):
        finalise(tmp_path / "empty")


def test_a_newer_schema_is_refused(cold_read: SpoolWriter) -> None:
    run = finalise(cold_read.run).path
    meta = json.loads((run / "meta.json").read_text())
    (run / "meta.json").write_text(json.dumps({**meta, "schema_version": 99}))
    with pytest.raises(BadRun, match="has schema version 99"):
        open_run(run)


def test_a_newer_journal_is_refused(spool_writer: SpoolWriter) -> None:
    newer = SCHEMA_VERSION + 1
    spool_writer.journal("start", 1, schema_version=newer)
    with pytest.raises(BadRun, match=f"has schema version {newer}"):
        recover_run(spool_writer.run)
    assert (spool_writer.run / "spool").exists()


def test_truncated_missing_and_exchanged_tables(cold_read: SpoolWriter) -> None:
    run = finalise(cold_read.run).path
    table = run / "tables" / "segments.parquet"
    whole = table.read_bytes()
    table.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadRun, match="damaged"):
        open_run(run)
    table.unlink()
    with pytest.raises(BadRun, match="missing"):
        open_run(run)
    pl.read_parquet(run / "tables" / "waits.parquet").head(1).write_parquet(table)
    with pytest.raises(BadRun, match="has 1 rows where"):
        open_run(run)


def test_links_are_never_written_through(cold_read: SpoolWriter, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    tables = cold_read.run / "tables"
    tables.mkdir()
    for name in ("operations.parquet", ".operations.0.part", ".segments.whole"):
        (tables / name).symlink_to(victim)
    (cold_read.run / ".meta.json.new").symlink_to(victim)
    finalise(cold_read.run)
    assert victim.read_text() == "precious"
    assert not (tables / "operations.parquet").is_symlink()


def test_a_tables_directory_that_is_a_link_is_refused(
    cold_read: SpoolWriter, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (cold_read.run / "tables").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CvmprofError, match="cannot write the tables"):
        finalise(cold_read.run)
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_a_full_disk_is_a_fact_and_loses_nothing(cold_read: SpoolWriter, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", small], check=True)
    try:
        run = small / "r.cvmprof"
        subprocess.run(["cp", "-r", cold_read.run, run], check=True)
        (small / "ballast").write_bytes(bytes(os.statvfs(small).f_bavail * 4096 - 8192))
        with pytest.raises(CvmprofError, match="no space is left") as caught:
            finalise(run)
        assert "cvmprof report" in caught.value.help_text
        (small / "ballast").unlink()
        subprocess.run(["mount", "-o", "remount,size=8m", small], check=True)
        assert recover_run(run).meta["rows"]["segments"] == 33
    finally:
        subprocess.run(["umount", small], check=True)
