from __future__ import annotations

from dataclasses import replace

import pytest

from cvmprof.reports.findings.device import stalls as device_stalls
from cvmprof.reports.findings.finding import Finding
from cvmprof.reports.findings.rules import findings
from cvmprof.reports.material import gather
from cvmprof.reports.numbers.devices import Device
from cvmprof.reports.numbers.links import Access, Fetch, Link, Part
from cvmprof.reports.numbers.stalls import Stall, Stalls
from cvmprof.reports.numbers.statistics import compute
from cvmprof.tests.reports.rows import quiet, spoken
from cvmprof.tests.reports.synthetic import MAIN, MS, START, Rows, run_of
from cvmprof.tests.reports.synthetic_gpu import calls_run, gpu_run

GPU = Device("u0", 0, "H100", None, "cupti", 1, 1, 0, 0, 3, 24_100 * MS, {})
CHUNK = Fetch(
    4, "3fa2b8c0" + 32 * "0", "chunk", "h", START, START + 1,
    Part("/cvmfs/m/model.safetensors", 0, ("layers.7.weight", "layers.7.bias"), 3),
)  # fmt: skip
SPENT = {"first_byte": 10_000 * MS, "cpu": 1_200 * MS}
LONGEST = Stall(
    0, "u0", START, START + 11_200 * MS, MAIN, SPENT, chunk_ns=10_000 * MS, chunks=1,
    links=(Link(10_000 * MS, START, START, MAIN, "python3", None, None, CHUNK, 1),),
)  # fmt: skip
CAUSES = "The longest was spent on first_byte 10.0 s, cpu 1.20 s."


def said(
    longest: Stall = LONGEST, chunk_ms: int = 22_413, devices: tuple[Device, ...] = (GPU,)
) -> Finding:
    found = Stalls(3, 24_100 * MS, SPENT, (longest,), chunk_ms * MS)
    (finding,) = spoken(stalls=found, devices=devices)
    return finding


def test_the_gpu_waited_for_a_chunk_with_tensors() -> None:
    assert said() == Finding(
        "main",
        "The GPU waited 24.1 s in 3 stalls, 93 % of it for chunks: the longest, 11.2 s, 10.0 s of "
        "it for chunk 3fa2b8c0… of model.safetensors (layers.7.weight and 4 more).",
        CAUSES,
    )


def test_the_tensor_that_was_touched_is_named_before_those_of_the_chunk() -> None:
    touched = Access("fault", START, START, Part("/m", 5, ("layers.7.bias",), 0))
    link = replace(LONGEST.links[0], access=touched)
    assert "(layers.7.bias)." in said(replace(LONGEST, links=(link,))).headline


def test_without_tensors_or_file_the_chunk_stands_alone() -> None:
    for path, words in (("/a/b.onnx", "chunk 3fa2b8c0… of b.onnx."), (None, "chunk 3fa2b8c0….")):
        fetch = replace(CHUNK, part=Part(path, None, (), 0))
        link = replace(LONGEST.links[0], fetch=fetch)
        assert said(replace(LONGEST, links=(link,))).headline.endswith(words)


def test_a_longest_stall_of_several_chunks_names_the_worst() -> None:
    headline = said(replace(LONGEST, chunks=14)).headline
    assert "11.2 s, 10.0 s of it for 14 chunks, most of all chunk 3fa2b8c0… of" in headline


def test_a_longest_stall_for_no_chunk_names_its_main_cause() -> None:
    no_chunk = replace(LONGEST, chunks=0, chunk_ns=0, links=(), causes_ns={"cpu": 8_000 * MS})
    assert said(no_chunk, 12_000) == Finding(
        "note",
        "The GPU waited 24.1 s in 3 stalls, 50 % of it for chunks: the longest, 11.2 s, 8.00 s of "
        "it cpu.",
        "The longest was spent on cpu 8.00 s.",
    )
    assert said(replace(no_chunk, causes_ns={})).headline.endswith("the longest, 11.2 s.")
    assert "none of it for chunks" in said(no_chunk, 0).headline


def test_several_devices_are_told_apart() -> None:
    other = replace(GPU, device="u1", index=1, stalls=1, stalled_ns=MS)
    idle = replace(GPU, device="u2", index=2, stalls=0, stalled_ns=0)
    finding = said(devices=(GPU, other, idle))
    assert finding.headline.startswith("2 GPUs together waited 24.1 s in 3 stalls, 93 %")
    assert finding.meaning == f"GPU 0 24.1 s in 3 stalls, GPU 1 1.00 ms in 1 stall. {CAUSES}"
    many = said(devices=tuple(replace(GPU, index=n) for n in range(6))).meaning
    assert many.startswith("GPU 0 24.1 s in 3 stalls, ")
    assert ", GPU 3 24.1 s in 3 stalls, and 2 more. The longest" in many


def test_what_the_device_copied_meanwhile_is_said() -> None:
    copying = replace(LONGEST, copying_in_ns=40 * MS, copying_out_ns=2 * MS)
    assert said(copying).meaning == (
        f"{CAUSES} During it data was copied to the device 40.0 ms and from the device 2.00 ms."
    )


def test_of_calls_alone_no_device_is_called_idle_or_waiting() -> None:
    copying = replace(LONGEST, copying_in_ns=40 * MS)
    finding = said(copying, devices=(replace(GPU, source="cuda_api"),))
    assert finding.headline.startswith(
        "Between submits to the GPU 24.1 s passed in 3 gaps, 93 % of"
    )
    assert finding.meaning == (
        f"{CAUSES} Only calls of the driver were recorded: the GPU may have been busy meanwhile."
    )
    (two,) = device_stalls(compute(gather(calls_run())))
    assert two.headline.startswith(
        "Between submits to 2 GPUs, counted for each, 2.96 s passed in 44 gaps"
    )
    assert two.meaning.startswith("GPU-6d1c9f3e 1.48 s in 22 gaps, GPU-b02e77c4 1.48 s in 22 gaps.")
    for finding in findings(compute(gather(calls_run()))):
        assert "idle" not in finding.headline + finding.meaning


def test_inferences_stand_for_a_device_and_are_called_so() -> None:
    finding = said(devices=(replace(GPU, device="runner", source="runner"),))
    assert finding.tone == "note"
    assert finding.headline.startswith("No inference ran for 24.1 s in 3 stalls, 93 % of it for")
    assert finding.meaning == (
        f"{CAUSES} The runner’s inferences stand for a device: no GPU was recorded."
    )


@pytest.mark.parametrize("none", [Stalls(0, 0, {}, ()), Stalls(1, 0, {}, (LONGEST,))])
def test_without_a_stall_nothing_is_said(none: Stalls) -> None:
    assert list(device_stalls(quiet(stalls=none))) == []
    assert list(device_stalls(compute(gather(run_of(Rows()))))) == []


def test_two_gpus_that_waited_for_chunks() -> None:
    (finding,) = device_stalls(compute(gather(gpu_run())))
    assert finding == Finding(
        "main",
        "2 GPUs together waited 2.96 s in 44 stalls, 71 % of it for chunks: the longest, 717 ms, "
        "710 ms of it for chunk faadb060… of model.safetensors (layers.2.mlp.weight).",
        "GPU 0 1.48 s in 22 stalls, GPU 1 1.48 s in 22 stalls. The longest was spent on first_byte "
        "700 ms. During it data was copied to the device 4.00 ms.",
    )
