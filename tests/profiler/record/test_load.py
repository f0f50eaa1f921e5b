"""Compiling and loading: every program, for every option, past this kernel's verifier."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cvmprof.errors import CvmprofError, MissingDependency, NotPermitted
from cvmprof.probes import catalog
from cvmprof.probes.compiler import Compiler
from cvmprof.probes.conditions import Conditions
from cvmprof.probes.kernel import KernelFacts, running_kernel
from cvmprof.probes.programs import Options, tail_called
from cvmprof.profiler.record import load, prog_load

from .program_kinds import program_kinds
from .uprobe_stack import too_much_stack


@pytest.fixture(scope="module")
def facts() -> KernelFacts:
    return running_kernel()


def without_uprobe_multi(facts: KernelFacts) -> KernelFacts:
    left = {name: value for name, value in facts.enumerators.items() if name != "UPROBE_MULTI_TYPE"}
    return replace(facts, enumerators=left)


def attached_to_the_kernel() -> list[tuple[str, str]]:
    """Programs with their families."""
    return sorted({(point.program, point.family) for point in catalog.every_point()})


@pytest.mark.parametrize("older", [False, True], ids=["uprobe_multi", "uprobe"])
@pytest.mark.parametrize("all_files", [False, True], ids=["", "all_files"])
@pytest.mark.parametrize("every_read", [False, True], ids=["", "every_read"])
def test_every_program_passes_the_verifier_and_those_at_uprobes_use_little_stack(
    bcc: Any, facts: KernelFacts, every_read: bool, all_files: bool, older: bool
) -> None:
    chosen = without_uprobe_multi(facts) if older else facts
    wanted = Options(every_read, all_files, gpu_calls=True)
    bpf = load.compile_programs(bcc, chosen, wanted)
    kinds = program_kinds(bcc)
    for program, family in attached_to_the_kernel():
        assert bpf.load_func(program.encode(), kinds[family]).fd >= 0
    names = list(tail_called(wanted))
    if older:
        names += [name for each in catalog.DAEMON_FUNCTIONS for name in (each.entry, each.exit)]
        names += [each.entry for each in catalog.DRIVER_FUNCTIONS]
        names += [each.exit for each in catalog.DRIVER_FUNCTIONS if not each.counted]
    attach_type = 0 if older else facts.enumerators["UPROBE_MULTI_TYPE"]
    purpose = prog_load.Purpose(bcc.BPF.KPROBE, attach_type)
    assert all(prog_load.load_program(bcc, bpf, program, purpose) >= 0 for program in names)
    assert too_much_stack(bcc, bpf, names, attach_type) == {}
    bpf.cleanup()


def test_a_source_that_does_not_compile_raises_clangs_error(
    bcc: Any,
    facts: KernelFacts,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = {name: at for name, at in facts.offsets.items() if name != "INODE_I_SB"}
    monkeypatch.setattr(load, "check_kernel", str)  # as if it had found nothing amiss
    monkeypatch.delenv("CVMPROF_DEBUG", raising=False)
    with pytest.raises(CvmprofError, match=r"do not load on .*OFFSET_INODE_I_SB") as error:
        load.compile_programs(bcc, replace(facts, offsets=left), Options())
    assert "--debug" in error.value.help_text
    assert capfd.readouterr().err == ""
    monkeypatch.setenv("CVMPROF_DEBUG", "1")
    with pytest.raises(CvmprofError):
        load.compile_programs(bcc, replace(facts, offsets=left), Options())
    assert "OFFSET_INODE_I_SB" in capfd.readouterr().err


def less(facts: KernelFacts, *prefixes: str) -> KernelFacts:
    left = {name: at for name, at in facts.offsets.items() if not name.startswith(prefixes)}
    return replace(facts, offsets=left)


def test_an_unsupported_kernel_is_refused_before_compiling(facts: KernelFacts) -> None:
    load.check_kernel(facts)
    for lacking, said in (
        (less(facts, "FUSE_"), "has no type information about FUSE: it is a module, or absent"),
        (less(facts, "FUSE_REQ_FM", "INODE_I_SB"), "that are read: inode.i_sb, fuse_req.fm"),
        (replace(facts, machine="pdp11"), "is pdp11, and cvmprof records on x86_64 or .* only"),
    ):
        with pytest.raises(CvmprofError, match=f"{said}$"):
            load.compile_programs(None, lacking, Options())  # type: ignore[arg-type]


def test_bcc_compiles_with_our_headers(bcc: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BCC_KERNEL_SOURCE")
    assert load.import_bcc() is bcc
    headers = Path(os.environ["BCC_KERNEL_SOURCE"])
    assert (headers / "include/linux/kconfig.h").is_file()


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "has no bcc"),
        ({"bcc/note.txt": ""}, "has no bcc"),
        ({"bcc/__init__.py": "raise ImportError('no libbcc.so')"}, "no libbcc.so"),
        ({"bcc/__init__.py": "def checksum(): pass"}, "is not bcc but PyPI's unrelated"),
        ({"bcc/__init__.py": "BPF = 1; __version__ = '0.17.0'"}, "is 0.17.0, which is too old"),
    ],
)
def test_what_is_not_bcc_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], said: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    others = [path for path in sys.path if not (Path(path) / "bcc").exists()]
    for module in [name for name in sys.modules if name == "bcc" or name.startswith("bcc.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *others])
    with pytest.raises(MissingDependency, match=said):
        load.import_bcc()
    sys.modules.pop("bcc", None)


@pytest.mark.parametrize("version", ["0.18.0", "0.37.0", "1.0", "0.30.0-8a6a7dab", "unknown"])
def test_any_later_bcc_and_one_that_does_not_say_will_do(
    monkeypatch: pytest.MonkeyPatch, bcc: Any, version: str
) -> None:
    monkeypatch.setattr(bcc, "__version__", version)
    assert load.import_bcc() is bcc
    assert load.found_bcc() == Compiler(sys.executable, version)


def test_a_bcc_that_is_too_old_is_refused_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, bcc: Any
) -> None:
    monkeypatch.setattr(bcc, "__version__", "0.9.1")
    found = load.found_bcc()
    assert found.version is None
    assert found.refusal == f"the bcc of {sys.executable} is 0.9.1, which is too old"
    assert "bcc 0.18 or newer" in str(found.way_out)


def test_without_the_capability_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    powerless = Conditions(is_root=False, missing_capabilities=("CAP_SYS_ADMIN",))
    monkeypatch.setattr(load, "of_this_process", lambda: powerless)
    with pytest.raises(NotPermitted, match="recording needs root") as refused:
        load.check_permission()
    assert refused.value.help_text == "sudo cvmprof trace -- COMMAND"
    monkeypatch.setattr(load, "of_this_process", Conditions)
    load.check_permission()
