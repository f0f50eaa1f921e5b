"""``cvmprof report``: write the page of a run."""

from __future__ import annotations

from pathlib import Path

import click

from .runs import output_path, recovered, run_argument, write_page


@click.command()
@run_argument
@click.option(
    "-o", "--output", type=output_path, metavar="PATH", help="The page (default: beside RUN)."
)
def report(run: Path, output: Path | None) -> None:
    """Write the page of RUN. A run that was cut off is recovered first."""
    from ..profiler.run.directory import page_of

    way_out = "with -o, name a place that exists, has room, and that you may write to"
    click.echo(write_page(recovered(run), output or page_of(run), way_out))
