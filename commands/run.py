"""``cvmprof run``: load and run an ONNX model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..runners.onnx import ModelRun


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--runs", type=click.IntRange(min=1), default=3, show_default=True, help="How often to run it."
)
@click.option(
    "--threads", type=click.IntRange(min=0), default=0, help="0 leaves the choice to ONNX Runtime."
)
@click.option(
    "--provider",
    type=click.Choice(["cpu", "cuda", "tensorrt", "auto"]),
    default="cpu",
    show_default=True,
    help="Where to run it; auto: CUDA where it works, else the CPU.",
)
def run(model: Path, runs: int, threads: int, provider: str) -> None:
    """Load and run the ONNX MODEL: something to trace. Phases are marked.

    Prints the provider that ran it, the time of the load and of the first run, and the median of
    the others.
    """
    from ..runners.onnx import run_model

    done = run_model(model, runs=runs, threads=threads, provider=provider)
    click.echo(provider_line(done))
    if done.unused:
        click.echo(f"not CUDA: {done.unused}")
    click.echo(f"load: {done.load_ns / 1e9:.3f} s")
    click.echo(f"first run: {done.run_ns[0] / 1e9:.3f} s")
    if done.steady_ns is not None:
        click.echo(f"steady run: {done.steady_ns / 1e9:.3f} s (median of {runs - 1})")


def provider_line(done: ModelRun) -> str:
    """Which provider ran the model, and how its nodes were divided, as far as it is known."""
    line = f"provider: {done.provider}"
    if done.nodes is None:
        return f"{line} (ONNX Runtime before 1.24 does not say which nodes it ran)"
    others = (f"{name}: {count}" for name, count in done.nodes.items() if name != done.provider)
    own = f"{done.nodes.get(done.provider, 0)} of {sum(done.nodes.values())} nodes"
    return ", ".join((line, own, *others))
