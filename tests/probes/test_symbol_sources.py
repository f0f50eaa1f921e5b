"""Where the symbols of a stripped library are kept: packed inside it, or in a file of their own."""

from __future__ import annotations

import lzma
import os
import shutil
import struct
import subprocess
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmprof.probes import elf
from cvmprof.probes.symbols import Binary, DebugFiles, NotElf, read_binary

SOURCE = """
namespace cvmfs {
__attribute__((noipa)) static int local(int a) { return a * 1009 + 7; }
__attribute__((noipa)) int hidden(int a) { return a + 5; }
__attribute__((noipa, visibility("default"))) int visible(int a) { return a + 2; }
}
extern "C" __attribute__((visibility("default"))) int call(int a)
{ return cvmfs::local(a) + cvmfs::hidden(a); }
"""
LOCAL, HIDDEN, VISIBLE = "cvmfs::local", "cvmfs::hidden", "cvmfs::visible"
WANTED = (LOCAL, HIDDEN, VISIBLE, "cvmfs::absent")
BUILD_ID = "c0ffee0123456789"
HUGE_DICTIONARY = {"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}
MINI, LINK = ".gnu_debugdata", ".gnu_debuglink"


def tool(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library with its symbols, its debug file, and itself stripped."""
    place = tmp_path_factory.mktemp("separate")
    (place / "source.cc").write_text(SOURCE)
    tool(
        "g++",
        "-O2",
        "-g",
        "-shared",
        "-fPIC",
        "-fvisibility=hidden",
        # the code is linked elsewhere than it stands in the file
        "-Wl,-Ttext-segment=0x7000000",
        f"-Wl,--build-id=0x{BUILD_ID}",
        "-o",
        place / "whole.so",
        place / "source.cc",
    )
    tool("objcopy", "--only-keep-debug", place / "whole.so", place / "library.debug")
    tool("strip", "-o", place / "stripped.so", place / "whole.so")
    # a debug file's own sections of code are empty: its offsets are not the library's
    return place


@pytest.fixture(scope="module")
def expected(made: Path) -> dict[str, int]:
    """Name and offset in the file, by nm and by the program headers that readelf prints."""
    printed = subprocess.run(
        ["nm", "-C", made / "whole.so"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    lines = (line.split(None, 2) for line in printed.splitlines())
    addresses = {words[2].partition("(")[0]: int(words[0], 16) for words in lines if words[2:]}
    headers = subprocess.run(
        ["readelf", "-lW", made / "whole.so"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    loads = [line.split() for line in headers.splitlines() if line.split()[:1] == ["LOAD"]]
    (shift,) = {int(load[2], 16) - int(load[1], 16) for load in loads if "E" in load[6:8]}
    assert shift
    return {name: addresses[name] - shift for name in (LOCAL, HIDDEN, VISIBLE)}


def offsets(found: Binary) -> dict[str, int]:
    return {name: places[0].file_offset for name, places in found.functions.items()}


def sources(found: Binary) -> dict[str, str]:
    return {name: places[0].source for name, places in found.functions.items()}


@contextmanager
def plainly(path: str) -> Generator[int]:
    descriptor = os.open(path, os.O_PATH)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def beside(directory: Path, *roots: str) -> DebugFiles:
    return DebugFiles((str(directory),), roots or ("",), plainly)


def mini_debug_info(made: Path, directory: Path) -> bytes:
    """As distributions make it: the functions that are not exported, and nothing else, packed."""
    dynamic, every = (
        subprocess.run(
            ["nm", *options, "--format=posix", "--defined-only", made / "whole.so"],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout.splitlines()
        for options in (["-D"], [])
    )
    exported = {line.split()[0] for line in dynamic}
    kept = {line.split()[0] for line in every if line.split()[1] in "tT"} - exported
    (directory / "keep").write_text("\n".join(sorted(kept)) + "\n")
    tool(
        "objcopy",
        "-S",
        f"--keep-symbols={directory / 'keep'}",
        made / "library.debug",
        directory / "mini",
    )
    return lzma.compress((directory / "mini").read_bytes())


def with_section(made: Path, directory: Path, name: str, content: bytes) -> Path:
    """The stripped library with one section more."""
    (directory / "section").write_bytes(content)
    library = directory / "library.so"
    tool("objcopy", f"--add-section={name}={directory / 'section'}", made / "stripped.so", library)
    return library


@pytest.fixture
def linked(made: Path, tmp_path: Path) -> Path:
    """The stripped library, naming its debug file; without a build-id."""
    library = tmp_path / "library.so"
    tool(
        "objcopy",
        f"--add-gnu-debuglink={made / 'library.debug'}",
        "-R",
        ".note.gnu.build-id",
        made / "stripped.so",
        library,
    )
    return library


def test_the_library_itself(made: Path, expected: dict[str, int]) -> None:
    found = read_binary(made / "whole.so", WANTED)
    assert (found.source, offsets(found)) == (".symtab", expected)


def test_packed_inside(made: Path, tmp_path: Path, expected: dict[str, int]) -> None:
    library = with_section(made, tmp_path, MINI, mini_debug_info(made, tmp_path))
    found = read_binary(library, WANTED)
    assert found.source == ".gnu_debugdata, .dynsym"
    assert sources(found) == {LOCAL: MINI, HIDDEN: MINI, VISIBLE: ".dynsym"}
    assert offsets(found) == expected
    assert found.remarks == ()


@pytest.mark.parametrize("place", ["", ".debug", "usr/lib/debug"])
def test_a_file_that_the_library_names(
    made: Path, linked: Path, tmp_path: Path, expected: dict[str, int], place: str
) -> None:
    if place.startswith("usr"):  # below a root: that of the daemon
        root, directory = str(tmp_path), Path("/opt/lib")
        file = tmp_path / place / "opt" / "lib" / "library.debug"
    else:
        root, directory, file = "", tmp_path, tmp_path / place / "library.debug"
    file.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(made / "library.debug", file)
    found = read_binary(linked, WANTED, beside(directory, root))
    assert found.source == f"debuglink {file}"
    assert offsets(found) == expected
    assert (found.build_id, found.remarks) == (None, ())


def test_a_file_of_the_build_id(made: Path, tmp_path: Path, expected: dict[str, int]) -> None:
    directory = tmp_path / "usr/lib/debug/.build-id" / BUILD_ID[:2]
    directory.mkdir(parents=True)
    file = directory / f"{BUILD_ID[2:]}.debug"
    file.symlink_to(made / "library.debug")
    found = read_binary(made / "stripped.so", WANTED, beside(tmp_path, "/nowhere", str(tmp_path)))
    assert (found.build_id, found.source) == (BUILD_ID, f"build-id {file}")
    assert offsets(found) == expected
    assert found.remarks == ()


def test_a_file_of_another_build_is_not_read(made: Path, tmp_path: Path) -> None:
    directory = tmp_path / "usr/lib/debug/.build-id" / BUILD_ID[:2]
    directory.mkdir(parents=True)
    file, other = directory / f"{BUILD_ID[2:]}.debug", made / "other.so"
    tool("g++", "-shared", "-fPIC", "-Wl,--build-id=0xbad0", "-o", other, made / "source.cc")
    shutil.copy(other, file)
    found = read_binary(made / "stripped.so", WANTED, beside(tmp_path, str(tmp_path)))
    assert sources(found) == {VISIBLE: ".dynsym"}
    assert found.remarks == (f"build-id {file}: it belongs to another build: bad0",)


def test_a_named_file_with_another_checksum_is_not_read(
    made: Path, linked: Path, tmp_path: Path
) -> None:
    file = tmp_path / "library.debug"
    shutil.copy(made / "library.debug", file)
    with file.open("ab") as end:
        end.write(b"\0")
    found = read_binary(linked, WANTED, beside(tmp_path))
    assert sources(found) == {VISIBLE: ".dynsym"}
    assert found.remarks == (f"debuglink {file}: its checksum is not the one in the library",)


def test_the_right_file_is_found_behind_a_wrong_one(
    made: Path, linked: Path, tmp_path: Path, expected: dict[str, int]
) -> None:
    (tmp_path / "library.debug").write_text("no debug file, but long enough for one: " * 9)
    (tmp_path / ".debug").mkdir()
    shutil.copy(made / "library.debug", tmp_path / ".debug")
    found = read_binary(linked, WANTED, beside(tmp_path))
    assert (found.source, offsets(found)) == (
        f"debuglink {tmp_path}/.debug/library.debug",
        expected,
    )
    (remark,) = found.remarks
    assert remark.endswith("library.debug: not a 64-bit little-endian ELF file")


def test_a_library_with_symbols_asks_for_no_file(made: Path) -> None:
    def refuse(path: str) -> Generator[int]:
        raise AssertionError(path)

    files = DebugFiles((str(made),), ("",), contextmanager(refuse))
    assert read_binary(made / "whole.so", WANTED, files).source == ".symtab"


def test_a_file_that_may_not_be_touched_is_a_remark(linked: Path, tmp_path: Path) -> None:
    def refuse(path: str) -> Generator[int]:
        raise OSError("not opened")

    files = DebugFiles((str(tmp_path),), ("",), contextmanager(refuse))
    remarks = read_binary(linked, WANTED, files).remarks
    assert remarks[0] == f"debuglink {tmp_path}/library.debug: not opened"


@pytest.mark.parametrize(
    ("content", "remark"),
    [
        (b"", "it is truncated"),
        (b"no zero", "it is truncated"),
        (b"a\0\0\0", "it is truncated"),
        (b"\0\0\0\0abcd", "it names no file"),
        (b"..\0\0abcd", "it names no file"),
        (b"../../etc/passwd\0\0\0\0abcd", "it names no file"),
    ],
)
def test_a_name_that_is_none(made: Path, tmp_path: Path, content: bytes, remark: str) -> None:
    library = with_section(made, tmp_path, LINK, content or b"\0")
    if not content:  # objcopy adds no empty section
        shrink(library, LINK, 0)
    found = read_binary(library, WANTED, beside(tmp_path))
    assert found.remarks == (f"{LINK}: {remark}",)
    assert sources(found) == {VISIBLE: ".dynsym"}


def shrink(library: Path, name: str, size: int) -> None:
    """Lets a section say that it is of another size."""
    blob = bytearray(library.read_bytes())
    sections, count, names_at = struct.unpack_from("<Q12xHH", blob, 40)
    (names,) = struct.unpack_from("<Q", blob, sections + 64 * names_at + 24)
    for at in range(sections, sections + 64 * count, 64):
        start = names + struct.unpack_from("<I", blob, at)[0]
        if blob[start : blob.index(b"\0", start)].decode() == name:
            struct.pack_into("<Q", blob, at + 32, size)
    library.write_bytes(blob)


@pytest.mark.parametrize(
    ("content", "remark"),
    [
        (b"no xz at all", "xz: "),
        (lzma.compress(b"\x7fELF")[:-9], "it is truncated"),
        (lzma.compress(b"\x7fELF"), "a part of it lies beyond its end"),
        (lzma.compress(bytes(100)), "not a 64-bit little-endian ELF file"),
        (lzma.compress(bytes(elf.MOST_BYTES + 1)), "it unpacks to more than"),
        (lzma.compress(bytes(9), filters=[HUGE_DICTIONARY]), "xz: "),
    ],
)
def test_what_is_packed_badly_is_a_remark(
    made: Path, tmp_path: Path, content: bytes, remark: str
) -> None:
    found = read_binary(with_section(made, tmp_path, MINI, content), WANTED)
    assert found.remarks[0].startswith(f"{MINI}: {remark}"), found.remarks
    assert sources(found) == {VISIBLE: ".dynsym"}


def test_a_function_outside_of_the_librarys_code_is_not_probed(made: Path, tmp_path: Path) -> None:
    """Addresses are the debug file's word; where the code stands is the library's."""
    mini = tmp_path / "shifted"
    tool("objcopy", "--change-section-address", ".text+0x70000000", made / "whole.so", mini)
    library = with_section(made, tmp_path, MINI, lzma.compress(mini.read_bytes()))
    found = read_binary(library, WANTED)
    assert sources(found) == {VISIBLE: ".dynsym"}
    (remark,) = found.remarks
    assert "where the library has no code" in remark


# --- hostile tables -------------------------------------------------------------------------------


def forged(symbols: bytes, names: bytes) -> bytes:
    """A debug file of two tables and nothing else."""
    header = 64 + 56
    sections = header + len(symbols) + len(names)
    blob = b"\x7fELF\x02\x01\x01" + bytes(9)
    blob += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, sections, 0, 64, 56, 1, 64, 3, 9)
    blob += struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 1 << 30, 1 << 30, 4096)
    blob += symbols + names + bytes(64)
    for kind, at, size, link in (
        (elf.SHT_SYMTAB, header, len(symbols), 2),
        (3, header + len(symbols), len(names), 0),
    ):
        blob += struct.pack("<IIQQQQIIQQ", 0, kind, 0, 0, at, size, link, 0, 8, 24)
    return blob


def symbol(name: int, address: int) -> bytes:
    return struct.pack("<IBBHQQ", name, 2, 0, 1, address, 1)


def test_the_forger_can_be_believed(tmp_path: Path) -> None:
    """Else none of what follows would prove anything."""
    path = tmp_path / "library.so"
    path.write_bytes(forged(symbol(1, 77), b"\0_ZN5cvmfs5localEv\0"))
    assert offsets(read_binary(path, WANTED)) == {LOCAL: 77}


def test_a_name_that_a_million_functions_bear(tmp_path: Path) -> None:
    path = tmp_path / "library.so"
    symbols = b"".join(symbol(1, address) for address in range(1, 1_000_001))
    path.write_bytes(forged(symbols, b"\0_ZN5cvmfs5localEv\0"))
    assert read_binary(path, WANTED) == Binary(
        None, {}, "none", remarks=(".symtab: more than 1024 functions have these names",)
    )


def test_a_table_of_a_million_such_names(tmp_path: Path) -> None:
    path = tmp_path / "library.so"
    path.write_bytes(forged(symbol(1, 77), b"\0" + b"_ZN5cvmfs5localEv\0" * 1_000_000))
    (remark,) = read_binary(path, WANTED).remarks
    assert remark == ".symtab: more than 1024 symbols have these names"


@pytest.mark.parametrize("piece", [b"_ZN5cvmfs", b"_ZN5cvmfs5loca", b"_ZN12_GLOBAL__N_1", b"_ZNK"])
def test_names_without_an_end_are_read_once(tmp_path: Path, piece: bytes) -> None:
    path, names = tmp_path / "library.so", b"\0" + piece * (20_000_000 // len(piece))
    path.write_bytes(forged(symbol(1, 77), names))
    before = os.times().user
    assert read_binary(path, WANTED).functions == {}
    assert os.times().user - before < 20  # quadratic, it would be hours


def test_a_mangled_name_longer_than_any(tmp_path: Path) -> None:
    path = tmp_path / "library.so"
    path.write_bytes(forged(symbol(1, 77), b"\0_ZN5cvmfs5localE" + b"v" * 5000 + b"\0"))
    assert read_binary(path, WANTED).functions == {}


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_damage_is_an_error_or_a_remark(
    data: st.DataObject, made: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of the library, of what is packed in it, and of the file that it names."""
    place = tmp_path_factory.mktemp("damaged")
    debug = damaged(data, (made / "library.debug").read_bytes())
    (place / "library.debug").write_bytes(debug)
    packed = lzma.compress(damaged(data, (made / "whole.so").read_bytes()), preset=0)
    linked = b"library.debug\0\0\0" + struct.pack("<I", zlib.crc32(debug))
    (place / "mini").write_bytes(damaged(data, packed))
    (place / "link").write_bytes(linked)
    library = place / "library.so"
    tool(
        "objcopy",
        f"--add-section={MINI}={place / 'mini'}",
        f"--add-section={LINK}={place / 'link'}",
        made / "stripped.so",
        library,
    )
    library.write_bytes(damaged(data, library.read_bytes()))
    try:
        found = read_binary(library, WANTED, beside(place))
    except NotElf as error:
        assert str(error)
        return
    assert set(found.functions) <= set(WANTED)
    assert len(found.remarks) < 10


def damaged(data: st.DataObject, content: bytes) -> bytes:
    """The same with a few bytes changed, in the headers for the most part, and maybe cut off."""
    blob = bytearray(content)
    sections = min(int.from_bytes(blob[40:48], "little"), len(blob) - 1)
    places = st.one_of(
        st.integers(0, min(63, len(blob) - 1)),
        st.integers(sections, len(blob) - 1),
        st.integers(0, len(blob) - 1),
    )
    for _ in range(data.draw(st.integers(0, 4))):
        blob[data.draw(places)] = data.draw(st.integers(0, 255))
    return bytes(blob[: data.draw(st.just(len(blob)) | st.integers(64, len(blob)))])
