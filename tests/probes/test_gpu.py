"""Functions of CUDA by any of their names."""

from __future__ import annotations

import pytest

from cvmprof.probes.gpu import base_name, call_kind


@pytest.mark.parametrize(
    ("function", "base"),
    [
        ("cuInit", "cuInit"),
        ("cuMemcpyHtoD_v2", "cuMemcpyHtoD"),
        ("cuMemcpyHtoD_v2_ptds", "cuMemcpyHtoD"),
        ("cuLaunchKernel_ptsz", "cuLaunchKernel"),
        ("cudaLaunchKernel_ptsz_v7000", "cudaLaunchKernel"),
        ("cudaMemcpyAsync_v3020", "cudaMemcpyAsync"),
        ("cuMemcpy2D_v2", "cuMemcpy2D"),
    ],
)
def test_suffixes_of_versions_and_of_default_streams_are_removed(function: str, base: str) -> None:
    assert base_name(function) == base


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        ("cuLaunchKernel_ptsz", "launch"),
        ("cudaMemcpy_ptds_v7000", "copy"),
        ("cudaDeviceSynchronize_v3020", "synchronize"),
        ("cuModuleLoadData", "load"),
        ("cudaGetLastError_v3020", None),
        ("cuLaunchKernels", None),
    ],
)
def test_the_kind_of_a_call(function: str, kind: str | None) -> None:
    assert call_kind(function) == kind
