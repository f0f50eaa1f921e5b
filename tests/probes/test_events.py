"""The layouts, against the C compiler: whoever writes a record and whoever reads it must agree."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cvmprof.probes import events
from cvmprof.probes.events import Dtype, Field, Layout

PREAMBLE = """
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
typedef uint64_t u64; typedef int64_t s64; typedef uint32_t u32; typedef int32_t s32;
typedef uint16_t u16; typedef int16_t s16; typedef uint8_t u8;
"""


def compiled(directory: Path, statements: list[str]) -> list[str]:
    """What a C program prints that has the generated definitions."""
    source, program = directory / "layouts.c", directory / "layouts"
    body = "\n".join(statements)
    function = f"int main(void) {{\n{body}\nreturn 0; }}\n"
    source.write_text(PREAMBLE + events.c_definitions() + function)
    subprocess.run(["cc", "-Wall", "-Werror", "-o", program, source], check=True)
    return subprocess.run([program], check=True, stdout=subprocess.PIPE, text=True).stdout.split()


def test_c_places_every_field_where_python_reads_it(tmp_path: Path) -> None:
    statements, expected = list[str](), list[str]()
    for layout in events.LAYOUTS:
        statements.append(f'printf("%zu\\n", sizeof(struct {layout.name}));')
        expected.append(str(layout.size))
        for field in layout.fields:
            place = f"struct {layout.name}, {field.name}"
            size = f"sizeof((struct {layout.name} *)0)->{field.name}"
            statements.append(f'printf("%zu\\n%zu\\n", offsetof({place}), {size});')
            expected += [str(layout.offset(field.name)), str(field.size)]
    assert len(events.LAYOUTS) == 22
    assert compiled(tmp_path, statements) == expected


def test_c_names_every_number_as_python_does(tmp_path: Path) -> None:
    numbers = {
        "KIND_READ": 1, "KIND_FAULT": 3, "KIND_METADATA": 7, "FN_CVMFS_LOOKUP": 1,
        "FN_CVMFS_READ": 9, "FN_FETCHER_FETCH": 14, "FN_DOWNLOADMANAGER_FETCH": 15,
        "FN_CACHEMANAGER_OPEN": 16, "TASK_SEEN": 1, "TASK_EXIT": 4, "CACHE_OPENAT": 1,
        "CACHE_UNLINK": 3, "LOSS_RING_FULL": 0, "LOSS_MAP_FULL": 1, "LOSS_UNMATCHED_END": 2,
        "LOSS_UNREADABLE": 3, "ROLE_TARGET": 1, "ROLE_DAEMON": 2, "OPERATION_LINKED": 64,
        "BLOCKED_UNINTERRUPTIBLE": 2, "BLOCKED_STOPPED": 3, "GPU_SPAN_NS": 10_000_000,
        "GPU_LAST_COUNTED": 15, "TROUBLES_LOW": 1 << 5 | 1 << 13 | 1 << 19,
    }  # fmt: skip
    printed = compiled(tmp_path, [f'printf("%d\\n", (int){name});' for name in numbers])
    assert [int(number) for number in printed] == list(numbers.values())
    assert events.OPERATION_KINDS[3] == "fault"
    assert events.DAEMON_FUNCTIONS[16] == "CacheManager::Open"
    assert events.LOSS_CAUSES == (
        "ring full",
        "map full",
        "unmatched end",
        "unreadable",
        "unmatched start",
    )


#: bytes of what NumPy calls so
WIDTHS = {"<u8": 8, "<i8": 8, "<u4": 4, "<i4": 4, "<u2": 2, "<i2": 2, "u1": 1}


def width(dtype: str | Dtype) -> int:
    if isinstance(dtype, str):
        return WIDTHS.get(dtype) or int(dtype[1:])
    return sum(width(kind) for _, kind in dtype)


@pytest.mark.parametrize("layout", events.LAYOUTS, ids=lambda layout: layout.name)
def test_the_decoders_dtype_is_as_wide(layout: Layout) -> None:
    dtype = layout.dtype()
    assert [name for name, _ in dtype] == [field.name for field in layout.fields]
    assert [width(kind) for _, kind in dtype] == [field.size for field in layout.fields]
    assert width(dtype) == layout.size


@pytest.mark.parametrize("layout", events.RINGS, ids=lambda layout: layout.name)
def test_the_kernel_takes_a_rings_size(layout: Layout) -> None:
    assert layout.ring_pages & (layout.ring_pages - 1) == 0  # a power of two
    assert layout.stride == layout.size + 8
    assert layout.stride < layout.ring_pages * events.PAGE


@pytest.mark.parametrize(
    "types", [("u32", "u64"), ("u8", "u16", "u8"), ("u64", "u32"), ("text[3]", "u8"), ("u16",)]
)
def test_a_layout_that_c_would_pad_is_refused(types: tuple[str, ...]) -> None:
    fields = tuple(Field(f"f{number}", kind, "") for number, kind in enumerate(types))
    with pytest.raises(ValueError, match=r"padding|multiple of 8"):
        Layout("bad", "", fields)


RECORD = Layout(
    "record",
    "",
    (
        Field("time_ns", "u64", ""), Field("result", "i64", ""), Field("tid", "u32", ""),
        Field("error", "i32", ""), Field("kind", "u16", ""), Field("flags", "u8", ""),
        Field("more", "u8", ""), Field("name", "text[8]", ""), Field("hash", "raw[4]", ""),
    ),
)  # fmt: skip
#: the same record, spelt out: little-endian, and no padding
RECORD_BYTES = (
    bytes.fromhex("0100000000000080" "feffffffffffffff" "07000000" "fbffffff" "0201" "ff" "00")
    + b"ab\0dirty"
    + b"\0\1\2\3"
)  # fmt: skip


def test_fields_are_read_by_name() -> None:
    names = [field.name for field in RECORD.fields]
    expected = (1 << 63 | 1, -2, 7, -5, 0x102, 255, 0, b"ab", b"\0\1\2\3")
    assert RECORD.read(RECORD_BYTES, *names) == expected
    assert RECORD.read(memoryview(RECORD_BYTES), "error", "tid") == (-5, 7)


def test_a_record_is_packed_of_named_fields() -> None:
    packed = RECORD.pack(time_ns=1 << 63 | 1, result=-2, tid=7, error=-5, kind=0x102, flags=255,
                         name=b"ab\0dirty", hash=b"\0\1\2\3")  # fmt: skip
    assert packed == RECORD_BYTES
    assert RECORD.pack(tid=7) == bytes(16) + b"\7" + bytes(23)
    with pytest.raises(KeyError):
        RECORD.pack(absent=1)


def test_the_records_of_a_span_are_without_their_headers() -> None:
    span = memoryview((b"HHHHhhhh" + RECORD_BYTES) * 2)
    assert [bytes(record) for record in RECORD.records(span)] == [RECORD_BYTES] * 2


def test_a_field_that_is_not_there() -> None:
    with pytest.raises(KeyError):
        events.CALL.offset("absent")


def test_every_field_says_what_it_means() -> None:
    fields = [field for layout in events.LAYOUTS for field in layout.fields]
    assert [field.name for field in fields if not field.doc] == []
