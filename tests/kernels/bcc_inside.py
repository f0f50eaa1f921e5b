"""What runs under a distribution's own Python and bcc, in its root: DIRECTORY [every].

Compiles and loads every program, each as the kind that it is attached as, and lets a recorder count
reads of this very process. With ``every``, attaches instead to all that the kernel's facts allow,
not only where it is preferred. Leaves in DIRECTORY what came of it, as JSON.

Python 3.9, standard library and bcc only.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from cvmprof.errors import CvmprofError  # noqa: E402
from cvmprof.probes import catalog, events, programs  # noqa: E402
from cvmprof.probes.catalog import AttachPoint, LogicalEvent  # noqa: E402
from cvmprof.probes.kernel import KernelFacts, running_kernel  # noqa: E402
from cvmprof.profiler.record import attach, load, recorder  # noqa: E402
from cvmprof.profiler.record.daemons import installed_libraries  # noqa: E402
from cvmprof.profiler.record.names import JOURNAL, spool_files  # noqa: E402
from cvmprof.tests.profiler.record.program_kinds import program_kinds  # noqa: E402
from cvmprof.tests.profiler.record.uprobe_stack import too_much_stack  # noqa: E402

READS = 101
_OPTIONS = programs.Options(gpu_calls=True)
#: why a point is not there: the kernel or the client lacks it, or the kernel takes no fentry at all
_LACKS = re.compile("this kernel lacks|no symbol |.*does not load: Operation not permitted$")


def main(directory: Path, every: bool) -> None:
    """Does it all, and prints the result."""
    result: dict[str, Any] = {"python": platform.python_version()}
    try:
        facts, bcc = running_kernel(), load.import_bcc()
        result["bcc"] = bcc.__version__
        if every:
            result.update(_every(bcc, facts))
        else:
            result.update(_loaded(bcc, facts))
            result.update(_recorded(directory))
    except CvmprofError as error:
        result["error"] = error.fact
    (directory / "result.json").write_text(json.dumps(result))
    os._exit(0)  # as the recorder does: the kernel takes off what was attached


def _loaded(bcc: Any, facts: KernelFacts) -> dict[str, Any]:
    """Loads what the recorder below will not: the programs for kernels without uprobe_multi."""
    left = {name: value for name, value in facts.enumerators.items() if name != "UPROBE_MULTI_TYPE"}
    bpf, took_s = _compiled(bcc, replace(facts, enumerators=left))
    kinds = program_kinds(bcc)
    wanted = [(point.program, kinds[point.family]) for point in catalog.every_point()]
    wanted += [(program, bcc.BPF.KPROBE) for program in _uprobe_programs()]
    refused = {name: reason for name, kind in wanted if (reason := _load(bpf, name, kind))}
    return {
        "compile_s": took_s,
        "programs": len(bpf.funcs),
        "refused": refused,
        "stack": too_much_stack(bcc, bpf, _uprobe_programs(), 0),
    }


def _every(bcc: Any, facts: KernelFacts) -> dict[str, Any]:
    """Attaches every point that the facts allow, and the functions of installed clients."""
    bpf, took_s = _compiled(bcc, facts)
    attacher = attach.Attacher(bcc, bpf, facts)
    points = [point for point in catalog.every_point() if _is_there(point, facts)]
    refused = {
        f"{point.family} {point.target}": reason
        for point in points
        if (reason := attacher.attach_points((point,)))
    }
    if catalog.uprobe_family(facts) == catalog.UPROBE:
        loaded = ((name, _load(bpf, name, bcc.BPF.KPROBE)) for name in _uprobe_programs())
        refused.update({name: reason for name, reason in loaded if reason})
    probes = [row for path in installed_libraries() for row in attacher.attach_library(path)]
    refused.update(
        {row.target: row.reason for row in probes if row.reason and not _LACKS.match(row.reason)}
    )
    return {
        "compile_s": took_s,
        "programs": len(bpf.funcs),
        "refused": refused,
        "points": len(points) - len(refused),
        "functions": sum(not row.reason for row in probes),
    }


def _recorded(directory: Path) -> dict[str, Any]:
    """A recorder with every option, watching this process read: what it counted and could not."""
    names = (JOURNAL, *spool_files())
    flags = os.O_CREAT | os.O_RDWR | os.O_APPEND
    files = {name: os.open(directory / name, flags) for name in names}
    began = time.monotonic()
    options = {"every_read": True, "all_files": True, "gpu": "api"}
    recording = recorder.Recorder(options, files)
    took_s = time.monotonic() - began
    recording.trace(os.getpid())
    read = os.open(__file__, os.O_RDONLY)
    for index in range(READS):
        os.pread(read, index + 1, 0)
    inode = os.fstat(read).st_ino
    ended = recording.stop(was_asked=True)
    journal = [json.loads(line) for line in (directory / JOURNAL).read_text().splitlines()]
    probes = [row for line in journal if line["kind"] == "probes" for row in line["rows"]]
    ours = [row for row in probes if not row["target"].startswith("/proc/")]
    functions = sum(row["event"] == "daemon call" and not row["reason"] for row in ours)
    return {
        "start_s": round(took_s, 1),
        "losses": ended["losses"],
        "functions": functions,
        "reads": _reads(directory / f"{events.OPERATION.name}.ring", inode),
        "points": sum(not row["reason"] for row in ours) - functions,
        # what the kernel or the library lacks has no attach point that could be refused
        "unobserved": [row for row in ours if row["reason"] and not _LACKS.match(row["reason"])],
    }


def _reads(spool: Path, inode: int) -> list[int]:
    """How much each read of a file asked for, in the order of their ends."""
    blob, layout, kind = spool.read_bytes(), events.OPERATION, events.OPERATION_KINDS.index("read")
    found = list[int]()
    for at in range(events.RING_HEADER_BYTES, len(blob), layout.stride):
        record = blob[at : at + layout.size]
        if record[layout.offset("kind")] == kind and _u64(record, "ino") == inode:
            found.append(_u64(record, "size"))
    return found


def _u64(record: bytes, name: str) -> int:
    at = events.OPERATION.offset(name)
    return int.from_bytes(record[at : at + 8], "little")


def _compiled(bcc: Any, facts: KernelFacts) -> tuple[Any, float]:
    began = time.monotonic()
    bpf = load.compile_programs(bcc, facts, _OPTIONS)
    return bpf, round(time.monotonic() - began, 1)


def _is_there(point: AttachPoint, facts: KernelFacts) -> bool:
    alone = LogicalEvent("one point", "", "", ((point,),))
    return isinstance(catalog.resolve(alone, facts), catalog.Attachment)


def _uprobe_programs() -> list[str]:
    names = [name for each in catalog.DAEMON_FUNCTIONS for name in (each.entry, each.exit)]
    names += [each.entry for each in catalog.DRIVER_FUNCTIONS]
    names += [each.exit for each in catalog.DRIVER_FUNCTIONS if not each.counted]
    return [*programs.tail_called(_OPTIONS), *dict.fromkeys(names)]


def _load(bpf: Any, program: str, kind: int) -> str | None:
    try:
        bpf.load_func(program.encode(), kind)
    except Exception as error:  # noqa: BLE001  bcc raises bare Exception
        return str(error)
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]), "every" in sys.argv[2:])
