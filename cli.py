"""The command line: thin commands over the rooms, and the one place where errors are caught.

Exit codes: the traced command's own; a death by signal is repeated; 125 cvmprof failed before
starting it, 126 not executable, 127 not found; 123 with ``--strict`` when the command succeeded but
events were lost.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import re
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from . import __version__
from .errors import CvmprofError, EventsLost
from .probes.catalog import BACKENDS
from .profiler.run.directory import page_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .profiler.run.opened import Run
    from .profiler.session.session import Recorded
    from .reports.material import RunLike

_PR_SET_DUMPABLE = 4  # prctl.h
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
_UNITS_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def time_s(text: str) -> float:
    """Seconds of a time with its unit (20ms, 1.5s). Raises BadParameter."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ns|us|ms|s|min)", text)
    if not match:
        fact = f"{text!r} is not a time: give a number with its unit, such as 20ms or 1.5s"
        raise click.BadParameter(fact)
    return float(match[1]) * _UNITS_S[match[2]]


def size_bytes(text: str) -> int:
    """Bytes of a size (256MB, 8MiB). Raises BadParameter."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", text.lower())
    if not match:
        raise click.BadParameter(f"{text!r} is not a size: give bytes, such as 256MB or 8MiB")
    return int(float(match[1]) * _UNITS_BYTES[match[2] or ""])


def place(text: str) -> Path:
    """The path to write to. Raises BadParameter where it names nothing."""
    if not text:
        raise click.BadParameter("an empty name is no place to write to")
    return Path(text)


_run_argument = click.argument("run", type=click.Path(path_type=Path))


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=False)
@click.version_option(__version__, prog_name="cvmprof")
@click.option("--debug", is_flag=True, help="Show tracebacks and the compiler's messages.")
def cli(debug: bool) -> None:
    """Where did the time go between the model file and the GPU?

    Watches a command that reads its model from CernVM-FS, down to the chunks that the client
    fetched for it, and draws what it saw.
    """


@cli.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "-o",
    "--output",
    type=place,
    metavar="PATH",
    help="The run directory to make (default: COMMAND-DATE-TIME.cvmprof).",
)
@click.option("--no-report", is_flag=True, help="Leave the tables; write no page.")
@click.option(
    "--backend",
    type=click.Choice(list(BACKENDS)),
    default="auto",
    show_default=True,
    help="How to watch the kernel.",
)
@click.option("--every-read", is_flag=True, help="Record every read; sum up no page-cache hits.")
@click.option("--all-files", is_flag=True, help="Record reads of all file systems, not only FUSE.")
@click.option("--strict", is_flag=True, help="Exit with 123 when events were lost.")
@click.option(
    "--stall-threshold",
    type=time_s,
    metavar="TIME",
    default="1ms",
    show_default=True,
    help="The shortest idle gap of the device that counts as a stall.",
)
@click.option(
    "--duration", type=time_s, metavar="TIME", help="Stop recording then; the command goes on."
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def trace(
    context: click.Context,
    /,
    output: Path | None,
    no_report: bool,
    command: tuple[str, ...],
    **options: Any,
) -> None:
    """Run COMMAND as the user who calls, and record what it waited for.

    sudo cvmprof trace -- python infer.py

    Leaves the run and, beside it, its page. The exit code is the command's. Ctrl-C goes to the
    command.
    """
    if not command:
        raise CvmprofError("no command was given", "sudo cvmprof trace -- python infer.py")
    from .profiler.session.session import TraceOptions, record

    chosen = TraceOptions(
        run=output or _default_run(command[0]),
        every_read=options["every_read"],
        all_files=options["all_files"],
        backend=options["backend"],
        strict=options["strict"],
        stall_threshold_ns=round(options["stall_threshold"] * 1e9),
        duration_s=options["duration"],
        debug=_wants_debug(context),
    )
    recorded = record(list(command), chosen, __version__, _finisher)
    try:
        _finish(recorded, no_report)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  the exit code is the command's
        _tell(_explained(error, recorded.run), error, chosen.debug)
    _exit_as(recorded, chosen.strict)


@cli.command()
@_run_argument
@click.option("-o", "--output", type=place, metavar="PATH", help="The page (default: beside RUN).")
def report(run: Path, output: Path | None) -> None:
    """Write the page of a RUN; a run that was cut off is recovered first."""
    from .profiler.finalise import recover_run

    _become_the_user()
    way_out = "name with -o a place that exists, has room, and that you may write to"
    click.echo(_write_page(recover_run(run), output or page_of(run), way_out))


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="The same, for programs.")
def doctor(as_json: bool) -> None:
    """Tell whether this machine can be recorded on, what is observed by what, and what is not."""
    from .probes.diagnosis import diagnose
    from .probes.kernel import diagnosed_kernel
    from .profiler.record.fentry_check import tried
    from .profiler.session.launch import found_bcc
    from .reports.terminal.doctor import render_doctor

    diagnosis = diagnose(tried(diagnosed_kernel()), bcc=found_bcc())
    if as_json:
        click.echo(json.dumps(diagnosis.as_json()))
    else:
        click.echo(render_doctor(diagnosis), nl=False)


@cli.command()
@_run_argument
@click.option("--json", "as_json", is_flag=True, help="Every number, for programs.")
def summary(run: Path, as_json: bool) -> None:
    """Tell in the terminal where the time of a RUN went."""
    from .profiler.finalise import recover_run
    from .reports.material import gather
    from .reports.numbers.statistics import compute
    from .reports.terminal.summary import render_summary, summary_json

    _become_the_user()
    statistics = compute(gather(recover_run(run)))
    if as_json:
        click.echo(summary_json(statistics))
    else:
        click.echo(render_summary(statistics, _terminal_width(), sys.stdout.isatty()), nl=False)


@cli.command("import")
@click.argument("log", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=place,
    metavar="PATH",
    help="The run directory to make (default: LOG.cvmprof, here).",
)
@click.option(
    "--timezone",
    metavar="NAME",
    help="Of a debug log whose times are not in UTC: Europe/Zurich, say.",
)
@click.option("--no-report", is_flag=True, help="Leave the tables; write no page.")
def import_command(log: Path, output: Path | None, timezone: str | None, no_report: bool) -> None:
    """Make a run of a client's debug log or trace file (CVMFS_DEBUGLOG, CVMFS_TRACEFILE).

    A log tells what was called and fetched, and in which order; it cannot tell how long that took.
    """
    from .profiler.logs.imports import import_log

    _become_the_user()
    run = import_log(log, output or Path(f"{log.name}.cvmprof"), __version__, timezone)
    click.echo(run.path)
    if not no_report:
        click.echo(_write_page(run, page_of(run.path), "write it elsewhere: cvmprof report -o"))


@cli.command("run")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--runs", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--threads", type=click.IntRange(min=0), default=0, help="0: ONNX Runtime's choice.")
@click.option(
    "--provider", type=click.Choice(["cpu", "cuda", "auto"]), default="cpu", show_default=True
)
def run_command(model: Path, runs: int, threads: int, provider: str) -> None:
    """Load an ONNX MODEL and run it, with phases marked: something to trace."""
    onnx = _runner("onnx", "cpu")
    done = onnx.run_model(model, runs=runs, threads=threads, provider=provider)
    click.echo(f"load: {done.load_ns / 1e9:.3f} s ({done.provider})")
    for number, took_ns in enumerate(done.run_ns, 1):
        click.echo(f"run {number}: {took_ns / 1e9:.3f} s")


@cli.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--drop-all-caches", is_flag=True, help="Also drop the whole machine's page cache.")
def cold(paths: tuple[Path, ...], drop_all_caches: bool) -> None:
    """Empty the client's cache and drop the pages of the files at PATHS (mount points or files)."""
    from .runners.lab.cold import cold as make_cold

    result = make_cold(paths, drop_all=drop_all_caches)
    for client in result.clients:
        objects = "" if client.objects is None else f" ({client.objects} objects)"
        click.echo(f"emptied the client's cache of {client.mountpoint}{objects}")
    click.echo(f"dropped the pages of {len(result.files)} files")


