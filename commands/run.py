"""``cvmprof run``: load and run an ONNX model."""

from __future__ import annotations

from pathlib import Path

import click


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
    type=click.Choice(["cpu", "cuda", "auto"]),
    default="cpu",
    show_default=True,
    help="Where to run it; auto: CUDA if ONNX Runtime has it.",
)
def run(model: Path, runs: int, threads: int, provider: str) -> None:
    """Load and run the ONNX MODEL: something to trace. Phases are marked."""
    from ..runners.onnx import run_model

    done = run_model(model, runs=runs, threads=threads, provider=provider)
    click.echo(f"load: {done.load_ns / 1e9:.3f} s ({done.provider})")
    for number, run_ns in enumerate(done.run_ns, 1):
        click.echo(f"run {number}: {run_ns / 1e9:.3f} s")
