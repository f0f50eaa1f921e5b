"""``cvmprof import``: a run made from a CVMFS client's log."""

from __future__ import annotations

from pathlib import Path

import click

from .. import __version__
from .runs import become_the_user, no_report_option, output_path, write_page


@click.command("import")
@click.argument("log", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=output_path,
    metavar="PATH",
    help="The run directory to make (default: LOG.cvmprof, here).",
)
@click.option(
    "--timezone",
    metavar="NAME",
    help="The time zone of a debug log that is not in UTC, such as Europe/Zurich.",
)
@no_report_option
def import_command(log: Path, output: Path | None, timezone: str | None, no_report: bool) -> None:
    """Make a run from a client's log. Takes a debug log or a trace file (CVMFS_DEBUGLOG,
    CVMFS_TRACEFILE).

    A log shows what was called and fetched, and in which order, but not how long it took.
    """
    from ..profiler.logs.imports import import_log
    from ..profiler.run.directory import page_of

    become_the_user()
    run = import_log(log, output or Path(f"{log.name}.cvmprof"), __version__, timezone)
    click.echo(run.path)
    if not no_report:
        click.echo(write_page(run, page_of(run.path), "write it elsewhere: cvmprof report -o"))
