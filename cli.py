"""The command line: the commands, and the ``main`` that ends as they end."""

from __future__ import annotations

import click

from . import __version__
from .commands.cold import cold
from .commands.demo import demo
from .commands.doctor import doctor
from .commands.ending import exit_code_of
from .commands.import_ import import_command
from .commands.lab import lab
from .commands.output import hold_standard_descriptors
from .commands.report import report
from .commands.run import run
from .commands.summary import summary
from .commands.trace import trace


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=False)
@click.version_option(__version__, prog_name="cvmprof")
@click.option("--debug", is_flag=True, help="Show tracebacks and the compiler's messages.")
def cli(debug: bool) -> None:
    """Where did the time go between the model file and the GPU?

    Watches a command that reads its model from CernVM-FS, down to the chunks that the client
    fetched for it, and draws what it saw.
    """


for _command in (trace, report, summary, doctor, cold, run, import_command, lab, demo):
    cli.add_command(_command)


def main() -> int:
    """Run the command line; return the exit code."""
    hold_standard_descriptors()
    return exit_code_of(lambda: cli.main(standalone_mode=False, prog_name="cvmprof"))
