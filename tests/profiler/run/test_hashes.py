"""Content hashes in records, paths and attributes."""

from __future__ import annotations

import polars as pl

from cvmprof.profiler.run.hashes import hash_of_path, hash_of_text, object_name

A = "a1" * 20


def test_hashes() -> None:
    assert object_name(0xA1A1A1A1A1A1A1A1, 0xA1A1A1A1A1A1A1A1, 0xA1A1A1A1, 1) == A
    assert object_name(1, 0, 0, 3) == "01" + "00" * 19 + "-shake128"
    assert object_name(0, 0, 0, 1) is None
    assert object_name(1, 0, 0, 77) is None
    paths = pl.DataFrame(
        {
            "p": [
                f"/x/{A[:2]}/{A[2:]}P",
                f"{A[:2]}/{A[2:]}-rmd160",
                "/x/.cvmfspublished",
                f"/x/txn/fetch{A[2:]}",
                f"/x/{A[:2]}/{A[2:]}Pz",
            ]
        }
    )
    assert paths.select(hash_of_path(pl.col("p")))["p"].to_list() == [
        A,
        f"{A}-rmd160",
        None,
        None,
        None,
    ]
    texts = pl.DataFrame({"t": [f" {A} ", f"{A}P", f"{A}-shake128", "hash", A[1:]]})
    assert texts.select(hash_of_text(pl.col("t")))["t"].to_list() == [
        A,
        A,
        f"{A}-shake128",
        None,
        None,
    ]
