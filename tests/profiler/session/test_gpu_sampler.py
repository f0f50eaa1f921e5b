"""Sampling GPUs by NVML, whose stand-in answers as ordered; the Python package is the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cvmprof.tests.gpu.nvml import stand_in

#: the first answer about used memory is for the list of devices
ONE = """
count 0 1
driver 0 580.65.06
handle 0 0
uuid 0 GPU-11111111-2222
name 0 Stand-in
total 0 85899345920
used 0 0 1000 2003 4007
utilisation 0 0 37 100
power 0 70123 350001 699999
clock 0 345 1410 1980
"""
TWO = (
    ONE.replace("count 0 1", "count 0 2")
    + "handle 1 0\nuuid 1 GPU-33333333-4444\nname 1 Other\ntotal 1 17179869184\n"
    + "used 1 0 5 6 E15\nutilisation 1 11 12 E15\npower 1 E3\nclock 1 E999 777\n"
)
OTHERS = ("memory_bytes", "utilisation_percent", "power_mw", "clock_mhz")


def told(result: dict[str, Any], device: int, *names: str) -> list[tuple[Any, ...]]:
    """What a device reported, sample by sample; None where it did not."""
    samples = [each for each in result["samples"] if each["device"] == device]
    return [tuple(each.get(name) for name in names) for each in samples]


def test_samples_hold_what_the_device_told_and_the_journal_which_it_is(tmp_path: Path) -> None:
    result = stand_in(tmp_path, ONE).sampled(3)
    values = told(result, 0, *OTHERS)
    assert values[:3] == [
        (1000, 0, 70123, 345),
        (2003, 37, 350001, 1410),
        (4007, 100, 699999, 1980),
    ]
    assert result["count"] == len(values) >= 4, "one more at the stop"
    assert result["cpu_ns"] > 0
    device = {"index": 0, "uuid": "GPU-11111111-2222", "name": "Stand-in"}
    assert result["journal"] == [
        {
            "driver": "580.65.06",
            "devices": [{**device, "memory_bytes": 85899345920, "is_divided": False}],
        }
    ]
    assert result["rows"] == [
        {
            "event": "GPU sample",
            "family": "nvml",
            "target": "libnvidia-ml",
            "build_id": None,
            "reason": None,
        }
    ]


def test_samples_come_at_most_twenty_times_a_second(tmp_path: Path) -> None:
    times = stand_in(tmp_path, ONE).sampled(11)["times_ns"]
    assert times[10] - times[0] >= 0.45e9, "eleven samples are half a second apart"
    assert times == sorted(times)


def test_a_device_that_is_lost_has_no_more_samples_and_the_other_has(tmp_path: Path) -> None:
    result = stand_in(tmp_path, TWO).sampled(9)
    assert told(result, 1, *OTHERS) == [(5, 11, None, None), (6, 12, None, 777)]
    assert len(told(result, 0, *OTHERS)) >= 7
    (row,) = result["rows"]
    assert (row["family"], row["reason"]) == (
        "nvml",
        "GPU 1 was lost during the run: GPU is lost",
    )


def test_what_goes_over_pcie_is_in_one_sample_each(tmp_path: Path) -> None:
    received, sent = "received 0 100 20000 3", "sent 0 7 E999 5"
    result = stand_in(tmp_path, f"{ONE}{received}\n{sent}\n").sampled(16)
    values = told(result, 0, "pcie_rx_bytes_s", "pcie_tx_bytes_s")
    measured = [each for each in values if each != (None, None)]
    assert measured[:3] == [(102400, 7168), (20480000, None), (3072, 5120)]
    assert len(measured) < len(values) / 2, "those between have none"


def test_a_slow_answer_about_pcie_delays_no_other_sample(tmp_path: Path) -> None:
    result = stand_in(tmp_path, f"{ONE}received 0 hang\nsent 0 1\n").sampled(5, patience_s=4.0)
    assert told(result, 0, "clock_mhz", "pcie_rx_bytes_s")[:2] == [(345, None), (1410, None)]
    assert result["rows"][0]["reason"] is None


def test_a_driver_that_does_not_answer_ends_with_the_rest_and_says_so(tmp_path: Path) -> None:
    script = ONE.replace("1410 1980", "1410 hang")
    result = stand_in(tmp_path, script).sampled(2, patience_s=0.5)
    assert told(result, 0, "clock_mhz") == [(345,), (1410,)]
    assert result["rows"][0]["reason"] == "the driver did not answer for 0.5 s at the end"


def test_a_library_without_a_function_leaves_its_values_out(tmp_path: Path) -> None:
    script = f"{ONE}received 0 1\nsent 0 1\n"
    result = stand_in(tmp_path, script, "-DWITHOUT_PCIE").sampled(8)
    assert set(told(result, 0, "pcie_rx_bytes_s", "pcie_tx_bytes_s")) == {(None, None)}
    assert told(result, 0, "clock_mhz")[:2] == [(345,), (1410,)]


def test_a_value_that_nvml_has_not_is_left_out(tmp_path: Path) -> None:
    script = ONE.replace("power 0 70123", f"power 0 {2**32 - 1}")
    assert told(stand_in(tmp_path, script).sampled(2), 0, "power_mw")[:2] == [(None,), (350001,)]


def test_a_divided_gpu_is_sampled_as_a_whole_and_it_is_said(tmp_path: Path) -> None:
    script = ONE.replace("utilisation 0 0", "utilisation 0 E3") + "mig 0 1\n"
    result = stand_in(tmp_path, script).sampled(2)
    assert told(result, 0, "utilisation_percent", "memory_bytes")[:2] == [
        (None, 1000),
        (None, 2003),
    ]
    assert result["journal"][0]["devices"][0]["is_divided"]
    assert result["rows"][0]["reason"] == "MIG instances are not sampled apart (GPU 0)"


def test_gpus_beyond_the_limit_and_those_that_do_not_answer_are_counted(tmp_path: Path) -> None:
    script = ONE.replace("count 0 1", "count 0 17")
    result = stand_in(tmp_path, script).sampled(1)
    assert {each["device"] for each in result["samples"]} == {0}
    assert result["rows"][0]["reason"] == (
        "only the first 16 of 17 GPUs were sampled; 15 of 17 GPUs do not answer"
    )


def test_a_device_without_names_is_called_by_its_number(tmp_path: Path) -> None:
    script = "count 0 1\nhandle 0 0\nclock 0 1\n"
    result = stand_in(tmp_path, script).sampled(1)
    assert result["journal"] == [
        {
            "driver": None,
            "devices": [
                {
                    "index": 0,
                    "uuid": "gpu0",
                    "name": None,
                    "memory_bytes": None,
                    "is_divided": False,
                }
            ],
        }
    ]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("init 0 E9\n", "NVML cannot be used: Driver Not Loaded"),
        ("count 0 E18\n", "NVML cannot be used: RM has detected an NVML/RM version mismatch."),
    ],
)
def test_a_library_that_refuses_is_quoted(tmp_path: Path, script: str, reason: str) -> None:
    result = stand_in(tmp_path, script).sampled(0)
    (row,) = result["rows"]
    assert (row["family"], row["reason"], result["count"]) == ("none", reason, 0)
    assert result["journal"] == []


def test_a_machine_without_gpus_has_no_row(tmp_path: Path) -> None:
    assert stand_in(tmp_path, "count 0 0\n").sampled(0)["rows"] == []


#: samples with a path on which nvidia-ml-py is not; prints the reason
WITHOUT_PACKAGE = """
import os, sys
sys.modules["pynvml"] = None
from cvmprof.profiler.session.gpu_sampler import GpuSampler
sampler = GpuSampler(2, 2)
sampler.start()
print(*(row["reason"] for row in sampler.stop().rows))
"""


def test_a_missing_python_package_is_named_where_the_driver_is(tmp_path: Path) -> None:
    ordered = stand_in(tmp_path, ONE)
    reasons = [
        subprocess.check_output([sys.executable, "-c", WITHOUT_PACKAGE], env=environment, text=True)
        for environment in (ordered.environment, {**os.environ, "LD_LIBRARY_PATH": ""})
    ]
    assert reasons == [
        "the Python package nvidia-ml-py is not installed: pip install 'cvmprof[nvml]'\n",
        "\n",
    ]


def test_a_sampler_that_was_never_started_can_be_stopped() -> None:
    from cvmprof.profiler.session.gpu_sampler import GpuSampler

    assert GpuSampler(2, 2).stop().samples == 0
