"""``cvmprof lab …``: publish, serve and mount a repository on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .units import size_bytes, time_s

if TYPE_CHECKING:
    from ..runners.lab.mounting import Client

_root_option = click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=Path(".lab"),
    show_default=True,
    help="The lab's directory.",
)
_mountpoint_argument = click.argument("mountpoint", required=False, type=click.Path(path_type=Path))


@click.group(no_args_is_help=False)
def lab() -> None:
    """Publish, serve and mount a repository on this machine.

    It has the real CVMFS format: try cvmprof without CERN's servers.
    """


@lab.command("model")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--size",
    type=size_bytes,
    metavar="SIZE",
    default="256MB",
    show_default=True,
    help="The size of the weights' file.",
)
@click.option(
    "--entropy",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="The random share of each weight; the lower, the better the file compresses.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Equal seeds give equal weights.",
)
def lab_model(directory: Path, size: int, entropy: float, seed: int) -> None:
    """Build a transformer in ONNX, to publish and load.

    Its weights are in a file of their own.
    """
    from ..runners.model import build_model

    click.echo(build_model(directory, size, seed, entropy=entropy))


@lab.command("publish")
@_root_option
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--chunk-size",
    type=size_bytes,
    metavar="SIZE",
    help="Cut every larger file into chunks of SIZE (default: files above 16 MiB into 8 MiB).",
)
@click.option("--no-chunks", is_flag=True, help="Keep every file as one object.")
def lab_publish(root: Path, source: Path, chunk_size: int | None, no_chunks: bool) -> None:
    """Make the repository's content equal to the directory SOURCE."""
    from ..runners.lab.lab import Cutting, Lab, publish

    cutting = Cutting(None) if no_chunks else None
    if chunk_size is not None and not no_chunks:
        cutting = Cutting(chunk_size, chunk_size)
    done = publish(Lab(root), source, cutting)
    click.echo(f"published {done.files} files in {done.chunks} chunks, revision {done.revision}")


@lab.command("serve")
@_root_option
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8123,
    show_default=True,
    help="0 takes a free one.",
)
@click.option(
    "--latency",
    type=time_s,
    metavar="TIME",
    default="0ms",
    show_default=True,
    help="The wait before each object's first byte.",
)
@click.option(
    "--bandwidth",
    type=size_bytes,
    metavar="SIZE",
    help="Bytes per second of each connection (default: no limit).",
)
@click.option(
    "--background",
    is_flag=True,
    help="Return once it serves; end it with: cvmprof lab unmount --stop.",
)
def lab_serve(
    root: Path, port: int, latency: float, bandwidth: int | None, background: bool
) -> None:
    """Serve the repository on 127.0.0.1, as slowly as ordered."""
    from ..runners.lab.lab import Lab, Shaping, serve, serve_here

    shaping = Shaping(latency_s=latency, bandwidth_bytes_s=bandwidth)
    if not background:
        sys.exit(serve_here(Lab(root), port, shaping))
    click.echo(serve(Lab(root), port, shaping).url)


@lab.command("mount")
@_root_option
@_mountpoint_argument
@click.option(
    "--client",
    type=click.Choice(["auto", "lab", "real"]),
    default="auto",
    show_default=True,
    help="real: cvmfs2; lab: the stand-in; auto: cvmfs2 if it is in PATH.",
)
def lab_mount(root: Path, mountpoint: Path | None, client: Client) -> None:
    """Mount the repository (default: at ROOT/mnt).

    Prints the mount point.
    """
    from ..runners.lab.lab import Lab, MountOptions, mount

    click.echo(mount(Lab(root), mountpoint, MountOptions(client=client)))


@lab.command("unmount")
@_root_option
@_mountpoint_argument
@click.option("--stop", is_flag=True, help="Also end this lab's server and its other mounts.")
@click.option("--force", is_flag=True, help="Unmount even if it is busy or its client hangs.")
def lab_unmount(root: Path, mountpoint: Path | None, stop: bool, force: bool) -> None:
    """Unmount the repository."""
    from ..runners.lab.lab import Lab, unmount
    from ..runners.lab.lab import stop as stop_lab

    unmount(Lab(root), mountpoint, force)
    if stop:
        stop_lab(Lab(root), force)
