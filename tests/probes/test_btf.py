"""BTF blobs made by hand, byte by byte, and the running kernel's own."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmprof.probes.btf import VMLINUX, Btf, BtfError, Member

# kinds, of Documentation/bpf/btf.rst
INT, POINTER, ARRAY, STRUCT, UNION, ENUM, FORWARD, TYPEDEF = range(1, 9)
CONST, FUNC, FUNC_PROTO, FLOAT = 10, 12, 13, 16

STRINGS = (
    b"\0int\0inner\0low\0high\0outer\0a\0b\0colour\0RED\0BLUE\0btf_trace_tick\0work\0t_outer\0"
    b"xwork\0"
)


def at(name: str, strings: bytes = STRINGS) -> int:
    return strings.index(b"\0" + name.encode() + b"\0") + 1


def head(name: int, kind: int, count: int, size_or_type: int, flag: int = 0) -> bytes:
    return struct.pack("<III", name, flag << 31 | kind << 24 | count, size_or_type)


def member(name: int, type_id: int, bits: int, width: int = 0) -> bytes:
    return struct.pack("<III", name, type_id, width << 24 | bits)


def blob(types: bytes, strings: bytes = STRINGS) -> bytes:
    header = struct.pack("<HBBI4I", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    return header + types + strings


INTEGER = head(at("int"), INT, 0, 4) + struct.pack("<I", 32)
TYPES = (
    INTEGER  # 1: int
    + head(at("inner"), STRUCT, 2, 8)  # 2: struct inner { int low, high; }
    + member(at("low"), 1, 0)
    + member(at("high"), 1, 32)
    + head(0, UNION, 2, 8)  # 3: union { int a; struct inner b; }
    + member(at("a"), 1, 0)
    + member(at("b"), 6, 0)
    + head(at("outer"), STRUCT, 3, 24)  # 4: struct outer { int work; union…; struct inner *inner; }
    + member(at("work"), 1, 0)
    + member(0, 3, 32)
    + member(at("inner"), 5, 128)
    + head(0, POINTER, 0, 2)  # 5: struct inner *
    + head(0, CONST, 0, 2)  # 6: const struct inner
    + head(at("colour"), ENUM, 2, 4)  # 7: enum colour { RED = 3, BLUE = -1 }
    + struct.pack("<Ii", at("RED"), 3)
    + struct.pack("<Ii", at("BLUE"), -1)
    + head(0, FUNC_PROTO, 3, 0)  # 8: void (void *, int, int)
    + struct.pack("<IIIIII", 0, 0, 0, 1, 0, 1)
    + head(0, POINTER, 0, 8)  # 9
    + head(at("btf_trace_tick"), TYPEDEF, 0, 9)  # 10
    + head(at("work"), FUNC, 1, 8)  # 11: void work(…), global
    + head(at("t_outer"), TYPEDEF, 0, 4)  # 12: typedef struct outer t_outer
)


@pytest.fixture
def btf() -> Btf:
    return Btf(blob(TYPES))


def test_offsets_of_members(btf: Btf) -> None:
    assert btf.offset("inner", "low") == 0
    assert btf.offset("inner", "high") == 4
    assert btf.offset("outer", "work") == 0
    assert btf.offset("outer", "inner") == 16


def test_members_of_an_anonymous_union_are_the_structs(btf: Btf) -> None:
    assert btf.offset("outer", "a") == 4
    assert btf.offset("outer", "b") == 4
    assert btf.offset("outer", "b.high") == 8  # through const


def test_what_is_not_there_is_none(btf: Btf) -> None:
    assert btf.offset("outer", "absent") is None
    assert btf.offset("absent", "a") is None
    assert btf.offset("outer", "a.low") is None  # an int has no members
    assert btf.offset("outer", "inner.low") is None  # a pointer is not followed
    assert btf.member("colour", "RED") is None
    assert btf.enumerator("inner", "RED") is None
    assert btf.enumerator("colour", "GREEN") is None
    assert btf.tracepoint_arguments("tock") is None


def test_enumerators_are_signed(btf: Btf) -> None:
    assert btf.enumerator("colour", "RED") == 3
    assert btf.enumerator("colour", "BLUE") == -1


def test_a_tracepoint_is_a_typedef_of_a_pointer_to_a_prototype(btf: Btf) -> None:
    assert btf.tracepoint_arguments("tick") == 2
    assert btf.tracepoint_arguments("tock") is None


def test_functions_are_numbered_as_the_kernel_numbers_types(btf: Btf) -> None:
    assert btf.function_id("work") == 11
    assert btf.function_id("inner") is None  # a struct
    assert btf.function_id("absent") is None
    own = b"probe\0"
    module = Btf(blob(head(len(STRINGS), FUNC, 0, 8), own), base=btf)
    assert module.function_id("probe") == 13  # after the kernel's twelve
    assert module.function_id("work") == 11


def test_structs_by_whole_name(btf: Btf) -> None:
    assert not btf.has_struct("nner")
    assert btf.has_struct("inner")
    assert not btf.has_struct("work")  # a function


def test_a_name_may_be_the_end_of_another_string() -> None:
    end = at("xwork") + 1  # compilers and pahole share suffixes
    assert Btf(blob(head(end, STRUCT, 0, 1))).has_struct("work")


def test_bit_fields() -> None:
    types = INTEGER + head(at("outer"), STRUCT, 3, 4, flag=1)
    types += member(at("a"), 1, 0, 3) + member(at("b"), 1, 3, 7) + member(at("low"), 1, 16)
    btf = Btf(blob(types))
    assert btf.member("outer", "a") == Member(0, 3, 1)
    assert btf.member("outer", "b") == Member(3, 7, 1)
    assert btf.member("outer", "low") == Member(16, 0, 1)
    assert btf.offset("outer", "low") == 2


def test_a_module_refers_to_the_kernels_types_and_strings(btf: Btf) -> None:
    own = b"request\0next\0btf_trace_tock\0"
    names = ("request", "next", "btf_trace_tock")
    name = {text: len(STRINGS) + own.index(text.encode()) for text in names}
    types = head(name["request"], STRUCT, 2, 16)  # 13, after the kernel's twelve
    types += member(at("a"), 1, 0)  # named by the kernel's string
    types += member(name["next"], 2, 64)  # of the kernel's struct inner
    types += head(name["btf_trace_tock"], TYPEDEF, 0, 9)  # the kernel's prototype
    module = Btf(blob(types, own), base=btf)
    assert module.offset("request", "a") == 0
    assert module.offset("request", "next.high") == 12
    assert module.tracepoint_arguments("tock") == 2
    assert module.offset("outer", "b.high") == 8  # the kernel's own remain
    assert not btf.has_struct("request")


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"\x9f\xeb",
        b"\xeb\x9f" + blob(TYPES)[2:],  # big-endian
        blob(TYPES)[:-1],
        blob(TYPES[:-1]),
        blob(head(0, 31, 0, 0)),  # a kind that is not known has no known length
        blob(head(0, STRUCT, 2, 8)),  # its members are missing
    ],
)
def test_what_is_not_whole_btf_is_refused(broken: bytes) -> None:
    with pytest.raises(BtfError):
        Btf(broken)


@pytest.mark.parametrize(
    "types",
    [
        INTEGER + head(at("btf_trace_tick"), TYPEDEF, 0, 2),  # of itself
        INTEGER + head(at("btf_trace_tick"), TYPEDEF, 0, 99),  # of nothing
        INTEGER + head(at("btf_trace_tick"), TYPEDEF, 0, 0),  # of void
    ],
)
def test_a_tracepoint_without_a_prototype(types: bytes) -> None:
    with pytest.raises(BtfError):
        Btf(blob(types)).tracepoint_arguments("tick")


@pytest.mark.parametrize(
    "holds",
    [
        member(0, 1, 0),  # itself, without a name
        member(0, 2, 0),  # a typedef of itself
        member(0, 3, 0),  # a type that does not exist
        member(9999, 1, 0),  # a name that does not exist
    ],
)
def test_a_struct_that_cannot_be(holds: bytes) -> None:
    types = head(at("outer"), STRUCT, 1, 8) + holds + head(at("t_outer"), TYPEDEF, 0, 2)
    with pytest.raises(BtfError):
        Btf(blob(types)).offset("outer", "a")


def _ask_everything(btf: Btf) -> None:
    for name in ("outer", "inner", "colour", "tick", "work", "t_outer"):
        btf.offset(name, "a")
        btf.offset(name, "b.high")
        btf.enumerator(name, "RED")
        btf.tracepoint_arguments(name)
        btf.has_struct(name)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, len(blob(TYPES)) - 1), st.integers(0, 255)), max_size=8),
    st.integers(0, len(blob(TYPES))),
)
def test_damage_raises_only_the_error_that_says_so(
    changes: list[tuple[int, int]], length: int
) -> None:
    damaged = bytearray(blob(TYPES))
    for position, value in changes:
        damaged[position] = value
    for tried in (bytes(damaged), bytes(damaged[:length])):
        try:
            _ask_everything(Btf(tried))
        except BtfError:
            continue


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_garbage_for_types_raises_only_the_error_that_says_so(garbage: bytes) -> None:
    try:
        _ask_everything(Btf(blob(garbage)))
    except BtfError:
        return


# --- the running kernel ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running() -> Btf:
    return Btf.of_running_kernel()


def test_the_running_kernels_blob_is_read_whole(running: Btf) -> None:
    assert running.has_struct("task_struct")
    assert VMLINUX.stat().st_size > 1 << 20


def test_facts_of_the_running_kernel_that_are_known_otherwise(running: Btf) -> None:
    # include/linux/sched.h: tgid follows pid; thread_info is the first member
    pid, tgid = running.offset("task_struct", "pid"), running.offset("task_struct", "tgid")
    assert pid and tgid == pid + 4
    assert running.offset("task_struct", "thread_info") == 0
    # include/uapi/linux/fuse.h is an interface, so its offsets cannot change
    unique = running.offset("fuse_req", "in.h.unique")
    assert unique and running.offset("fuse_req", "in.h.opcode") == unique - 4
    assert running.offset("fuse_read_in", "offset") == 8
    assert running.offset("fuse_read_in", "size") == 16
    # likewise include/uapi/linux/bpf.h
    assert running.enumerator("bpf_prog_type", "BPF_PROG_TYPE_RAW_TRACEPOINT") == 17
    # v5.18 added the fourth argument of sched_switch
    assert running.tracepoint_arguments("sched_switch") in (3, 4)
    assert running.tracepoint_arguments("sys_enter") == 2


def test_every_event_that_tracefs_lists_is_a_tracepoint(running: Btf, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tracefs", "tracefs", tmp_path], check=True)
    try:
        formats = list(tmp_path.glob("events/*/*/format"))
        systems = ("sched", "irq", "fuse")
        listed = [path.parent.name for path in formats if path.parts[-3] in systems]
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert "sched_switch" in listed
    assert [name for name in listed if running.tracepoint_arguments(name) is None] == []


def test_arguments_of_functions_of_the_running_kernel() -> None:
    btf = Btf.of_running_kernel()
    assert btf.function_arguments("filemap_fault") == ("vm_fault",)
    assert btf.function_arguments("no_such_function") is None
