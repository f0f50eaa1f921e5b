"""Logs of any length, read in blocks that end at a line's end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

import polars as pl

BLOCK_BYTES = 16 << 20
#: a block without any line's end is cut off there
LONGEST_LINE_BYTES = 1 << 20


def blocks(file: IO[bytes], size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield what a file holds in pieces of about ``size`` bytes, none of which cuts a line.

    A line longer than LONGEST_LINE_BYTES is cut, so that no file needs more memory than that.
    """
    rest = b""
    while block := file.read(size):
        whole, end, rest = (rest + block).rpartition(b"\n")
        if whole or end:
            yield whole + end
        elif len(rest) > LONGEST_LINE_BYTES:
            yield rest
            rest = b""
    if rest:
        yield rest


def lines_of(block: bytes) -> pl.Series:
    """The lines of a block as text; what is no UTF-8 is replaced."""
    text = block.decode("utf-8", "replace").replace("\r\n", "\n").removesuffix("\n")
    return pl.Series("line", text.split("\n"), dtype=pl.String)


def first_block(path: Path) -> bytes:
    """What a file begins with: enough to tell what it is. Raises OSError."""
    with path.open("rb") as file:
        return file.read(1 << 16)
