from __future__ import annotations

import polars as pl
import pytest

from cvmprof.probes.events import OPERATION_KINDS
from cvmprof.profiler.tables import CAUSES, OPERATION_KIND, TABLES, conform, empty, table


def test_every_kind_of_operation_that_probes_write_has_a_name() -> None:
    assert OPERATION_KIND.categories.to_list() == list(OPERATION_KINDS[1:])


def test_names_are_unique() -> None:
    assert len({one.name for one in TABLES}) == len(TABLES) == 32
    assert all(len(set(one.names)) == len(one.names) for one in TABLES)
    assert len(set(CAUSES)) == len(CAUSES) == 24


def test_empty_has_the_schema() -> None:
    assert empty("losses").schema == {"probe": pl.String, "cause": pl.String, "count": pl.Int64}


def test_conform_fills_casts_orders_and_drops() -> None:
    frame = pl.DataFrame({"x": [1], "tid": [5], "name": ["a"], "pid": [4], "start_ns": [7]})
    result = conform("phases", frame)
    assert result.columns == list(table("phases").names)
    assert result.row(0) == ("a", 7, None, 4, 5, None)
    assert result["tid"].dtype == pl.Int32
    assert conform("phases", frame, "x").columns[-1] == "x"


def test_conform_refuses_null_where_there_must_be_none() -> None:
    with pytest.raises(ValueError, match="phases: null in name"):
        conform("phases", pl.DataFrame({"tid": [5], "pid": [4], "start_ns": [7]}))
