from __future__ import annotations

from typing import Any

from cvmprof.reports.figures.waterfall import MAX_DOWNLOADS, waterfall, waterfall_figure
from cvmprof.reports.material import gather
from cvmprof.reports.palette import STYLES
from cvmprof.tests.reports.figures.arrays import numbers
from cvmprof.tests.reports.rows import download
from cvmprof.tests.reports.synthetic import MS, START, Rows, run_of, tiny_rows


def waterfall_parts(rows: Rows) -> list[dict[str, float]]:
    """Milliseconds of each part, by download."""
    material = gather(run_of(rows))
    figure = waterfall_figure(waterfall(material.frames, material.window), material.window)
    causes = {style.colour: cause for cause, style in STYLES.items()}
    parts: dict[int, dict[str, float]] = {}
    for trace, downloads in zip(figure["data"], figure["rows"], strict=True):
        cause = causes[trace["marker"]["color"]]
        assert numbers(trace["y"]) == [-row for row in numbers(downloads)]
        for row, seconds in zip(numbers(downloads), numbers(trace["x"]), strict=True):
            of_row = parts.setdefault(round(row), {})
            of_row[cause] = round(of_row.get(cause, 0) + seconds * 1e3, 6)
    return [parts[row] for row in sorted(parts)]


def names_of_downloads(**changes: Any) -> list[str]:
    rows = tiny_rows()
    rows.rows["downloads"][0] |= changes
    material = gather(run_of(rows))
    figure = waterfall_figure(waterfall(material.frames, material.window), material.window)
    names: list[str] = figure["layout"]["yaxis"]["ticktext"]
    return names


def untiled() -> Rows:
    """A tiny run of whose downloads only their own times are known."""
    rows = tiny_rows()
    rows.rows["segments"] = []
    return rows


def test_a_download_is_divided_into_its_parts() -> None:
    rows = untiled()
    rows.rows["downloads"][0] |= {"queued_ns": START + 9 * MS, "committed_ns": START + 47 * MS}
    whole = {"first_byte": 20, "transfer": 15}
    assert waterfall_parts(rows) == [{"fetch_queue": 1, **whole, "decompress": 2}, whole]
    rows.rows["downloads"][0] |= {"connect_ns": START + 9 * MS, "reused": False}
    assert waterfall_parts(rows)[0] == {"connect": 1, **whole, "decompress": 2}


def test_a_download_that_hangs_waits_for_what_it_lacks() -> None:
    rows = untiled()
    rows.rows["downloads"][1] |= {"first_byte_ns": None, "last_byte_ns": None}
    assert waterfall_parts(rows)[1] == {"first_byte": 40}
    rows.rows["downloads"][1]["first_byte_ns"] = START + 70 * MS
    assert waterfall_parts(rows)[1] == {"first_byte": 10, "transfer": 30}


def test_more_downloads_than_have_a_row_are_packed_and_none_is_left_out() -> None:
    rows = tiny_rows()
    for number in range(2, MAX_DOWNLOADS + 40):
        start = START + 10 * MS + number * 1000
        download(rows, number, start, start + MS, start + 2 * MS, start + 3 * MS)
    material = gather(run_of(rows))
    downloads = waterfall(material.frames, material.window)
    assert downloads.lanes is not None
    figure = waterfall_figure(downloads, material.window)
    assert figure["layout"]["height"] < 400
    assert len(downloads.lanes.lanes) <= 22
    assert " downloads drawn as " in downloads.note


def test_a_download_is_named_by_what_is_known_of_it() -> None:
    assert names_of_downloads()[0] == "model.onnx.data @0 MiB"
    rows = {"download_id": 7, "url_path": "/x/abc", "host": "10.0.0.7:3128"}
    assert names_of_downloads(**rows)[0] == "abc"
    assert names_of_downloads(**rows | {"url_path": None})[0] == "10.0.0.7:3128"
