from __future__ import annotations

from cvmprof.reports.figures.samples import MAX_SAMPLES, sampled_lane, scales
from cvmprof.reports.material import Window
from cvmprof.reports.numbers.devices import Device
from cvmprof.reports.palette import SAMPLE_COLOURS
from cvmprof.tests.reports.synthetic import Rows

DEVICE = Device("u", 0, "H100", 1000, "cupti", 0, 0, 0, 0, 0, 0, {})
WINDOW = Window(100, 500)


def sample(rows: Rows, time_ns: int, **row: object) -> None:
    rows.add("gpu_samples", time_ns=time_ns, device="u", **row)


def test_a_sample_stands_for_the_time_since_the_one_before() -> None:
    rows = Rows()
    for time_ns, share in ((200, 50.0), (300, 100.0), (50, 1.0), (600, 1.0)):
        sample(rows, time_ns, utilisation_percent=share, memory_bytes=int(5 * share), power_w=share)
    lane = sampled_lane(DEVICE, rows.frames()["gpu_samples"], WINDOW)
    columns = ("start_ns", "end_ns", "utilisation_percent", "memory_bytes", "clock_mhz", "device")
    assert lane.bricks.select(columns).rows() == [
        (100, 200, 50.0, 250, None, "GPU 0 · H100 · u"),
        (200, 300, 100.0, 500, None, "GPU 0 · H100 · u"),
    ]
    drawn = {line.colour: line.points["height"].to_list() for line in lane.lines}
    assert drawn == {
        SAMPLE_COLOURS["utilisation_percent"]: [0.5, 1.0],
        SAMPLE_COLOURS["memory_bytes"]: [0.25, 0.5],
        SAMPLE_COLOURS["power_w"]: [0.5, 1.0],
    }
    assert lane.lines[0].points["time_ns"].to_list() == [200, 300]


def test_values_that_a_device_does_not_give_have_no_line_and_are_not_named() -> None:
    rows = Rows()
    sample(rows, 200, pcie_rx_bytes_s=3 << 20)
    samples = rows.frames()["gpu_samples"]
    (line,) = sampled_lane(DEVICE, samples, WINDOW).lines
    assert line.colour == SAMPLE_COLOURS["pcie_rx_bytes_s"]
    assert scales(samples, (DEVICE,)) == (
        "The top of the thin lines stands for: GPU 0: PCIe in 3.00 MiB/s."
    )


def test_the_scales_are_the_devices_memory_and_the_highest_values() -> None:
    rows = Rows()
    sample(rows, 200, utilisation_percent=3.0, memory_bytes=70, power_w=311.6)
    assert scales(rows.frames()["gpu_samples"], (DEVICE,)) == (
        "The top of the thin lines stands for: "
        "GPU 0: utilisation 100 %, memory 1000 B, power 312 W."
    )
    assert scales(Rows().frames()["gpu_samples"], (DEVICE,)) == ""


def test_more_samples_than_are_drawn_are_averaged() -> None:
    rows = Rows()
    for time_ns in range(4 * MAX_SAMPLES):
        sample(rows, time_ns, utilisation_percent=float(time_ns % 4))
    lane = sampled_lane(DEVICE, rows.frames()["gpu_samples"], Window(0, 4 * MAX_SAMPLES))
    assert lane.bricks.height == MAX_SAMPLES
    assert set(lane.bricks["utilisation_percent"]) == {1.5}
