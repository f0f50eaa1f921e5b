"""Chunks that the server holds back come out as the tensors that were waited for."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from cvmprof.reports.findings.rules import findings
from cvmprof.reports.material import gather
from cvmprof.reports.numbers.statistics import compute
from cvmprof.runners.lab.lab import Lab, Rule, Shaping, order
from cvmprof.tests.models import WRITERS

from .conftest import Truth, traced
from .tensors import LAYERS, LOAD, chunks_of_tensors, model_and_data, published_models

__all__ = ["published_models"]

#: how much later than the others the first, the second, the third of the slow chunks come
DELAYS_S = (0.6, 0.7, 0.5)


def held_back(lab: Lab, hashes: list[str]) -> None:
    """Delay these objects."""
    rules = tuple(
        Rule("delay", f"/data/{each[:2]}/{each[2:]}", delay_s=delay_s)
        for each, delay_s in zip(hashes, DELAYS_S, strict=True)
    )
    order(lab, Shaping(rules=rules))


@pytest.mark.parametrize("format_name", list(WRITERS))
def test_the_tensors_of_slow_chunks_are_the_latest(
    models: Truth, tmp_path: Path, format_name: str
) -> None:
    model, data = model_and_data(models, format_name)
    order(models.lab, Shaping())
    first = traced(tmp_path / "first.cvmprof", LOAD, model, data).tables
    file_id = first["files"].filter(path=str(data))["file_id"].item()
    tensors = first["tensors"].filter(file_id=file_id)
    assert sorted(tensors["name"]) == sorted(f"layers.{n}.weight" for n in range(LAYERS))

    chosen = chunks_of_tensors(data, tensors)
    models.cool()
    held_back(models.lab, [each for each, _ in chosen])
    run = traced(tmp_path / "run.cvmprof", LOAD, model, data)

    statistics = compute(gather(run))
    latest = statistics.tensors.latest
    names = [name for _, name in chosen]
    assert [each.name for each in latest[:3]] == [names[1], names[0], names[2]]
    for tensor, delay_s in zip(latest, (0.7, 0.6, 0.5), strict=False):
        assert delay_s * 1e9 <= tensor.wait_ns < (delay_s + 0.25) * 1e9
        assert tensor.path == str(data)
    assert statistics.tensors.wait_ns <= statistics.duration_ns
    (finding,) = [each for each in findings(statistics) if "late" in each.headline]
    assert finding.meaning.startswith(f"Longest first: {names[1]} waited 7")
    assert run.tables["losses"].is_empty()
    assert run.tables["incidents"].filter(pl.col("kind").is_in(["unnamed", "unasked"])).is_empty()


def test_naming_tensors_leaves_no_trace_in_the_run(models: Truth, tmp_path: Path) -> None:
    """The command opened the model and read nothing: so nothing was fetched, and the counters of
    the client agree.
    """
    model = models.mountpoint / "gguf" / "model.gguf"
    order(models.lab, Shaping())
    models.cool()
    run = traced(tmp_path / "run.cvmprof", "import os, sys; os.open(sys.argv[1], 0)", model)
    assert run.tables["tensors"].height == LAYERS
    assert run.tables["fetches"].filter(object_kind="chunk").is_empty()
    assert run.tables["fuse_requests"].filter(opcode=15).is_empty()
    compared = run.tables["reconciliation"].drop_nulls("difference")
    assert compared.filter(pl.col("quantity") != "chunks")["difference"].to_list() == [0, 0]
    assert run.tables["operations"]["kind"].unique().to_list() == ["open"]
