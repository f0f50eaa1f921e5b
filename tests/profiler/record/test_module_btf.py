"""Finding the kernel's BTF objects: vmlinux's is there on every kernel that can be recorded on."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cvmprof.profiler.record.module_btf import open_btf


def test_the_types_are_those_of_that_name() -> None:
    descriptor = open_btf("vmlinux")
    try:
        told = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
        assert os.readlink(f"/proc/self/fd/{descriptor}") == "anon_inode:btf"
    finally:
        os.close(descriptor)
    assert "btf_id:\t1\n" in told  # the first that the kernel makes, when it starts


def test_a_module_without_types_is_refused_and_nothing_left_open() -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(
        OSError, match="no type information of the module nothing_of_that_name"
    ) as error:
        open_btf("nothing_of_that_name")
    assert error.value.errno == errno.ENOENT
    assert os.listdir("/proc/self/fd") == before
