"""Probes and losses that stand in the journal several times."""

from __future__ import annotations

from typing import Any

from cvmprof.profiler.health.observation import losses, probes
from cvmprof.profiler.run.journal import Journal


def lines(kind: str, *rows: dict[str, Any]) -> Journal:
    return Journal(tuple({"kind": kind, "rows": [row]} for row in rows))


def test_the_last_row_of_a_probe_counts() -> None:
    """Of one event, kind and target; in the order in which they were first written."""
    row = {"event": "read", "family": "fentry", "target": "a"}
    journal = lines(
        "probes", {**row, "reason": "first"}, {**row, "target": "b"}, {**row, "family": "kprobe"},
        {**row, "reason": "last"}, {"event": "gpu"},
    )  # fmt: skip
    found = probes(Journal((*journal.lines, *lines("hits", {"event": "read", "hits": 3}).lines)))
    assert found.select("event", "family", "target", "hits", "reason").rows() == [
        ("read", "fentry", "b", 3, None),
        ("read", "kprobe", "a", 3, None),
        ("read", "fentry", "a", 3, "last"),
        ("gpu", "", "", 0, None),
    ]


def test_the_highest_count_of_a_loss_is_the_final_one() -> None:
    """Of one probe and cause; none of nothing; in order."""
    counts = (
        ("b", "x", 3), ("a", "y", 1), ("b", "x", 7), ("b", "x", 5), ("a", "x", 2), ("c", "x", 0),
        ("c", "y", None), *((probe, "z", 1) for probe in "hfdge"),
    )  # fmt: skip
    names: tuple[str, ...] = ("probe", "cause", "count")
    journal = lines("losses", *(dict[str, Any](zip(names, row, strict=True)) for row in counts))
    assert losses(journal, 0).rows() == [
        ("a", "x", 2), ("a", "y", 1), ("b", "x", 7), *((probe, "z", 1) for probe in "defgh"),
    ]  # fmt: skip


def test_records_of_gpus_that_were_dropped_are_a_loss() -> None:
    assert losses(Journal(()), 3).rows() == [("GPU activity", "lost in its process", 3)]


def test_probes_take_the_last_count_of_hits() -> None:
    """Of their own event; no count is none."""
    hits = ({"event": "read", "hits": 4}, {"event": "gpu"}, {"event": "read", "hits": 9})
    row = {"family": "tracepoint", "target": "t"}
    given = (*({**row, "event": event} for event in ("read", "gpu", "open")),)
    journal = Journal((*lines("probes", *given).lines, *lines("hits", *hits).lines))
    assert probes(journal).select("event", "hits").rows() == [("read", 9), ("gpu", 0), ("open", 0)]
