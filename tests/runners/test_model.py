"""The built model: the size as ordered, reproducible bytes, little memory, and valid ONNX."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
import zlib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmprof.errors import CvmprofError
from cvmprof.runners.model import build_model, lay_out, plan_dimensions

onnx: Any = import_module("onnx")  # its functions are partly untyped
MIB = 1 << 20
KNOWN_DIGEST = "2c3e982845d5b56d13df18d1c749776093b7a652e4723eb7edd7190b3ecdd53b"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module", name="model")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("model"), 5 * MIB, seed=7, layers=2)


def external_tensors(model: Path) -> list[tuple[str, int, int, int]]:
    """Return (name, offset, length, count of values) of each external tensor."""
    loaded = onnx.load(str(model), load_external_data=False)
    tensors: list[tuple[str, int, int, int]] = []
    for tensor in loaded.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            entry = {each.key: each.value for each in tensor.external_data}
            assert entry["location"] == "model.onnx.data"
            count = math.prod(tensor.dims)
            tensors.append((tensor.name, int(entry["offset"]), int(entry["length"]), count))
    return tensors


def test_the_model_passes_the_checker_with_shape_inference(model: Path) -> None:
    onnx.checker.check_model(str(model), full_check=True)


def test_the_external_file_is_exactly_as_long_as_ordered_and_the_graph_small(model: Path) -> None:
    assert (model.parent / "model.onnx.data").stat().st_size == 5 * MIB
    assert model.stat().st_size < 20_000


def test_every_tensor_begins_on_a_page_and_none_overlap(model: Path) -> None:
    tensors = sorted(external_tensors(model), key=lambda tensor: tensor[1])
    assert len(tensors) == 2 * 10 + 4
    end_of_previous = 0
    for _, offset, length, count in tensors:
        assert offset % 4096 == 0
        assert offset - end_of_previous in range(4096)
        assert length == 4 * count
        end_of_previous = offset + length
    assert 5 * MIB - end_of_previous < 2 * 4096


def test_the_same_arguments_give_the_same_bytes_as_ever(tmp_path: Path) -> None:
    """The digest was taken once: a change of it means that every user's model changes."""
    model = build_model(tmp_path, MIB, seed=1)
    assert digest(tmp_path / "model.onnx.data") == KNOWN_DIGEST
    assert digest(model) == digest(build_model(tmp_path / "again", MIB, seed=1))


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    first, second = (build_model(tmp_path / str(seed), MIB, seed=seed) for seed in (1, 2))
    assert digest(first) == digest(second)
    assert digest(first.with_suffix(".onnx.data")) != digest(second.with_suffix(".onnx.data"))


def test_lower_entropy_compresses_better(tmp_path: Path) -> None:
    sizes: list[int] = []
    for entropy in (1.0, 0.5, 0.1):
        build_model(tmp_path / str(entropy), MIB, entropy=entropy)
        data = (tmp_path / str(entropy) / "model.onnx.data").read_bytes()
        sizes.append(len(zlib.compress(data)))
    assert sizes[0] > 0.8 * MIB
    assert sizes[0] > 1.3 * sizes[1] > 1.3 * 1.3 * sizes[2]


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from cvmprof.runners.model import build_model\n"
        "build_model(Path(sys.argv[1]) / 'small', 1 << 20)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "build_model(Path(sys.argv[1]) / 'large', 64 << 20)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    grown_kib = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert int(grown_kib) < 16 * 1024


@given(size_mib=st.integers(1, 16384), layers=st.integers(1, 12))
@settings(deadline=None, max_examples=50)
def test_any_size_is_filled_to_within_a_page_row(size_mib: int, layers: int) -> None:
    size_bytes = size_mib * MIB
    try:
        dimensions = plan_dimensions(size_bytes, layers)
    except CvmprofError:
        assert size_bytes < 4 * 12 * 64 * 64 * layers * 4
        return
    last = lay_out(dimensions)[-1]
    row_bytes = 2 * 4 * dimensions.width
    assert 0 <= size_bytes - last.offset_bytes - last.size_bytes <= row_bytes + 4 * 4096


@pytest.mark.parametrize(("size_bytes", "layers"), [(MIB - 1, 4), (MIB, 0), (MIB, 1000), (0, 4)])
def test_an_impossible_model_is_refused_with_a_way_out(size_bytes: int, layers: int) -> None:
    with pytest.raises(CvmprofError) as refusal:
        plan_dimensions(size_bytes, layers)
    assert refusal.value.help_text.startswith("ask for")
