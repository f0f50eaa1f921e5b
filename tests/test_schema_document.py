from __future__ import annotations

from pathlib import Path

import polars as pl

from cvmprof.docs.schema_document import page, type_name
from cvmprof.profiler.tables import CAUSE, TABLES


def test_page_is_current(repository_root: Path) -> None:
    written = (repository_root / "docs" / "schema.md").read_text()
    assert written == page(), "run: python docs/schema_document.py"


def test_page_names_every_table() -> None:
    text = page()
    assert all(f"### {table.name}\n" in text for table in TABLES)


def test_types_are_spelt_out() -> None:
    assert type_name(pl.Int64()) == "Int64"
    assert type_name(pl.Enum(["a", "b"])) == "a, b"
    assert type_name(CAUSE) == "one of the causes"
