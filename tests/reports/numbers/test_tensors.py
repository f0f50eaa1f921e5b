"""How long threads waited for tensors, in numbers and on the page."""

from __future__ import annotations

import json

from cvmprof.reports.material import gather
from cvmprof.reports.numbers.tensors import LateTensor, tensors
from cvmprof.reports.page.tensors import sections_of_tensors
from cvmprof.reports.terminal.summary import summary_json
from cvmprof.tests.reports.rows import statistics_of
from cvmprof.tests.reports.synthetic import MIB, MODEL, MS, START, Rows, run_of, tiny_rows


def model_rows(first: str = "embedding") -> Rows:
    """Two reads of a MiB, each 35 ms for one fetch, and three tensors in the first chunk."""
    rows = tiny_rows()
    for name, offset, size in ((first, 0, MIB // 2), ("norm", MIB // 2, 4096),
                               ("head", MIB - 4096, MIB)):  # fmt: skip
        rows.add("tensors", file_id=0, name=name, offset_bytes=offset, size_bytes=size,
                 dtype="F32", shape=[size // 4])  # fmt: skip
    return rows


def test_late_tensors_the_latest_first() -> None:
    """The read of the second MiB begins inside the last tensor."""
    found = statistics_of(model_rows()).tensors
    assert (found.known, found.needed, found.late, found.wait_ns) == (3, 3, 2, 70 * MS)
    assert found.latest == (
        LateTensor("embedding", MODEL, "F32", (MIB // 8,), 0, MIB // 2, START + 10 * MS, 35 * MS,
                   1, 1, (0,)),
        LateTensor("head", MODEL, "F32", (MIB // 4,), MIB - 4096, MIB, START + 10 * MS, 35 * MS,
                   1, 1, (1,)),
    )  # fmt: skip
    assert tensors(gather(run_of(model_rows())), 1).latest == found.latest[:1]


def test_without_tensors_there_is_nothing_to_say() -> None:
    statistics = statistics_of(tiny_rows())
    found = statistics.tensors
    assert (found.known, found.needed, found.late, found.latest) == (0, 0, 0, ())
    assert sections_of_tensors(statistics) == []


def test_the_table_of_the_page() -> None:
    (section,) = sections_of_tensors(statistics_of(model_rows()))
    assert [[cell.text for cell in row.cells] for row in section.table.rows] == [
        ["embedding", "F32", "131072", "512 KiB", "10.0 ms", "35.0 ms", "1", MODEL],
        ["head", "F32", "262144", "1.00 MiB", "10.0 ms", "35.0 ms", "1", MODEL],
    ]
    assert section.table.rows[0].cells[6].title == "1 chunk holds it; fetches: #0"
    assert len(section.table.columns) == len(section.table.rows[0].cells)


def test_a_hostile_name_is_made_visible() -> None:
    statistics = statistics_of(model_rows("\x1b[31m\u202e<b>"))
    (section,) = sections_of_tensors(statistics)
    assert section.table.rows[0].cells[0].text == r"\x1b[31m\u202e<b>"


def test_the_keys_of_the_summary() -> None:
    written = json.loads(summary_json(statistics_of(model_rows())))["tensors"]
    assert sorted(written) == ["known", "late", "latest", "needed", "wait_ns"]
    assert written["latest"][0] == {
        "name": "embedding", "path": MODEL, "dtype": "F32", "shape": [MIB // 8], "offset_bytes": 0,
        "size_bytes": MIB // 2, "first_need_ns": START + 10 * MS, "wait_ns": 35 * MS, "chunks": 1,
        "chunks_waited_for": 1, "fetch_ids": [0],
    }  # fmt: skip
