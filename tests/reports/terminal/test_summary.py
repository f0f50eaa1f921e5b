from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from cvmprof.reports.material import gather
from cvmprof.reports.numbers.fetching import Latency
from cvmprof.reports.numbers.held import Held
from cvmprof.reports.numbers.reading import ReadAgain
from cvmprof.reports.numbers.statistics import Statistics, compute
from cvmprof.reports.numbers.survivors import Survivors
from cvmprof.reports.terminal.summary import render_side_by_side, render_summary, summary_json
from cvmprof.tests.reports.rows import NO_PATTERNS, command_time, fetches, quiet
from cvmprof.tests.reports.synthetic import MS, cold_run, run_of, tiny_rows, warm_run
from cvmprof.tests.reports.synthetic_gpu import calls_run, gpu_run

_MARKED = ("! ", "• ", "→ ")


def cold() -> Statistics:
    return compute(gather(cold_run()))


def warm() -> Statistics:
    return compute(gather(warm_run()))


@pytest.mark.parametrize("width", [40, 80, 200])
def test_never_wider_than_asked_and_plain(width: int) -> None:
    text = render_summary(cold(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text


def test_says_findings_causes_and_chunks() -> None:
    lines = render_summary(compute(gather(run_of(tiny_rows()))), 100).splitlines()
    assert lines[:2] == ["python3 infer.py", "100 ms, succeeded"]
    assert lines[3].startswith("• The command waited for CVMFS for 70.0 ms of its 100 ms (70 %),")
    first_byte = "waiting for the first byte (first_byte)"
    of_command, of_phase = (line for line in lines if line.strip().startswith(first_byte))
    assert of_command.split()[6:10] == of_phase.split()[6:10] == ["40.0", "ms", "40", "%"]
    wide = render_summary(compute(gather(run_of(tiny_rows()))), 140)
    assert any("1.00 MiB  " in line and "@1.0 MiB" in line for line in wide.splitlines())


def test_the_end_of_a_recording_is_not_that_of_the_command() -> None:
    for command_did, line in (
        (True, "100 ms recorded, then the command went on (succeeded)"),
        (False, "100 ms, succeeded"),
    ):
        alive = Survivors((), command_did=command_did)
        assert render_summary(quiet(survivors=alive), 100).splitlines()[1] == line


def test_an_arrow_marks_what_held_the_command_up_and_nothing_else() -> None:
    again = ReadAgain(4 << 20, 2 << 20, Held(30 * MS, 30 * MS), None, 0.0, 0, 0)
    said = quiet(
        command_time=command_time(100, first_byte=60 * MS, cpu=40 * MS),
        patterns=replace(NO_PATTERNS, reading=replace(NO_PATTERNS.reading, again=again)),
        latency=Latency(60 * MS, MS, None, 1, 0),
        losses=({"probe": "operations", "cause": "ring full", "count": 3},),
    )
    marks = [line[:7] for line in render_summary(said, 100).splitlines() if line[:2] in _MARKED]
    assert marks == ["! 3 eve", "• The c", "→ 2.00 ", "→ The s", "• A dow"]


def test_chunks_that_are_whole_files_are_counted() -> None:
    for files, lines in ((2, ["  of these whole files                2"]), (0, [])):
        found = quiet(fetches=fetches(chunks_downloaded=3, files_downloaded=files))
        text = render_summary(found, 100).splitlines()
        assert [line for line in text if "whole files" in line] == lines


def test_says_how_much_of_the_cpu_time_was_the_page_cache() -> None:
    rows = tiny_rows()
    rows.rows["hits"][0]["ns"] = 2 * MS
    lines = [
        line.split() for line in render_summary(compute(gather(run_of(rows))), 100).splitlines()
    ]
    place = next(at for at, words in enumerate(lines) if words == ["load:", "100", "ms"])
    assert ["of", "that", "98", "page-cache", "hits", "2.00", "ms", "2.0", "%"] in lines[place:]
    assert ["page-cache", "hits", "98", "in", "2.00", "ms"] in lines


def test_colours_only_when_asked() -> None:
    assert "\x1b[" in render_summary(cold(), 80, colour=True)


def test_side_by_side() -> None:
    lines = render_side_by_side([("cold", cold()), ("warm", warm())], 80).splitlines()
    assert max(map(len, lines)) <= 80
    table = {line[:30].strip(): line[30:].split() for line in lines if line.strip()}
    assert table["chunks or files downloaded"] == ["17", "0"]
    assert table["objects cached at start"] == ["12", "of", "29", "29", "of", "29"]


def test_json_holds_findings_and_numbers() -> None:
    document = json.loads(summary_json(cold()))
    assert document["schema_version"] == 2
    assert document["findings"][0]["tone"] == "main"
    assert document["fetches"]["chunks_downloaded"] == 17


def test_says_what_devices_did_and_what_their_stalls_were_spent_on() -> None:
    text = render_summary(compute(gather(gpu_run())), 160)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    first = lines.index(
        "GPU 0 · NVIDIA H100 80GB HBM3 132 kernels, busy 657 ms, 48.0 MiB copied in"
    )
    assert lines[first + 1] == "1.48 s in 22 stalls: Network 74 %, CPU 15 %, GPU 11 %"
    lost = lines.index("Device time lost to stalls, share of each phase")
    assert lines[lost + 1 : lost + 3] == [
        "in load 86 %: first_byte 75 %, transfer 5.3 %, device 2.3 %, driver 2.1 %",
        "in generate 6.3 %: cpu 5.9 %, launch 0.3 %, device under 0.1 %",
    ]
    longest = lines.index("Longest stalls for chunks")
    assert " ".join(lines[longest + 1 : longest + 3]) == (
        "717 ms at 453 ms: 711 ms thread python3 101 ← page fault at layers.2.mlp.weight "
        "(model.safetensors + 20.0 MiB) ← request 2004 on /cvmfs/models.example.org, 711 ms ← "
        "fetch of chunk faadb0600ea0… from stratum1:8000, 710 ms"
    )


def test_of_calls_alone_it_says_that_the_device_is_not_known() -> None:
    text = render_summary(compute(gather(calls_run())), 120)
    assert "calls only: how long it was busy is not known" in text
    assert "1.48 s in 22 gaps: Network 74 %" in text
    assert "Time between submits to a device, share of each phase" in text
    assert "idle" not in text


def test_without_a_device_it_says_nothing_of_devices() -> None:
    text = render_summary(compute(gather(run_of(tiny_rows()))), 100)
    assert "GPU" not in text.replace("GPU submit", "")
    assert "share of each phase" not in text


def test_json_has_devices_stalls_and_what_phases_lost() -> None:
    document = json.loads(summary_json(compute(gather(gpu_run()))))
    first = document["devices"][0]
    assert (first["name"], first["source"], first["runs"]) == ("GPU 0", "cupti", 132)
    load = document["phases"][0]
    assert load["device_ns"] == 2 * load["duration_ns"]
    assert load["stalled_ns"]["first_byte"] == 1_967_060_000
    longest = document["stalls"]["longest"][0]
    assert longest["links"][0]["access"]["part"]["tensors"] == ["layers.2.mlp.weight"]
    assert (longest["chunk_ns"], longest["chunks"]) == (710_300_000, 1)


def test_the_keys_about_devices_are_documented(repository_root: Path) -> None:
    text = (repository_root / "docs" / "summary.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(\w+)`", text))
    document = json.loads(summary_json(compute(gather(gpu_run()))))
    longest = document["stalls"]["longest"][0]
    link = longest["links"][0]
    described = (
        document["devices"][0], document["stalls"], longest, link, link["access"], link["request"],
        link["fetch"], link["fetch"]["part"],
    )  # fmt: skip
    assert {key for each in described for key in each} <= documented
    assert {"devices", "device_ns", "stalled_ns"} <= documented


def test_a_hostile_argument_cannot_reach_the_terminal() -> None:
    run = run_of(tiny_rows())
    hostile = compute(
        gather(type(run)({**run.meta, "command": ["\x1b]0;x\x07", "[red]a[/red]"]}, run.tables))
    )
    text = render_summary(hostile, 80)
    assert text.splitlines()[0] == r"\x1b]0;x\x07 [red]a[/red]"
