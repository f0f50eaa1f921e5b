"""``cvmprof doctor``: what can be observed on this machine."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the same as JSON.")
def doctor(as_json: bool) -> None:
    """Show what can be recorded here, and what is missing.

    For each event: how it is observed, or why it cannot be and the ways out. Then the GPUs, and
    what is there to observe them.
    """
    from ..probes.diagnosis import diagnose
    from ..probes.kernel import diagnosed_kernel
    from ..profiler.record.fentry_check import tried
    from ..profiler.session.identity import invoking_user
    from ..profiler.session.launch import found_bcc
    from ..profiler.session.nvml import gpus_of_machine
    from ..reports.terminal.doctor import render_doctor

    gpus = gpus_of_machine(invoking_user().environment)
    diagnosis = diagnose(tried(diagnosed_kernel()), bcc=found_bcc(), gpus=gpus)
    if as_json:
        click.echo(json.dumps(diagnosis.as_json()))
    else:
        click.echo(render_doctor(diagnosis), nl=False)
