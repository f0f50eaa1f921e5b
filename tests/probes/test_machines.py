"""The table of machines, against the C headers of this system."""

from __future__ import annotations

import platform
import re
import subprocess
from pathlib import Path

import pytest

from cvmprof.probes.machines import MACHINES

#: what each machine's own <asm/unistd.h> chooses of <asm-generic/unistd.h>, where it uses that
_GENERIC = ("RENAMEAT", "NEW_STAT")
HEADERS = {
    "x86_64": ("-include", "asm/unistd_64.h"),
    "aarch64": (
        "-D__BITS_PER_LONG=64",
        *(f"-D__ARCH_WANT_{name}" for name in _GENERIC),
        "-include",
        "asm-generic/unistd.h",
    ),
}
#: registers whose members have other names than ours; of arm64 regs[N] are xN, and orig_x0 is the
#: kernel's alone
_PTRACE = {
    **{name: name for name in ("r15", "r14", "r13", "r12", "r11", "r10", "r9", "r8")},
    **{name: f"r{name}" for name in ("bp", "bx", "ax", "cx", "dx", "si", "di", "ip")},
    **{name: name for name in ("cs", "ss", "pc", "pstate")},
    "orig_ax": "orig_rax",
    "flags": "eflags",
    "orig_x0": "",
    "sp": "rsp" if platform.machine() == "x86_64" else "sp",
}


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_of_system_calls_are_the_kernels(machine: str) -> None:
    if machine == "x86_64" != platform.machine():
        pytest.skip("x86's header of numbers comes with an x86 machine only")
    ours = MACHINES[machine].calls
    text = "".join(f"int call_{name} = __NR_{name};\n" for name in ours)
    printed = subprocess.run(
        ["cc", "-E", "-P", *HEADERS[machine], "-x", "c", "-"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        input=text,
    ).stdout
    found = re.findall(r"int call_(\w+) = (\d+);", printed)
    assert ours == {name: int(number) for name, number in found}


def test_this_machines_registers_are_where_ptrace_has_them(tmp_path: Path) -> None:
    """glibc's struct user_regs_struct begins as the kernel's struct pt_regs does."""
    told = MACHINES[platform.machine()]
    names = {name: _PTRACE.get(name, f"regs[{name[1:]}]") for name in told.registers}
    names = {name: member for name, member in names.items() if member}
    source = tmp_path / "offsets.c"
    lines = "".join(
        f'printf("{name} %zu\\n", __builtin_offsetof(struct user_regs_struct, {member}));\n'
        for name, member in names.items()
    )
    source.write_text(f"#include <stdio.h>\n#include <sys/user.h>\nint main(void) {{\n{lines}}}\n")
    subprocess.run(["cc", "-o", tmp_path / "offsets", source], check=True)
    printed = subprocess.run([tmp_path / "offsets"], check=True, stdout=-1, text=True).stdout
    found = {name: int(offset) for name, offset in map(str.split, printed.splitlines())}
    assert found == {name: told.offset(name) for name in names}


@pytest.mark.parametrize("machine", MACHINES)
def test_every_register_that_is_read_is_there(machine: str) -> None:
    told = MACHINES[machine]
    assert len(set(told.registers)) == len(told.registers)
    assert len(told.call_arguments) == 6
    assert len(told.arguments) >= 4
    named = {told.call_number, *told.call_arguments, *told.arguments, told.result}
    assert {told.compat_register or told.result} | named <= set(told.registers)
