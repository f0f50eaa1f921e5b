"""The commands: measure on the device, pack what it needs before, join what it brought after."""

from __future__ import annotations

import argparse
import lzma
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from cvmprof.errors import CvmprofError
from cvmprof.tests.gpu.stand_ins import compile_stand_ins

from .bringing import bring
from .carried import PACKED, Carried, unpack
from .mounted import unmount_all
from .rows import Report, read_rows, table
from .site import PACKAGES, SMALL, Site, Sizes, python
from .steps import STEPS, Step

ROOT = Path(__file__).resolve().parents[3]
_TOTAL_S = 480.0
#: kept for the end: unmounting, the table
_RESERVE_S = 10.0


def main(words: list[str]) -> int:
    """Do what the first word says. Returns how many checks were not as expected."""
    parser = argparse.ArgumentParser(prog="on_device", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_measure(commands.add_parser("measure", help="all steps, on the machine with the device"))
    packing = commands.add_parser("pack", help="what that machine lacks, into one file")
    packing.set_defaults(run=_pack)
    joining = commands.add_parser("join", help="the runs that were brought back")
    joining.add_argument("out", type=Path, metavar="OUT", help="the directory of results")
    joining.set_defaults(run=_join)
    options = parser.parse_args(words)
    try:
        return int(options.run(options))
    except CvmprofError as error:
        sys.exit(f"{error.fact}\n{error.help_text}")


def _add_measure(parser: argparse.ArgumentParser) -> None:
    out = os.environ.get("OUT")
    parser.add_argument("--out", type=Path, default=out, required=out is None, help="default: $OUT")
    parser.add_argument("--rehearse", action="store_true", help="small, with the stand-ins")
    parser.add_argument("--only-carried", action="store_true", help="use every carried library")
    parser.add_argument("--without-recorder", action="store_true", help="as if BPF did not work")
    parser.add_argument("--seconds", type=float, default=_TOTAL_S, help="for all steps")
    parser.add_argument("steps", nargs="*", metavar="STEP", help="default: all")
    parser.set_defaults(run=measure)


def _pack(_: argparse.Namespace) -> int:
    from .pack import MOST_BYTES, pack, travelling_bytes

    packed = pack(ROOT)
    travelling = travelling_bytes(ROOT)
    print(f"{packed}: {packed.stat().st_size:,} bytes")
    print(f"with the clone's files {travelling:,} bytes of the {MOST_BYTES:,} that may travel")
    return int(travelling > MOST_BYTES)


def _join(options: argparse.Namespace) -> int:
    from .joined import join

    return join(options.out)


def measure(options: argparse.Namespace) -> int:
    """Run the steps; the table comes at the end, whatever happened to them."""
    options.out.mkdir(parents=True, exist_ok=True)
    ends_s = time.monotonic() + options.seconds - _RESERVE_S
    with tempfile.TemporaryDirectory(prefix="cvmprof-device-", ignore_cleanup_errors=True) as name:
        site = _prepared(options, Path(name))
        try:
            for step in STEPS:
                if not options.steps or step.name in options.steps:
                    _run(step, site, ends_s)
        finally:
            _unmount(site)
    return _show(site)


def _unmount(site: Site) -> None:
    try:
        unmount_all(site)
    except (CvmprofError, OSError) as error:
        print(f"the lab was not stopped: {error}", flush=True)


def _prepared(options: argparse.Namespace, work: Path) -> Site:
    """Unpack what was carried; in a rehearsal, compile the stand-ins and use them from here on."""
    packages = work / PACKAGES
    packages.mkdir()
    (packages / "cvmprof").symlink_to(ROOT)
    paths = [str(packages)]
    carried = _unpacked(work, every_library=options.only_carried)
    if carried is not None:
        paths.append(str(carried.packages))
    if options.rehearse:
        os.environ.update(compile_stand_ins(work / "stand-ins").environment())
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    site = Site(
        options.out.resolve(),
        work,
        framework="driver" if options.rehearse or not _has_torch() else "torch",
        sizes=SMALL if options.rehearse else Sizes(),
        rehearsal=options.rehearse,
        has_recorder=not options.without_recorder,
        carried=carried,
    )
    for file in (site.rows, site.log):
        file.unlink(missing_ok=True)
    site.write(work / "site.json")
    return site


def _unpacked(work: Path, *, every_library: bool) -> Carried | None:
    """What was carried; None if nothing was, or if it cannot be unpacked."""
    if not (ROOT / PACKED).exists():
        print("nothing was carried: only what is installed here can be used", flush=True)
        return None
    try:
        return unpack(ROOT / PACKED, work / "carried", every_library=every_library)
    except (OSError, lzma.LZMAError, tarfile.TarError) as error:
        print(f"what was carried cannot be unpacked: {error}", flush=True)
        return None


def _has_torch() -> bool:
    check = "import torch, safetensors; assert torch.cuda.is_available()"
    return not subprocess.run(
        [python(), "-c", check], check=False, stderr=subprocess.DEVNULL
    ).returncode


def _run(step: Step, site: Site, ends_s: float) -> None:
    """Run a step within its time and what is left of all; its processes end with it."""
    report, began_s = Report(step.name, site.rows), time.monotonic()
    limit_s = min(step.limit_s, ends_s - began_s)
    if limit_s < 1:
        report.check("ended", "yes", "no: there was no time left", good=False)
        return
    command = [python(), "-m", f"{__package__}.steps", step.name, str(site.work / "site.json")]
    with site.log.open("ab") as log:
        trouble = trouble_of(command, limit_s, log)
    if trouble:
        report.check("ended", "yes", f"no: {trouble}", good=False)
    report.fact("took", f"{time.monotonic() - began_s:.1f} s")
    if site.run(step.name).exists():
        bring(site, report, site.run(step.name))


def trouble_of(command: list[str], limit_s: float, log: BinaryIO) -> str | None:
    """Run a command; why it did not end well, if so. Nothing that it started is left."""
    process = subprocess.Popen(
        command, cwd="/", stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        status = process.wait(limit_s)
        return f"by {status}" if status else None
    except subprocess.TimeoutExpired:
        return f"not within {limit_s:.1f} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _show(site: Site) -> int:
    """Print the table, and add it to what the steps wrote."""
    rows = read_rows(site.rows)
    with site.log.open("a") as log:
        log.write(f"\n{table(rows)}")
    print(f"\n{table(rows)}")
    for path in sorted(site.out.iterdir()):
        print(f"{path.stat().st_size:>12,}  {path.name}")
    return sum(row.good is False for row in rows)
