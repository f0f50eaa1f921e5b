"""Every bcc of the matrix compiles and loads the programs, and reads are counted with it, on the
kernel that runs here; the oldest and the newest attach to all there is on one kernel of the matrix.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvmprof.probes import compiler
from cvmprof.runners.lab.build import LIBRARY, client_program
from cvmprof.tests.profiler.record.uprobe_stack import MOST_STACK

from .bcc_inside import READS
from .guest import run_in_guest
from .images import image_of
from .matrix import BCC_IN_GUEST, BCC_KERNEL, DISTRIBUTIONS, KERNELS, Distribution
from .roots import root_of

_HERE = "this one"
_TIMEOUT_S = 300
_PACKAGE, _MOUNTED_AT = Path(__file__).resolve().parents[2], "/opt/cvmprof"
#: in a mount namespace of its own, where the root is a mount as roots are: ROOT DIRECTORY [every]
_ENTER = f"""
mount --rbind $0 $0
for each in dev proc sys; do mount --rbind /$each $0/$each; done
mkdir -p $0{_MOUNTED_AT}
mount --bind {shlex.quote(str(_PACKAGE))} $0{_MOUNTED_AT}
mount --bind $1 $0/run
root=$0; shift
exec chroot $root /usr/bin/python3 -I -B {_MOUNTED_AT}/tests/kernels/bcc_inside.py /run "$@" \\
    >$root/run/output 2>&1
"""


@dataclass(frozen=True)
class Tried:
    """What came of one bcc on one kernel, as bcc_inside.py left it."""

    kernel: str
    distribution: Distribution
    result: dict[str, Any]

    @property
    def complaints(self) -> tuple[str, ...]:
        """What is not as it must be."""
        result = self.result
        if "error" in result:
            return (str(result["error"]),)
        found = [f"{name}: {reason}" for name, reason in result["refused"].items()]
        used = result.get("stack", {}).items()
        found += [
            f"{name} uses {size} bytes of stack, more than {MOST_STACK}" for name, size in used
        ]
        found += [f"{row['target']}: {row['reason']}" for row in result.get("unobserved", ())]
        found += [str(loss) for loss in result.get("losses", ())]
        if result.get("reads", _SIZES) != _SIZES:
            found.append(f"{READS} reads were made, seen: {result['reads']}")
        if not result["functions"]:
            found.append("no function of the client is probed")
        return tuple(found)


_SIZES = list(range(1, READS + 1))


def check_bcc_versions(where: Path) -> list[str]:
    """Prints a row for each bcc and kernel; what is not as it must be.

    What they leave is in directories that are made in ``where``, which guests must see.
    """
    for distribution in DISTRIBUTIONS:
        library = client_program().with_name(LIBRARY)
        shutil.copy(library, root_of(distribution) / "usr/lib" / LIBRARY)
    columns = ("compile_s", "programs", "points", "functions", "reads")
    print(f"{'kernel':24}{'bcc of':14}{'':16}" + "".join(f"{name:>10}" for name in columns))
    tried = _here(where) + _in_guest(where / "bcc-guest")
    oldest = min(filter(None, map(_numbers, tried)))
    failed = [
        f"{each.kernel}, bcc of {each.distribution.name}: {complaint}"
        for each in tried
        for complaint in each.complaints
    ]
    if oldest != compiler.OLDEST:
        failed.append(f"the oldest supported bcc is {compiler.OLDEST}, the oldest tried {oldest}")
    return failed


def _here(where: Path) -> list[Tried]:
    return [
        _printed(Tried(_HERE, each, _tried_here(each, where / f"bcc-{index}")))
        for index, each in enumerate(DISTRIBUTIONS)
    ]


def _tried_here(distribution: Distribution, directory: Path) -> dict[str, Any]:
    directory.mkdir()
    command = [*_entering(distribution), str(directory)]
    with suppress(subprocess.TimeoutExpired):  # then it has left nothing
        subprocess.run(command, timeout=_TIMEOUT_S, check=False)
    return _left_in(directory)


def _in_guest(shared: Path) -> list[Tried]:
    image = image_of(next(kernel for kernel in KERNELS if kernel.name == BCC_KERNEL))
    script = "".join(
        f"mkdir $SHARED/{index}\n{shlex.join(_entering(each))} $SHARED/{index} every\n"
        for index, each in enumerate(BCC_IN_GUEST)
    )
    with suppress(subprocess.TimeoutExpired):
        run_in_guest(image, ["sh", "-c", script], shared)
    return [
        _printed(Tried(image.release, each, _left_in(shared / str(index))))
        for index, each in enumerate(BCC_IN_GUEST)
    ]


def _entering(distribution: Distribution) -> list[str]:
    return ["nice", "unshare", "--mount", "sh", "-e", "-c", _ENTER, str(root_of(distribution))]


def _left_in(directory: Path) -> dict[str, Any]:
    file, output = directory / "result.json", directory / "output"
    if file.exists():
        result: dict[str, Any] = json.loads(file.read_text())
        return result
    return {"error": f"it left nothing; {output.read_text()[-2000:] if output.exists() else ''}"}


def _printed(tried: Tried) -> Tried:
    result = tried.result
    version = f"{result.get('bcc', '?')}, {result.get('python', '?')}"
    counts = [result.get(name, "") for name in ("compile_s", "programs", "points", "functions")]
    line = "".join(f"{count:>10}" for count in (*counts, len(result.get("reads", ())) or ""))
    word = "FAILED" if tried.complaints else "ok"
    print(f"{tried.kernel:24}{tried.distribution.name:14}{version:16}{line}  {word}", flush=True)
    return tried


def _numbers(tried: Tried) -> tuple[int, int] | None:
    return compiler.version_numbers(str(tried.result.get("bcc", "")))
