"""The table of the tensors that were late."""

from __future__ import annotations

from ..escape import visible
from ..numbers.statistics import Statistics
from ..numbers.tensors import LateTensor
from ..words import duration, plural, size
from .tables import Cell, Columns, Row, Section, Table

#: tensors that have a row, and characters of a name and of a path that a cell shows
_ROWS, _NAME, _PATH = 20, 64, 56
#: fetches that are named under the pointer
_FETCHES = 20

_LATE: Columns = (
    ("Tensor", "path"), ("Type", ""), ("Shape", ""), ("Size", "n"), ("First needed", "n"),
    ("Waited", "n"), ("Chunks waited for", "n"), ("File", "file"),
)  # fmt: skip


def sections_of_tensors(s: Statistics) -> list[Section]:
    """Return the table of late tensors where there are any."""
    rows = tuple(_row(tensor, s) for tensor in s.tensors.latest[:_ROWS])
    if not rows:
        return []
    more = f": the {len(rows)} waited for longest, of {s.tensors.late:,}"
    title = "Tensors that were late" + (more if s.tensors.late > len(rows) else "")
    return [Section("tensors", title, Table(_LATE, rows))]


def _row(tensor: LateTensor, s: Statistics) -> Row:
    need = tensor.first_need_ns
    path = tensor.path
    return Row(
        (
            Cell(visible(tensor.name, _NAME), tensor.name),
            Cell(visible(tensor.dtype)),
            Cell(" × ".join(str(each) for each in tensor.shape) or "scalar"),
            Cell(size(tensor.size_bytes)),
            Cell("" if need is None else duration(need - s.start_ns)),
            Cell(duration(tensor.wait_ns)),
            _chunks(tensor),
            Cell("no file known") if path is None else Cell(visible(path, _PATH), path),
        )
    )


def _chunks(tensor: LateTensor) -> Cell:
    """Chunks waited for; they may be more than hold it, since a request reads ahead."""
    fetches = " ".join(f"#{number}" for number in tensor.fetch_ids[:_FETCHES])
    held = f"{plural(tensor.chunks, 'chunk')} hold{'s' if tensor.chunks == 1 else ''} it"
    return Cell(f"{tensor.chunks_waited_for:,}", f"{held}; fetches: {fetches or 'none'}")
