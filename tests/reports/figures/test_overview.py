from __future__ import annotations

import polars as pl

from cvmprof.reports.figures.lanes import Lane, LaneGroup
from cvmprof.reports.figures.overview import (
    BRICKS_OF_LANE,
    MAX_DEVICES,
    MAX_STREAMS,
    overview_lanes,
    stall_holders,
)
from cvmprof.reports.material import gather
from cvmprof.reports.numbers.devices import devices
from cvmprof.tests.reports.rows import tile
from cvmprof.tests.reports.synthetic import (
    MAIN,
    MS,
    PID,
    START,
    Rows,
    SyntheticRun,
    run_of,
    warm_run,
)
from cvmprof.tests.reports.synthetic_gpu import UUIDS, calls_run, gpu_run, many_kernels_run


def of(run: SyntheticRun) -> LaneGroup:
    material = gather(run)
    return overview_lanes(material, devices(material))


def words(group: LaneGroup, lane: Lane) -> set[str]:
    return {group.palette[code][0] for code in lane.bricks["code"]}


def test_a_lane_for_the_samples_the_stalls_and_each_stream_of_a_device() -> None:
    group = of(gpu_run())
    assert [lane.label for lane in group.lanes] == [
        "phases",
        "GPU 0\nNVIDIA H100 80GB HBM3", "stalls", "stream 7", "stream 13", "stream 14",
        "GPU 1\nNVIDIA H100 80GB HBM3", "stalls", "stream 7", "stream 13",
    ]  # fmt: skip
    assert [words(group, lane) for lane in group.lanes[2:6]] == [
        {"stall: cpu", "stall: first_byte"}, {"kernel"}, {"copy from the host"},
        {"copy to the host"},
    ]  # fmt: skip
    kernels, copies = group.lanes[3].bricks, group.lanes[4].bricks
    assert (kernels.height, copies.height) == (132, 6)
    assert kernels["what"][0] == "void layer_0<float, 0>(float const*, float*)"
    row = copies.row(0, named=True)
    assert (row["moved_bytes"], row["memory of the host"], row["submitted by thread"]) == (
        8 << 20, "pageable, so not pinned", MAIN,
    )  # fmt: skip


def test_a_stall_has_the_colour_of_the_largest_cause_of_its_largest_family() -> None:
    causes = pl.DataFrame(
        [(0, "cpu", 43), (0, "first_byte", 30), (0, "transfer", 27), (1, "cpu", 5),
         (1, "launch", 5)],
        schema=["stall_id", "cause", "ns"], orient="row",
    )  # fmt: skip
    assert stall_holders(causes).sort("stall_id").rows() == [(0, "first_byte"), (1, "cpu")]
    rows = Rows()
    for start, end, cause in ((0, 43, "cpu"), (43, 73, "first_byte"), (73, 100, "transfer")):
        tile(rows, START + start * MS, START + end * MS, cause)
    rows.add("stalls", stall_id=4, device="d", start_ns=START, end_ns=START + 100 * MS,
             waiting_tid=MAIN, source="cupti")  # fmt: skip
    group = of(run_of(rows))
    (stall,) = group.lanes[0].bricks.rows(named=True)
    assert group.palette[stall["code"]][0] == "stall: first_byte"
    assert (stall["stall"], stall["because"], stall["caption"]) == (
        4, "cpu 43 %, first_byte 30 %, transfer 27 %", "100 ms",
    )  # fmt: skip


def test_the_device_says_its_uuid_under_the_pointer() -> None:
    group = of(gpu_run())
    assert set(group.lanes[1].bricks["device"]) == {f"GPU 0 · NVIDIA H100 80GB HBM3 · {UUIDS[0]}"}
    assert set(group.lanes[2].bricks["device"]) == {f"GPU 0 · NVIDIA H100 80GB HBM3 · {UUIDS[0]}"}


def test_calls_are_drawn_as_calls_and_no_device_as_busy() -> None:
    group = of(calls_run())
    assert [lane.label for lane in group.lanes] == [
        "phases", "GPU-6d1c9f3e", "GPU-b02e77c4", "CUDA calls, not busy",
    ]  # fmt: skip
    calls = group.lanes[-1]
    assert words(group, calls) == {"driver"}
    assert set(calls.bricks["because"]) == {
        "a call of the driver, not time that the device was busy"
    }
    assert "what the device did is not known" in group.explanation


def test_of_a_recorded_device_calls_have_no_lane() -> None:
    assert "CUDA calls, not busy" not in [lane.label for lane in of(gpu_run()).lanes]


def test_inferences_stand_for_a_device() -> None:
    group = of(warm_run())
    assert [lane.label for lane in group.lanes] == ["phases", "runner", "inferences"]
    assert words(group, group.lanes[2]) == {"inference"}
    assert "which stand for a device" in group.explanation


def test_a_million_kernels_are_a_bounded_number_of_bricks() -> None:
    group = of(many_kernels_run())
    assert [lane.label for lane in group.lanes] == [
        "phases", "GPU 0\nNVIDIA H100 80GB HBM3", "stalls", "stream 7", "stream 8", "stream 9",
    ]  # fmt: skip
    for lane in group.lanes[2:]:
        assert BRICKS_OF_LANE / 4 < lane.bricks.height <= BRICKS_OF_LANE
    assert group.lanes[2].bricks["merged"].sum() == 19_999
    assert sum(lane.bricks["merged"].sum() for lane in group.lanes[3:]) == 1_000_000
    assert "Neighbours too short to see are drawn together" in group.note
    of_many = group.lanes[3].bricks.filter(pl.col("merged") > 1)
    assert of_many["what"].null_count() == of_many.height > 0


def test_streams_and_devices_beyond_the_limits_are_counted() -> None:
    rows = Rows()
    for stream in range(MAX_STREAMS[2] + 2):
        for number in range(1 + (stream > 1)):
            begin = START + (10 * stream + number) * MS
            rows.add("gpu_ops", device="d0", stream=stream, kind="kernel", start_ns=begin,
                     end_ns=begin + MS, pid=PID, source="cupti")  # fmt: skip
    tile(rows, START, START + 100 * MS, "cpu")
    labels = [lane.label for lane in of(run_of(rows)).lanes]
    assert labels == ["d0", "stream 2", "stream 3", "stream 4", "stream 5", "2 other streams"]
    for number in range(1, MAX_DEVICES + 3):
        rows.add("gpu_ops", device=f"d{number}", kind="kernel", start_ns=START, end_ns=START + MS,
                 pid=PID, source="cupti")  # fmt: skip
    group = of(run_of(rows))
    assert group.note == "3 more devices are not drawn."
    assert [lane.label for lane in group.lanes].count("kernels") == MAX_DEVICES - 1
