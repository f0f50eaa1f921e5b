"""The model that is loaded: safetensors, of the size that was asked for."""

from __future__ import annotations

from pathlib import Path

from cvmprof.tests.gpu.on_device.model import tensor_ranges, write_model


def test_tensors_lie_one_behind_the_other(tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    write_model(model, layers=3, side=16)
    ranges = tensor_ranges(model)
    assert list(ranges) == ["layer.0", "layer.1", "layer.2"]
    assert [size for _, size in ranges.values()] == [512] * 3
    first = ranges["layer.0"][0]
    assert first % 8 == 0
    assert [offset for offset, _ in ranges.values()] == [first, first + 512, first + 1024]
    assert model.stat().st_size == first + 3 * 512


def test_numbers_are_small_and_tensors_differ(tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    write_model(model, layers=2, side=16)
    data = model.read_bytes()
    spans = [data[offset : offset + size] for offset, size in tensor_ranges(model).values()]
    assert spans[0] != spans[1]
    assert {span[1::2] for span in spans} == {b"\x3b" * 256}
