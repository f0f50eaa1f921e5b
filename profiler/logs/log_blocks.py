"""Read logs of any length in blocks that end at the end of a line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

import polars as pl

BLOCK_BYTES = 16 << 20
#: where a line without end is cut
LONGEST_LINE_BYTES = 1 << 20


def blocks(file: IO[bytes], size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield a file in pieces of about ``size`` bytes that end where a line ends.

    A line longer than LONGEST_LINE_BYTES is cut, so that the memory needed is bounded.
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
    """Return the lines of a block as text; bytes that are not UTF-8 are replaced."""
    text = block.decode("utf-8", "replace").replace("\r\n", "\n").removesuffix("\n")
    return pl.Series("line", text.split("\n"), dtype=pl.String)


def first_block(path: Path) -> bytes:
    """Return the beginning of a file, enough to recognise its format. Raises OSError."""
    with path.open("rb") as file:
        return file.read(1 << 16)