@cli.group(no_args_is_help=False)
def lab() -> None:
    """A repository in the CVMFS format, its server and its client: to try cvmprof without CERN."""


_lab_root = click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=Path(".lab"),
    show_default=True,
    help="Where the lab keeps its files.",
)


@lab.command("model")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--size", type=size_bytes, metavar="SIZE", default="256MB", show_default=True)
@click.option("--entropy", type=click.FloatRange(0, 1), default=1.0, help="Below 1, it compresses.")
@click.option("--seed", type=int, default=0, show_default=True)
def lab_model(directory: Path, size: int, entropy: float, seed: int) -> None:
    """Build a transformer in ONNX, its weights in a file of their own, to publish and to load."""
    model = _runner("model", "cpu").build_model(directory, size, seed, entropy=entropy)
    click.echo(model)


@lab.command("publish")
@_lab_root
@click.argument("source", type=click.Path(exists=False, path_type=Path))
@click.option(
    "--chunk-size", type=size_bytes, metavar="SIZE", help="Cut files into pieces of this size."
)
@click.option("--no-chunks", is_flag=True, help="Keep every file one object.")
def lab_publish(root: Path, source: Path, chunk_size: int | None, no_chunks: bool) -> None:
    """Make the repository's content equal to the directory SOURCE."""
    lab_module, publisher = _runner("lab.lab", "lab"), _runner("lab.publisher", "lab")
    cutting = publisher.Cutting(None) if no_chunks else None
    if chunk_size is not None and not no_chunks:
        cutting = publisher.Cutting(chunk_size, chunk_size)
    done = lab_module.publish(_lab(root), source, cutting)
    click.echo(f"published {done.files} files in {done.chunks} chunks, revision {done.revision}")


