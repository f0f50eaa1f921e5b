"""``cvmprof summary``: the numbers of a run, in the terminal or as JSON."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from .runs import recovered, run_argument


@click.command()
@run_argument
@click.option("--json", "as_json", is_flag=True, help="Print every number, as JSON.")
def summary(run: Path, as_json: bool) -> None:
    """Print where the time of RUN went."""
    from ..reports.material import gather
    from ..reports.numbers.statistics import compute
    from ..reports.terminal.summary import render_summary, summary_json

    statistics = compute(gather(recovered(run)))
    if as_json:
        click.echo(summary_json(statistics))
        return
    width = shutil.get_terminal_size((100, 40)).columns
    click.echo(render_summary(statistics, width, sys.stdout.isatty()), nl=False)
