"""A tensor as a model's header names it."""

from __future__ import annotations

from dataclasses import dataclass

#: above every offset, size and dimension that a model has
LIMIT = 1 << 62
_MAX_NAME, _MAX_DTYPE, _MAX_DIMENSIONS = 1000, 40, 64


@dataclass(frozen=True)
class Tensor:
    """A named range of bytes.

    ``location``: the file that holds it, relative to the model's directory; None: the model itself.
    """

    name: str
    offset_bytes: int
    size_bytes: int
    dtype: str
    shape: tuple[int, ...]
    location: str | None = None

    @property
    def end_bytes(self) -> int:
        """The first byte after it."""
        return self.offset_bytes + self.size_bytes

    @property
    def is_sound(self) -> bool:
        """Whether its numbers are those of a tensor at all."""
        numbers = (self.offset_bytes, self.size_bytes, *self.shape)
        return len(self.shape) <= _MAX_DIMENSIONS and all(0 <= each < LIMIT for each in numbers)

    def row(self) -> list[object]:
        """Name, offset, size, type and shape, as they are kept."""
        name, dtype = printable(self.name, _MAX_NAME), printable(self.dtype, _MAX_DTYPE)
        return [name, self.offset_bytes, self.size_bytes, dtype, list(self.shape)]


def printable(text: str, limit: int) -> str:
    """Cut a text, and escape what UTF-8 cannot hold."""
    return text[:limit].encode("utf-8", "backslashreplace").decode()