@lab.command("serve")
@_lab_root
@click.option("--port", type=click.IntRange(0, 65535), default=8123, show_default=True)
@click.option(
    "--latency", type=time_s, metavar="TIME", default="0ms", help="Before each object's first byte."
)
@click.option(
    "--bandwidth", type=size_bytes, metavar="SIZE", help="Bytes per second of each connection."
)
@click.option(
    "--background", is_flag=True, help="Return when it serves; lab unmount --stop ends it."
)
def lab_serve(
    root: Path, port: int, latency: float, bandwidth: int | None, background: bool
) -> None:
    """Serve the repository on 127.0.0.1, as slowly as ordered."""
    lab_module, shaping = _runner("lab.lab", "lab"), _runner("lab.shaping", "lab")
    wanted = shaping.Shaping(latency_s=latency, bandwidth_bytes_s=bandwidth)
    if not background:
        sys.exit(lab_module.serve_here(_lab(root), port, wanted))
    click.echo(lab_module.serve(_lab(root), port, wanted).url)


@lab.command("mount")
@_lab_root
@click.argument("mountpoint", required=False, type=click.Path(path_type=Path))
@click.option(
    "--client", type=click.Choice(["auto", "lab", "real"]), default="auto", show_default=True
)
def lab_mount(root: Path, mountpoint: Path | None, client: str) -> None:
    """Mount the repository: with the real cvmfs2 where there is one, else the lab's stand-in."""
    lab_module, mounting = _runner("lab.lab", "lab"), _runner("lab.mounting", "lab")
    click.echo(lab_module.mount(_lab(root), mountpoint, mounting.MountOptions(client=client)))


@lab.command("unmount")
@_lab_root
@click.argument("mountpoint", required=False, type=click.Path(path_type=Path))
@click.option("--stop", is_flag=True, help="Also end the server and all other mounts of this lab.")
@click.option("--force", is_flag=True, help="Also where the mount is busy or its client hangs.")
def lab_unmount(root: Path, mountpoint: Path | None, stop: bool, force: bool) -> None:
    """Unmount the repository."""
    lab_module = _runner("lab.lab", "lab")
    lab_module.unmount(_lab(root), mountpoint, force)
    if stop:
        lab_module.stop(_lab(root), force)


@cli.command()
@click.option(
    "--size",
    type=size_bytes,
    metavar="SIZE",
    default="256MB",
    show_default=True,
    help="Of the model.",
)
@click.option(
    "--latency",
    type=time_s,
    metavar="TIME",
    default="20ms",
    show_default=True,
    help="Of the server.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default=Path("cvmprof-demo"),
    show_default=True,
    help="Where the lab and the runs go.",
)
def demo(size: int, latency: float, directory: Path) -> None:
    """Publish a model in a lab, trace a cold and a warm load of it, and leave two pages."""
    from .commands.demo import run_demo

    run_demo(directory, size, latency)


