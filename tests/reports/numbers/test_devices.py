from __future__ import annotations

from dataclasses import replace

import pytest

from cvmprof.reports.material import gather
from cvmprof.reports.numbers.devices import Device, devices, least_known
from cvmprof.tests.reports.rows import tile
from cvmprof.tests.reports.synthetic import MAIN, PID, Rows, run_of
from cvmprof.tests.reports.synthetic_gpu import UUIDS, gpu_run

QUIET = Device("u", None, None, None, "cupti", 0, 0, 0, 0, 0, 0, {})


def operation(rows: Rows, start: int, end: int, kind: str = "kernel", **row: object) -> None:
    usual = {"device": "a", "pid": PID, "tid": MAIN, "source": "cupti"}
    rows.add("gpu_ops", kind=kind, start_ns=start, end_ns=end, **{**usual, **row})


def of(rows: Rows) -> tuple[Device, ...]:
    return devices(gather(run_of(rows)))


def test_a_device_is_busy_while_any_kernel_runs_and_copies_are_counted_apart() -> None:
    rows = Rows()
    operation(rows, 30, 35)
    operation(rows, 0, 20, stream=1)
    operation(rows, 10, 25, "graph", stream=2)
    operation(rows, 12, 18)
    operation(rows, 40, 90, "copy_in", bytes=700)
    operation(rows, 90, 95, "copy_out", bytes=30)
    operation(rows, 95, 99, "copy_device", bytes=1)
    (device,) = of(rows)
    assert (device.runs, device.busy_ns) == (4, 30)
    assert (device.copied_in_bytes, device.copied_out_bytes) == (700, 30)
    assert (device.stalls, device.stalled_ns, device.causes_ns) == (0, 0, {})


def test_devices_stand_by_index_each_with_its_own_stalls() -> None:
    first, second = devices(gather(gpu_run()))
    assert [first.device, second.device] == list(UUIDS)
    assert [each.label for each in (first, second)] == [
        "GPU 0 · NVIDIA H100 80GB HBM3", "GPU 1 · NVIDIA H100 80GB HBM3",
    ]  # fmt: skip
    assert first.identity == f"{first.label} · {UUIDS[0]}"
    assert (first.stalls, second.stalls) == (22, 22)
    assert sum(first.causes_ns.values()) == first.stalled_ns == 1_482_260_000


def test_of_calls_alone_no_work_of_the_device_is_known() -> None:
    rows = Rows()
    tile(rows, 0, 50, "cpu")
    operation(rows, 0, 20, source="cuda_api")
    rows.add("stalls", stall_id=0, device="GPU-12345678-9a", start_ns=0, end_ns=9, waiting_tid=MAIN,
             source="cuda_api")  # fmt: skip
    stalled, called = of(rows)
    assert (stalled.name, stalled.label, stalled.source) == ("GPU-12345678",) * 2 + ("cuda_api",)
    assert (called.runs, called.busy_ns, called.source) == (0, 0, "cuda_api")


def test_a_sampled_device_that_did_nothing_is_none() -> None:
    rows = Rows()
    rows.add("devices", device="a", index=0)
    rows.add("gpu_samples", time_ns=0, device="a")
    assert of(rows) == ()


def test_the_runner_is_no_gpu() -> None:
    runner = replace(QUIET, device="runner", source="runner")
    assert (runner.name, runner.identity) == ("runner", "runner")


@pytest.mark.parametrize(("sources", "expected"), [
    ((), "cupti"), (("cupti",), "cupti"), (("cupti", "cuda_api"), "cuda_api"),
    (("cuda_api", "runner"), "runner"),
])  # fmt: skip
def test_the_least_known_device_decides(sources: tuple[str, ...], expected: str) -> None:
    found = tuple(replace(QUIET, source=source, stalls=1) for source in sources)
    assert least_known((*found, replace(QUIET, source="runner"))) == expected
