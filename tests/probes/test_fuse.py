"""FUSE's numbers, against the kernel's own header and the C library's."""

from __future__ import annotations

import re
from pathlib import Path

from cvmprof.probes import fuse


def test_opcodes_are_those_of_the_kernels_header() -> None:
    header = Path("/usr/include/linux/fuse.h").read_text(encoding="utf-8")
    listed = header.partition("enum fuse_opcode {")[2].partition("Reserved opcodes")[0]
    opcodes = {int(number): name for name, number in re.findall(r"FUSE_(\w+)\s*=\s*(\d+)", listed)}
    named = {number: name for number, name in fuse.OPCODES.items() if number in opcodes}
    assert named == {number: opcodes[number] for number in named}
    assert set(fuse.OPCODES) - set(opcodes) <= {52}  # STATX came with Linux 6.6
    assert max(opcodes) < fuse.OPCODE_LIMIT


def test_the_programs_have_them_by_name() -> None:
    lines = fuse.c_definitions().splitlines()
    assert {
        "#define FUSE_READ 15",
        "#define FUSE_INIT 26",
        "#define FUSE_SUPER_MAGIC 1702057286",
        "#define FUSE_HEADER_BYTES 40",
    } <= set(lines)
    assert fuse.HANDLE_OPCODES == (15, 18, 20, 25, 29)
    assert (fuse.OPEN, fuse.READ, fuse.INIT, fuse.DESTROY) == (14, 15, 26, 38)


def test_device_numbers_are_those_of_the_kernel() -> None:
    assert fuse.device_number("8:1") == 8 << 20 | 1
    assert fuse.device_text(8 << 20 | 1) == "8:1"
    assert fuse.device_text(fuse.device_number("259:1048575")) == "259:1048575"