def main() -> int:
    """Runs the command line; returns the exit code."""
    debug = "--debug" in sys.argv[1:2] or bool(os.environ.get("CVMPROF_DEBUG"))
    try:
        cli.main(standalone_mode=False, prog_name="cvmprof")
        return 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 128 + signal.SIGINT
    except Exception as error:  # noqa: BLE001  no traceback reaches a user unasked
        explained = _explained(error)
        _tell(explained, error, debug)
        return explained.exit_code


def _explained(error: BaseException, run: Path | None = None) -> CvmprofError:
    """What a user can make of an error; with a recorded ``run``, how to finish that."""
    retry = f"cvmprof report {run}" if run else "the same once more with --debug, and report it"
    if isinstance(error, CvmprofError):
        return error
    if isinstance(error, click.ClickException):
        return CvmprofError(error.format_message(), _usage_help(error))
    if isinstance(error, KeyboardInterrupt):
        return CvmprofError("interrupted; the recording is kept", f"finish with: {retry}")
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        way = f"mend that, then: {retry}" if run else "see that it exists, has room and is yours"
        return CvmprofError(f"{place}{error.strerror}", way)
    return CvmprofError(f"this is a mistake in cvmprof: {error!r}", retry)


def _tell(explained: CvmprofError, error: BaseException, debug: bool) -> None:
    """Prints the fact and the way out, a line each; with ``--debug`` the traceback first."""
    if debug:
        traceback.print_exception(error)
    click.echo(f"cvmprof: {_one_line(explained.fact)}", err=True)
    click.echo(f"  try: {_one_line(explained.help_text)}", err=True)


def _one_line(text: str) -> str:
    """Names of files may hold anything: what would break a line or a terminal becomes visible."""
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(shown)


def _usage_help(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context else "cvmprof --help"


def _wants_debug(context: click.Context) -> bool:
    return bool(context.find_root().params.get("debug") or os.environ.get("CVMPROF_DEBUG"))


def _default_run(command: str) -> Path:
    name = re.sub(r"[^A-Za-z0-9._-]", "_", Path(command).name) or "command"
    return Path(f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.cvmprof")


def _finish(recorded: Recorded, no_report: bool) -> None:
    """Turns the spool into tables and, unless told otherwise, a page; says where they are."""
    run = _finisher()(recorded.run)
    if recorded.trouble is not None:
        _tell(recorded.trouble, recorded.trouble, debug=False)
    click.echo(f"cvmprof: run {recorded.run}", err=True)
    if no_report:
        return
    way_out = f"make room for it there, then: cvmprof report {recorded.run}"
    page = _write_page(run, page_of(recorded.run), way_out)
    click.echo(f"cvmprof: page {page}", err=True)


def _finisher() -> Callable[[Path], Run]:
    """What makes tables of a spool: imported while the recorder compiles."""
    from .profiler.finalise import finish

    return finish


def _write_page(run: RunLike, page: Path, way_out: str) -> Path:
    from .reports.page.page import write_page

    try:
        return write_page(run, page)
    except OSError as error:
        fact = f"cannot write the page {page}: {error.strerror}"
        raise CvmprofError(fact, way_out) from error


def _exit_as(recorded: Recorded, strict: bool) -> NoReturn:
    """Ends as the command did: its code, or death by the same signal."""
    if os.WIFSIGNALED(recorded.status):
        _die_of(os.WTERMSIG(recorded.status))
    code = os.waitstatus_to_exitcode(recorded.status)
    if strict and code == 0 and (recorded.losses or recorded.trouble):
        raise EventsLost("events were lost", f"see which: cvmprof summary {recorded.run}")
    sys.exit(code)


def _die_of(number: int) -> NoReturn:
    """Dies of a signal, without a core: the command has left its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    sys.exit(128 + number)  # as process 1 of a container, which signals do not end


def _lab(root: Path) -> Any:
    return _runner("lab.layout", "lab").Lab(root)


def _runner(name: str, extra: str) -> Any:
    """A module of runners; where its extra is not installed, a fact and a way out."""
    try:
        return importlib.import_module(f".runners.{name}", __package__)
    except ImportError as error:
        fact = f"{error.name or name} is not installed"
        raise CvmprofError(fact, f"pip install 'cvmprof[{extra}]'") from None


def _become_the_user() -> None:
    """Under sudo: what is written into a user's run shall be that user's."""
    from .profiler.session.identity import become, invoking_user

    become(invoking_user())


def _terminal_width() -> int:
    return shutil.get_terminal_size((100, 40)).columns
