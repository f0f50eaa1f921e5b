from __future__ import annotations

from typing import Any

from cvmprof.reports.figures.waterfall import waterfall, waterfall_figure
from cvmprof.reports.material import gather
from cvmprof.tests.reports.figures.arrays import numbers
from cvmprof.tests.reports.synthetic import MS, START, Rows, run_of, tiny_rows


def waterfall_parts(rows: Rows) -> list[list[float]]:
    """Milliseconds of each part, by download."""
    material = gather(run_of(rows))
    figure = waterfall_figure(waterfall(material.frames, material.window), material.window)
    parts = [numbers(trace["x"]) for trace in figure["data"]]
    return [[round(part[row] * 1e3, 6) for part in parts] for row in range(len(parts[0]))]


def names_of_downloads(**changes: Any) -> list[str]:
    rows = tiny_rows()
    rows.rows["downloads"][0] |= changes
    material = gather(run_of(rows))
    figure = waterfall_figure(waterfall(material.frames, material.window), material.window)
    names: list[str] = figure["layout"]["yaxis"]["ticktext"]
    return names


def test_a_download_is_divided_into_its_parts() -> None:
    rows = tiny_rows()
    rows.rows["downloads"][0] |= {"queued_ns": START + 9 * MS, "committed_ns": START + 47 * MS}
    assert waterfall_parts(rows) == [[1, 20, 15, 2], [0, 20, 15, 0]]


def test_a_download_that_hangs_waits_for_what_it_lacks() -> None:
    rows = tiny_rows()
    rows.rows["downloads"][1] |= {"first_byte_ns": None, "last_byte_ns": None}
    assert waterfall_parts(rows)[1] == [0, 40, 0, 0]
    rows.rows["downloads"][1]["first_byte_ns"] = START + 70 * MS
    assert waterfall_parts(rows)[1] == [0, 10, 30, 0]


def test_a_download_is_named_by_what_is_known_of_it() -> None:
    assert names_of_downloads()[0] == "model.onnx.data @0 MiB"
    rows = {"download_id": 7, "url_path": "/x/abc", "host": "10.0.0.7:3128"}
    assert names_of_downloads(**rows)[0] == "abc"
    assert names_of_downloads(**rows | {"url_path": None})[0] == "10.0.0.7:3128"
