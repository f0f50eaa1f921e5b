"""``cvmprof trace``: record a command, then write its tables and its page."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import __version__
from ..errors import CvmprofError, EventsLost
from ..probes.catalog import BACKENDS
from ..probes.gpu import GPU_CHOICES
from .ending import end_as, explain, one_line, print_error, wants_debug
from .output import say
from .runs import no_report_option, output_path, write_page
from .units import time_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..profiler.run.opened import Run
    from ..profiler.session.session import Recorded, TraceOptions


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "-o",
    "--output",
    type=output_path,
    metavar="PATH",
    help="The run directory to make (default: COMMAND-DATE-TIME.cvmprof).",
)
@no_report_option
@click.option(
    "--backend",
    type=click.Choice(list(BACKENDS)),
    default="auto",
    show_default=True,
    help="How to observe the kernel.",
)
@click.option(
    "--gpu",
    type=click.Choice(list(GPU_CHOICES)),
    default="auto",
    show_default=True,
    help="How to observe GPUs: by CUPTI, by the driver's calls, or not; auto: CUPTI if it can be.",
)
@click.option("--every-read", is_flag=True, help="Record each read; do not sum up page-cache hits.")
@click.option("--all-files", is_flag=True, help="Record reads on all file systems, not only FUSE.")
@click.option("--strict", is_flag=True, help="Exit with 123 if events were lost.")
@click.option(
    "--stall-threshold",
    type=time_s,
    metavar="TIME",
    default="1ms",
    show_default=True,
    help="The shortest idle gap of the device that counts as a stall.",
)
@click.option(
    "--gpu-budget",
    type=click.FloatRange(0, 100, min_open=True),
    metavar="PERCENT",
    default=1,
    show_default=True,
    help="How much of the run time may be spent on watching launches of the GPU by uprobes.",
)
@click.option(
    "--instrument",
    type=click.Choice(["auto", "off"]),
    default="auto",
    show_default=True,
    help="Whether Python processes mark phases where frameworks load and run a model.",
)
@click.option(
    "--duration", type=time_s, metavar="TIME", help="Stop recording after TIME; COMMAND goes on."
)
@click.option(
    "--until",
    type=click.Choice(["command", "all"]),
    default="command",
    show_default=True,
    help="Record until COMMAND has ended, or all processes that it started.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def trace(command: tuple[str, ...], output: Path | None, no_report: bool, **choices: Any) -> None:
    """Run COMMAND as the user who calls, and record what it waited for.

    sudo cvmprof trace -- python infer.py

    Writes the run directory and, beside it, its page. The exit code is the command's. Ctrl-C goes
    to the command.
    """
    if not command:
        raise CvmprofError("no command was given", "sudo cvmprof trace -- python infer.py")
    from ..profiler.session.session import record
    from ..profiler.session.signals import interruptible

    options = _options(command[0], output, choices)
    recorded = record(list(command), options, __version__, _finisher)
    try:
        with interruptible():
            _finish(recorded, no_report)
    except BaseException as error:  # noqa: BLE001  the exit code is the command's
        print_error(explain(error, recorded.run), error)
    if options.strict and recorded.status == 0 and (recorded.losses or recorded.trouble):
        raise EventsLost("events were lost", f"list them: cvmprof summary {recorded.run}")
    end_as(recorded.status)


def _options(command: str, output: Path | None, choices: dict[str, Any]) -> TraceOptions:
    """What to record, by the options on the command line."""
    from ..profiler.session.session import TraceOptions

    units = {
        "stall_threshold_ns": round(choices.pop("stall_threshold") * 1e9),
        "duration_s": choices.pop("duration"),
        "instrument": choices.pop("instrument") == "auto",
    }
    return TraceOptions(
        run=output or _default_run(command),
        numbered=output is None,
        debug=wants_debug(),
        tell=lambda fact: say(f"cvmprof: {one_line(fact)}"),
        **units,
        **choices,
    )


def _default_run(command: str) -> Path:
    name = re.sub(r"[^A-Za-z0-9._-]", "_", Path(command).name) or "command"
    return Path(f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.cvmprof")


def _finish(recorded: Recorded, no_report: bool) -> None:
    """Make the tables from the spool and, unless ``no_report``, the page; print where they are."""
    from ..profiler.run.directory import page_of, refuse_removed

    refuse_removed(recorded.run)
    run = _finisher()(recorded.run)
    if recorded.trouble is not None:
        print_error(recorded.trouble)
    say(f"cvmprof: run {recorded.run}")
    if not no_report:
        way_out = f"free some space there, then: cvmprof report {recorded.run}"
        page = write_page(run, page_of(recorded.run), way_out)
        say(f"cvmprof: page {page}")


def _finisher() -> Callable[[Path], Run]:
    """The function that makes the tables; imported while the recorder compiles."""
    from ..profiler.finalise import finish

    return finish
