"""Functions by name, in small shared objects that are built here."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvmprof.probes.symbols import (
    Binary,
    NotElf,
    exported_functions,
    qualified_name,
    read_binary,
)

SOURCE = """
#include <stdlib.h>
#include <string>
namespace cvmfs {
__attribute__((noipa)) static int local(int a) { return a * 1009 + 7; }
struct Fetcher { __attribute__((noipa)) int Fetch(const std::string &name); };
int Fetcher::Fetch(const std::string &name) { return name.size() + 5; }
__attribute__((cold, noipa)) void fail() { abort(); }
__attribute__((noipa)) int halved(int a) { if (__builtin_expect(a < 0, 0)) fail(); return a / 2; }
__attribute__((noipa)) int both(int a) { return a; }
__attribute__((noipa)) int both(long a) { return a + 1; }
template <class T> __attribute__((noipa)) T typed(T a) { return a; }
template int typed<int>(int);
int data = 7;
}
extern "C" int call_local(int a) { return cvmfs::local(a); }
extern "C" __attribute__((visibility("default"))) int exported(int a) { return a + 1; }
namespace cvmfs { __attribute__((visibility("default"))) int visible(int a) { return a + 2; } }
"""
CLONED = """
#include <stdlib.h>
namespace a { __attribute__((noinline)) static int cloned(int x, int) { return rand() % x; } }
extern "C" int one(int n) { return a::cloned(1009, n); }
extern "C" int two(int n) { return a::cloned(1009, n + 1); }
"""
LOCAL, FETCH, HALVED = "cvmfs::local", "cvmfs::Fetcher::Fetch", "cvmfs::halved"
VISIBLE = "cvmfs::visible"
#: what may be asked of a file, and what is there is only that which bears the very name
WANTED = (LOCAL, FETCH, HALVED, VISIBLE, "cvmfs::Fetch", "Fetch", "cvmfs::absent")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("objects")
    (made / "source.cc").write_text(SOURCE)
    return made


@pytest.fixture(scope="module")
def library(directory: Path) -> Path:
    made = directory / "library.so"
    subprocess.run(
        [
            "g++",
            "-O2",
            "-shared",
            "-fPIC",
            "-fvisibility=hidden",
            "-Wl,--build-id=0xc0ffee0123",
            "-o",
            made,
            directory / "source.cc",
        ],
        check=True,
    )
    return made


@pytest.fixture(scope="module")
def stripped(directory: Path, library: Path) -> Path:
    made = directory / "stripped.so"
    subprocess.run(["strip", "-o", made, library], check=True)
    return made


@pytest.fixture(scope="module")
def symbols(library: Path) -> dict[str, int]:
    """What nm says: symbol to address."""
    printed = subprocess.run(["nm", library], check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = (line.split() for line in printed.splitlines())
    return {words[2]: int(words[0], 16) for words in lines if len(words) == 3}


def test_local_and_hidden_functions_are_found(library: Path, symbols: dict[str, int]) -> None:
    found = read_binary(library, WANTED)
    assert found.source == ".symtab"
    assert set(found.functions) == {LOCAL, FETCH, HALVED, VISIBLE}
    for name, ending in ((LOCAL, "ZN5cvmfsL5localEi"), (HALVED, "ZN5cvmfs6halvedEi")):
        (function,) = found.functions[name]
        assert function.symbol == "_" + ending
        assert function.address == symbols[function.symbol]
    (fetch,) = found.functions[FETCH]
    assert re.match(r"_ZN5cvmfs7Fetcher5FetchE.*string", fetch.symbol)


def test_the_file_holds_the_functions_code_at_its_offset(library: Path) -> None:
    loaded = ctypes.CDLL(str(library))
    (visible,) = read_binary(library, (VISIBLE,)).functions[VISIBLE]
    address = ctypes.cast(loaded[visible.symbol], ctypes.c_void_p).value
    assert address is not None
    in_memory = ctypes.string_at(address, 4)
    blob = library.read_bytes()
    assert blob[visible.file_offset : visible.file_offset + 4] == in_memory
    assert loaded[visible.symbol](3) == 5


def test_offsets_are_where_objdump_disassembles(library: Path) -> None:
    """The code's bytes, as another reader of the file prints them."""
    blob = library.read_bytes()
    for functions in read_binary(library, WANTED).functions.values():
        for function in functions:
            printed = subprocess.run(
                [
                    "objdump",
                    "-d",
                    f"--start-address={function.address:#x}",
                    f"--stop-address={function.address + 4:#x}",
                    library,
                ],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout
            lines = re.findall(r"^ +[0-9a-f]+:\t((?:[0-9a-f]{2} )+)", printed, re.MULTILINE)
            code = bytes.fromhex("".join(lines))
            assert code
            assert blob[function.file_offset : function.file_offset + len(code)] == code


def test_outlined_parts_are_not_the_function(library: Path, symbols: dict[str, int]) -> None:
    assert "_ZN5cvmfs6halvedEi.cold" in symbols  # else this proves nothing
    (halved,) = read_binary(library, (HALVED,)).functions[HALVED]
    assert halved.symbol == "_ZN5cvmfs6halvedEi"


@pytest.mark.parametrize("suffix", ["isra.0", "constprop.0", "part.0"])
def test_clones_are_not_the_function(directory: Path, suffix: str) -> None:
    clone = f"_ZN1a1gEi.{suffix}"
    found = read_binary(assembled(directory, "_ZN1a1fEi", clone), ("a::f", "a::g"))
    assert set(found.functions) == {"a::f"}
    assert found.clones == {"a::g": (clone,)}


@pytest.mark.parametrize(
    "suffix", ["lto_priv.0", "lto_priv.0.lto_priv.1", "llvm.12345", "__uniq.77", "localalias"]
)
def test_a_function_that_was_renamed_is_still_the_function(directory: Path, suffix: str) -> None:
    found = read_binary(assembled(directory, f"_ZN1a1gEi.{suffix}"), ("a::g",))
    assert [each.symbol for each in found.functions["a::g"]] == [f"_ZN1a1gEi.{suffix}"]
    assert found.clones == {}


def test_parts_moved_away_are_not_even_clones(directory: Path) -> None:
    suffixed = ("_ZN1a1gEi.cold", "_ZN1a1gEi.part.0.cold", "_ZN1a1gEi.constprop.0.cold.1")
    assert read_binary(assembled(directory, *suffixed), ("a::g",)).clones == {}


def test_compilers_own_clones(directory: Path) -> None:
    """What a compiler makes of a function of which nobody takes the address."""
    made = compiled(directory, "clones", CLONED, "-O2", "-fipa-cp-clone")
    printed = subprocess.run(["nm", made], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert re.search(r" t _ZN1aL6clonedEii\.(constprop|isra)\.0", printed)  # else nothing is proven
    found = read_binary(made, ("a::cloned",))
    assert found.functions == {}
    (clone,) = found.clones["a::cloned"]
    assert clone.startswith("_ZN1aL6clonedEii.")


def test_a_name_that_ends_another_is_found(directory: Path) -> None:
    """Linkers keep a name that ends another within it: the table of names is no list."""
    made = assembled(directory, "_GLOBAL__sub_I__ZN1a1fEi", "_ZN1a1fEi")
    blob = made.read_bytes()
    assert blob.count(b"_ZN1a1fEi\0") == 1  # else nothing is proven
    assert set(read_binary(made, ("a::f",)).functions) == {"a::f"}


def assembled(directory: Path, *symbols: str) -> Path:
    """A library whose functions bear these names."""
    source, made = directory / "names.s", directory / "names.so"
    lines = [f'"{name}": ret; .type "{name}", @function' for name in symbols]
    source.write_text("\n".join(lines) + "\n")
    subprocess.run(["gcc", "-shared", "-nostdlib", "-Wl,-O2", "-o", made, source], check=True)
    return made


def compiled(directory: Path, name: str, source: str, *flags: str) -> Path:
    """A library of a source in C++."""
    text, made = directory / f"{name}.cc", directory / f"{name}.so"
    text.write_text(source)
    subprocess.run(["g++", "-shared", "-fPIC", *flags, "-o", made, text], check=True)
    return made


def test_overloads_are_all_of_one_name(library: Path) -> None:
    both = read_binary(library, ("cvmfs::both",)).functions["cvmfs::both"]
    assert sorted(each.symbol for each in both) == ["_ZN5cvmfs4bothEi", "_ZN5cvmfs4bothEl"]


def test_what_is_no_plain_function_is_not_found(library: Path) -> None:
    assert read_binary(library, ("cvmfs::data", "cvmfs::typed", "cvmfs")).functions == {}


def test_a_stripped_library_tells_only_what_it_exports(stripped: Path) -> None:
    found = read_binary(stripped, WANTED)
    assert found.source == ".dynsym"
    assert set(found.functions) == {VISIBLE}
    assert read_binary(stripped, (LOCAL,)) == Binary("c0ffee0123", {}, "none")


def test_exported_functions_by_their_own_names(stripped: Path, library: Path) -> None:
    found = exported_functions(stripped, lambda name: name in ("exported", "call_local", "absent"))
    (function,) = found.functions["exported"]
    assert list(found.functions) == ["exported"]  # the other is hidden
    assert (function.symbol, function.source, found.source) == ("exported", ".dynsym", ".dynsym")
    assert found.build_id == "c0ffee0123"
    printed = subprocess.check_output(["nm", "-D", library], text=True)
    assert f"{function.address:016x} T exported" in printed


def test_the_build_id(library: Path, stripped: Path, directory: Path) -> None:
    assert read_binary(library, ()).build_id == "c0ffee0123"
    assert read_binary(stripped, ()).build_id == "c0ffee0123"
    without = directory / "without.so"
    subprocess.run(["objcopy", "-R", ".note.gnu.build-id", library, without], check=True)
    assert read_binary(without, ()).build_id is None
    assert set(read_binary(without, (LOCAL,)).functions) == {LOCAL}


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF", b"INPUT(libother.so)\n" * 9, b"\x7fELF\x01\x01" + bytes(99)]
)
def test_what_is_not_elf(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "library.so"
    path.write_bytes(content)
    with pytest.raises(NotElf):
        read_binary(path, WANTED)


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "library.so"
    os.mkfifo(path)
    with pytest.raises(NotElf, match="not a regular file"):
        read_binary(path, WANTED)


def test_a_file_that_is_cut_off_while_it_is_read(
    stripped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mapped, it would be the reader's death by SIGBUS."""
    path, pread, cut = tmp_path / "library.so", os.pread, list[int]()
    shutil.copy(stripped, path)

    def cut_off_and_read(file: int, size: int, offset: int) -> bytes:
        if offset > 4096:
            os.truncate(path, 4096)
            cut.append(offset)
        return pread(file, size, offset)

    monkeypatch.setattr(os, "pread", cut_off_and_read)
    with pytest.raises(NotElf, match="truncated while it was read"):
        read_binary(path, WANTED)
    assert cut


def test_a_table_that_says_it_is_huge_is_not_read(library: Path, tmp_path: Path) -> None:
    path, whole = tmp_path / "library.so", bytearray(library.read_bytes())
    (sections, _, count) = struct.unpack_from("<Q10xHH", whole, 40)
    for at in range(sections, sections + 64 * count, 64):
        struct.pack_into("<Q", whole, at + 32, 1 << 38)
    path.write_bytes(whole)
    os.truncate(path, 1 << 39)  # which takes no room
    with pytest.raises(NotElf, match="too large"):
        read_binary(path, WANTED)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_binary(tmp_path / "absent", WANTED)


def test_a_truncated_file_is_not_elf(stripped: Path, tmp_path: Path) -> None:
    """The table of sections stands at the end."""
    whole, path = stripped.read_bytes(), tmp_path / "library.so"
    shutil.copy(stripped, path)
    sections, size, count = struct.unpack_from("<Q10xHH", whole, 40)
    assert len(whole) == sections + size * count
    for length in range(len(whole) - 1, -1, -1):
        with path.open("r+b") as file:
            file.truncate(length)
        with pytest.raises(NotElf):
            read_binary(path, WANTED)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_a_damaged_file_raises_only_the_error_that_says_so(
    data: st.DataObject, library: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    damaged = bytearray(library.read_bytes())
    sections = int.from_bytes(damaged[40:48], "little")
    places = st.one_of(st.integers(0, 63), st.integers(sections, len(damaged) - 1))
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(places)] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "library.so"
    path.write_bytes(damaged)
    try:
        read_binary(path, WANTED)
    except NotElf:
        return


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        (b"_ZN5cvmfsL10cvmfs_readEP8fuse_reqmmlP14fuse_file_info", "cvmfs::cvmfs_read"),
        (b"_ZN8download15DownloadManager5FetchEPNS_7JobInfoE", "download::DownloadManager::Fetch"),
        (b"_ZNK1a1b1cEv", "a::b::c"),
        (b"_ZNO1a1bEv", "a::b"),
        (b"_ZN5cvmfs7Fetcher5FetchERKN12CacheManager13LabeledObjectERKSs", "cvmfs::Fetcher::Fetch"),
        (b"_ZN5cvmfs12_GLOBAL__N_110cvmfs_readEP8fuse_req", "cvmfs::cvmfs_read"),
        (b"_ZN12_GLOBAL__N_11fEv", "f"),
        (b"_ZN1a4nameB5cxx11Ev", "a::name"),
        (b"_ZN1aB3abi1bB3onetB5cxx11Ev", None),  # a tag that is none
        (b"_ZN1aB3abi1bB3oneB5cxx11Ev", "a::b"),
        (b"_ZN1aL1gEi.isra.0", "a::g"),
        (b"_Z4mainv", "main"),
        (b"_ZL4nameB5cxx11v", "name"),
        (b"_Z5typedIiEvT_", None),  # a template
        (b"_ZZN1a1fEvE1x", None),  # a variable of a function
        (b"_ZTVN1a1bE", None),  # a table of virtual functions
        (b"_Z", None),
        (b"_Z99a", None),
        (b"_ZN1a1bB", None),
        (b"_ZN12_GLOBAL__N_1E", None),
        (b"main", None),
        (b"_ZN1aC1Ev", None),  # a constructor
        (b"_ZN1aplERKS_", None),  # an operator
        (b"_ZN1a1bIiE1cEv", None),  # of a template
        (b"_ZN1a", None),
        (b"_ZN99a", None),
        (b"_ZN", None),
        (b"", None),
    ],
)
def test_names_by_the_itanium_abi(symbol: bytes, name: str | None) -> None:
    assert qualified_name(symbol) == name
