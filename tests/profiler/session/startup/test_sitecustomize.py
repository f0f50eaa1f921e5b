"""A Python that starts with the hook sees what it would see without, whatever its options."""

from __future__ import annotations

import ast
import os
import re
import sys
from pathlib import Path

import pytest

from cvmprof.phases import VARIABLE
from cvmprof.profiler.session.frameworks import CALLS, PHASE_VARIABLE
from cvmprof.profiler.session.instrument import STARTUP
from cvmprof.tests.profiler.session.hooked import Command

PRINT_STATE = """
import os, sys
print({name: value for name, value in os.environ.items() if name != "_"})
print(sys.path, sorted(sys.path_importer_cache), sys.flags, sys.argv)
print(*sorted(sys.modules))
"""
#: what the commands of users do before they start a Python
SCRIPTS = {
    "nothing": 'exec "$@"',
    "append": 'export PYTHONPATH=$PYTHONPATH:/added; exec "$@"',
    "prepend": 'export PYTHONPATH=/added:$PYTHONPATH; exec "$@"',
    "replace": 'export PYTHONPATH=/added; exec "$@"',
    "unset": 'unset PYTHONPATH; exec "$@"',
}


@pytest.fixture(name="command")
def _command(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    "variable", [None, "", "/one", "/one:/two", ":/one", "/one:", "/one::/two"]
)
def test_os_environ_and_sys_path_are_as_without(
    command: Command, variable: str | None, script: str
) -> None:
    arguments = ["/bin/sh", "-c", SCRIPTS[script], "sh", sys.executable, "-c", PRINT_STATE]
    plain, seen = (
        command.start(arguments, command.environment(variable, hooked=hooked))
        for hooked in (False, True)
    )
    assert plain.stdout.startswith("{")
    assert seen == plain


@pytest.mark.parametrize("options", [["-I"], ["-E"], ["-s"], ["-B", "-u"], ["-X", "dev"]])
def test_options_of_python_work_as_without(command: Command, options: list[str]) -> None:
    program = "import sys; print(sys.path, sys.flags)"
    hooked, plain = (command.run(program, *options, hooked=each) for each in (True, False))
    assert (hooked.returncode, hooked.stdout, hooked.stderr) == (0, plain.stdout, plain.stderr)


def test_without_site_the_directory_stays_in_the_path_and_holds_no_other_module(
    command: Command,
) -> None:
    program = "import sys; print(*sys.path)"
    plain = command.output(program, "-S", hooked=False).split()
    seen = command.output(program, "-S").split()
    assert [os.path.normpath(entry) for entry in seen] == [plain[0], STARTUP, *plain[1:]]
    assert [path.name for path in Path(STARTUP).iterdir() if path.suffix] == ["sitecustomize.py"]


# --- a sitecustomize of the user's ----------------------------------------------------------------


def test_the_users_own_sitecustomize_runs_once_and_is_the_module(command: Command) -> None:
    command.add(sitecustomize="print('own'); VALUE = 7")
    program = "import sitecustomize; print(sitecustomize.VALUE, sitecustomize.__file__)"
    assert command.output(program) == f"own\n7 {command.site}/sitecustomize.py\n"


@pytest.mark.parametrize(
    "text",
    [
        "1 / 0",
        "import no_such_module",
        "raise ImportError('of another', name='sitecustomize')",
        "def broken(:",
    ],
)
def test_one_that_fails_fails_as_without(command: Command, text: str) -> None:
    command.add(sitecustomize=text)
    hooked, plain = (command.run("print('ran')", hooked=each) for each in (True, False))
    assert hooked == plain


def test_one_that_exits_ends_the_process(command: Command) -> None:
    command.add(sitecustomize="raise SystemExit(3)")
    hooked, plain = (command.run("print('ran')", hooked=each) for each in (True, False))
    assert (hooked.returncode, hooked.stdout) == (plain.returncode, "")
    assert hooked.stderr.splitlines()[-1] == plain.stderr.splitlines()[-1] == "SystemExit: 3"


def test_a_python_without_any_has_none(command: Command) -> None:
    program = "import sys; print('sitecustomize' in sys.modules)"
    assert command.output(program, "-s") == command.output(program, "-s", hooked=False)


# --- whatever fails -------------------------------------------------------------------------------


def test_without_the_variable_nothing_is_followed(command: Command) -> None:
    environment = command.environment(str(command.site), hooked=True)
    plain = command.environment(str(command.site), hooked=False)
    del environment[VARIABLE], plain[VARIABLE]
    program = "import sys, os; print(len(sys.meta_path), os.environ['PYTHONPATH'])"
    done, expected = (
        command.start([sys.executable, "-c", program], each) for each in (environment, plain)
    )
    assert done == expected
    assert (done.returncode, done.stderr) == (0, "")


def test_a_directory_that_was_removed_meanwhile_does_no_harm(command: Command) -> None:
    environment = command.environment(str(command.site), hooked=True)
    environment["PYTHONPATH"] = environment["PYTHONPATH"].replace(STARTUP, "/no/such/startup")
    done = command.start([sys.executable, "-c", "import subprocess; print('ran')"], environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")


def test_a_current_directory_that_was_removed_does_no_harm(command: Command) -> None:
    script = 'mkdir gone && cd gone && rmdir ../gone && export PYTHONPATH=$PYTHONPATH: && exec "$@"'
    arguments = ["/bin/sh", "-c", script, "sh", sys.executable, "-c", "print('ran')"]
    hooked, plain = (
        command.start(arguments, command.environment("", hooked=each)) for each in (True, False)
    )
    assert (hooked.returncode, hooked.stdout) == (plain.returncode, plain.stdout)


def test_it_watches_every_package_that_is_changed() -> None:
    text = (Path(STARTUP) / "sitecustomize.py").read_text()
    watched = re.search(r"^_WATCHED = (.*)$", text, re.M)
    assert watched
    changed = {name.partition(".")[0] for name in CALLS} | {"subprocess"}
    assert set(ast.literal_eval(watched[1])) == changed
    assert PHASE_VARIABLE == VARIABLE
    assert f'_PHASE_VARIABLE = "PYTHONPATH", "{VARIABLE}"\n' in text
