"""``cvmprof cold``: make the next load a cold one."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--drop-all-caches", is_flag=True, help="Also drop the machine's whole page cache.")
def cold(paths: tuple[Path, ...], drop_all_caches: bool) -> None:
    """Empty the client's cache and drop the files' pages. PATHS are mount points or files."""
    from ..runners.lab.cold import cold as make_cold

    result = make_cold(paths, drop_all=drop_all_caches)
    for client in result.clients:
        objects = "" if client.objects is None else f" ({client.objects} objects)"
        click.echo(f"emptied the client's cache of {client.mountpoint}{objects}")
    for path in result.unserved:
        click.echo(f"no CVMFS client serves {path}: only its pages were dropped")
    click.echo(f"dropped the pages of {len(result.files)} files")
