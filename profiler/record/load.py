"""Compiling the BPF programs with the distribution's bcc."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...errors import CvmprofError, MissingDependency, NotPermitted
from ...probes import catalog, compiler, machines, programs
from ...probes.conditions import of_this_process
from ...probes.kernel import KernelFacts

if TYPE_CHECKING:
    from types import ModuleType

_INSTALL = "install the distribution's: python3-bpfcc (Debian, Ubuntu), python3-bcc (RHEL)"
_UPGRADE = f"install bcc {compiler.OLDEST_NAME} or newer: newer distributions have it"


def check_permission() -> None:
    """Raises NotPermitted if this process cannot record: see `Conditions.hindrances`."""
    for lack in of_this_process().hindrances():
        raise NotPermitted(lack.reason, lack.way_out)


def import_bcc() -> ModuleType:
    """The module bcc. Raises MissingDependency if it is absent, too old, or PyPI's unrelated
    package.
    """
    os.environ["BCC_KERNEL_SOURCE"] = str(programs.HEADERS)  # read once, at the import
    try:
        bcc = importlib.import_module("bcc")
    except ImportError as error:
        raise MissingDependency(f"{sys.executable} has no bcc ({error})", _INSTALL) from None
    if bcc.__file__ is None:  # an empty directory of that name
        raise MissingDependency(f"{sys.executable} has no bcc", _INSTALL)
    if not hasattr(bcc, "BPF"):
        fact = f"{bcc.__file__} is not bcc but PyPI's unrelated package of that name"
        raise MissingDependency(fact, f"pip uninstall bcc; then {_INSTALL}")
    if compiler.is_too_old(_version_of(bcc)):
        fact = f"the bcc of {sys.executable} is {_version_of(bcc)}, which is too old"
        raise MissingDependency(fact, _UPGRADE)
    return bcc


def found_bcc() -> compiler.Compiler:
    """The bcc of this Python, or why it cannot be used."""
    try:
        return compiler.Compiler(sys.executable, _version_of(import_bcc()))
    except MissingDependency as error:
        return compiler.Compiler(sys.executable, None, error.fact, error.help_text)


def _version_of(bcc: ModuleType) -> str:
    return str(getattr(bcc, "__version__", "of an unknown version"))


def compile_programs(bcc: ModuleType, facts: KernelFacts, options: programs.Options) -> Any:
    """Compile the programs for this kernel. Returns a bcc.BPF.

    Raises CvmprofError if the kernel lacks what they need, or with clang's error.
    """
    check_kernel(facts)
    # bcc compiles for the machine that this variable names, which the user may have set
    os.environ["ARCH"] = machines.MACHINES[facts.machine].arch
    text, flags = programs.source(facts, options), programs.compile_flags(facts, options)
    with _captured_stderr() as messages:
        try:
            return bcc.BPF(text=text.encode(), cflags=flags)
        except Exception as error:  # noqa: BLE001  bcc raises bare Exception; clang writes to descriptor 2
            output = messages()
            reason = _first_error(output) or str(error)
    if os.environ.get("CVMPROF_DEBUG"):
        sys.stderr.write(output)
    fact = f"the BPF programs do not load on {facts.release}: {reason}"
    raise CvmprofError(fact, "run it again with --debug, and report the output")


def check_kernel(facts: KernelFacts) -> None:
    """Raises CvmprofError if the programs cannot be compiled for this machine or kernel."""
    if facts.machine not in machines.MACHINES:
        supported = " or ".join(machines.MACHINES)
        fact = f"this machine is {facts.machine}, and cvmprof records on {supported} only"
        raise CvmprofError(fact, f"record on {supported}")
    lack = catalog.lack_of_members(facts)
    if lack is not None:
        raise CvmprofError(lack.reason, lack.way_out)


def _first_error(messages: str) -> str:
    lines = messages.splitlines()
    return next((line.strip() for line in lines if "error" in line.lower()), "")


@contextmanager
def _captured_stderr() -> Generator[Any, None, None]:
    """Redirect descriptor 2 to a file. Yields a function that reads what was written to it."""
    with tempfile.TemporaryFile() as file:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)

        def read() -> str:
            file.seek(0)
            return file.read().decode("utf-8", "replace")

        try:
            yield read
        finally:
            os.dup2(kept, 2)
            os.close(kept)
