"""How much of the command's time something held."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from ..material import IS_FILE_DATA, Material
from .sums import total

REQUEST = ["mount_id", "unique"]
_LINKS = ("op_id", *REQUEST, "fetch_id")


@dataclass(frozen=True)
class Held:
    """Time that something held: of the command's wall time, as `command_causes` divides it, and of
    all its threads' lives.
    """

    wall_ns: int
    threads_ns: int


@dataclass(frozen=True)
class Linked:
    """What leads to an operation, a request or a fetch: of the command's wall time, and of all its
    threads' lives. Columns: ns, op_id?, mount_id?, unique?, fetch_id?, and ``of_data``: it waited
    for the content of a file to be fetched.
    """

    wall: pl.DataFrame
    threads: pl.DataFrame


def linked(material: Material) -> Linked:
    """Return the pieces of the command's time that lead to something."""
    data = material.frames["fetches"].filter(IS_FILE_DATA)["fetch_id"]
    of_data = pl.col("fetch_id").is_in(data.implode()).fill_null(value=False)
    wall, threads = (
        pieces.filter(pl.any_horizontal(pl.col(name).is_not_null() for name in _LINKS)).select(
            *_LINKS, ns=pl.col("end_ns") - pl.col("start_ns"), of_data=of_data
        )
        for pieces in (material.command_causes, material.frames["segments"])
    )
    return Linked(wall, threads)


def held(pieces: Linked, rows: pl.DataFrame, on: list[str] | str) -> Held:
    """Return the time whose pieces name one of the rows by these columns."""
    keys = rows.select(on).drop_nulls().unique()
    wall, threads = (
        total(each.join(keys, on=on, how="semi"), "ns") for each in (pieces.wall, pieces.threads)
    )
    return Held(wall, threads)


def held_by(pieces: Linked, rows: pl.DataFrame, by: str) -> dict[int, Held]:
    """Return the time of requests, by the value of a column of theirs.

    ``rows``: requests, none of them twice.
    """
    keys = rows.select(*REQUEST, by)
    wall, threads = (
        dict(each.join(keys, on=REQUEST).group_by(by).agg(pl.col("ns").sum()).iter_rows())
        for each in (pieces.wall, pieces.threads)
    )
    return {value: Held(wall.get(value, 0), ns) for value, ns in threads.items()}


def chosen(pieces: Linked, condition: pl.Expr) -> Linked:
    """Return the pieces that fulfil a condition."""
    return Linked(pieces.wall.filter(condition), pieces.threads.filter(condition))


def without_fetches(pieces: Linked) -> Linked:
    """Return the pieces that did not wait for the content of a file to be fetched."""
    return chosen(pieces, ~pl.col("of_data"))
