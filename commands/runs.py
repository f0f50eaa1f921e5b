"""Runs and pages as commands name, open and write them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..errors import CvmprofError

if TYPE_CHECKING:
    from ..profiler.run.opened import Run

run_argument = click.argument("run", type=click.Path(path_type=Path))
no_report_option = click.option("--no-report", is_flag=True, help="Write the tables, but no page.")


def output_path(text: str) -> Path:
    """The path to write to. Raises BadParameter if it is empty."""
    if not text:
        raise click.BadParameter("the path to write to is empty")
    return Path(text)


def become_the_user() -> None:
    """Drop root under sudo: what is written beside a user's run belongs to that user."""
    from ..profiler.session.identity import become, invoking_user

    become(invoking_user())


def recovered(run: Path) -> Run:
    """The run at this path, finalised if it was cut off, as the invoking user. Raises BadRun."""
    from ..profiler.finalise import recover_run

    become_the_user()
    return recover_run(run)


def write_page(run: Run, page: Path, way_out: str) -> Path:
    """Write a run's page. Raises CvmprofError with this way out if it cannot be written."""
    from ..reports.page.page import write_page as write

    try:
        return write(run, page)
    except OSError as error:
        fact = f"cannot write the page {page}: {error.strerror}"
        raise CvmprofError(fact, way_out) from error
