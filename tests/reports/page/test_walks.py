from __future__ import annotations

from cvmprof.reports.material import gather
from cvmprof.reports.numbers.statistics import compute
from cvmprof.reports.page.walks import walks
from cvmprof.reports.palette import STYLES
from cvmprof.tests.reports.synthetic import MAIN, MS, START, Rows, run_of, tiny_rows
from cvmprof.tests.reports.synthetic_gpu import gpu_run


def test_a_walk_leads_from_the_stall_to_the_chunk() -> None:
    walk = walks(compute(gather(gpu_run())))[0]
    assert walk["stall"] == 5
    assert walk["from"] == 0.45326
    assert walk["fetches"] == [2]
    assert walk["causes"][0] == ["first_byte", 98, STYLES["first_byte"].colour]
    assert sum(share for _, share, _ in walk["causes"]) == 100
    first = walk["waits"][0]
    assert first["lasted"] == "711 ms"
    at = "layers.2.mlp.weight (model.safetensors + 20.0 MiB)"
    assert [(step["kind"], step["text"]) for step in first["steps"]] == [
        ("stall", "of GPU 0, 717 ms"),
        ("thread", "python3 101, 711 ms of the stall"),
        ("access", f"page fault at {at}"),
        ("request", "2004 on /cvmfs/models.example.org, 711 ms"),
        ("fetch", "of chunk faadb0600ea0… from stratum1:8000, 710 ms"),
    ]
    assert [step["from"] for step in first["steps"]] == [
        0.45326, 0.45328, 0.45328, 0.45331, 0.45332,
    ]  # fmt: skip
    assert [step.get("thread") for step in first["steps"]] == [None, MAIN, MAIN, None, None]
    assert (first["steps"][3]["unique"], first["steps"][4]["fetch"]) == (2004, 2)


def test_what_began_before_the_run_or_never_ended_is_cut_to_it() -> None:
    rows = tiny_rows()
    rows.add("stalls", stall_id=0, device="d", start_ns=START - MS, end_ns=START + 40 * MS,
             waiting_tid=MAIN, source="cupti")  # fmt: skip
    rows.rows["fetches"][0]["end_ns"] = None
    (walk,) = walks(compute(gather(run_of(rows))))
    steps = walk["waits"][0]["steps"]
    assert (steps[0]["from"], steps[0]["to"]) == (0.0, 0.04)
    assert (steps[-1]["from"], steps[-1]["to"]) == (0.01, 0.1)


def test_without_stalls_there_is_no_walk() -> None:
    assert walks(compute(gather(run_of(Rows())))) == []
