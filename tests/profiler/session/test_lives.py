"""A table of lives: each is led traced and untraced, and ends and looks the same to the command."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import pytest

from .lives import NO_READER, SELF, Ended, Life, Prefix, Terminal

#: how many lives are led at once
AT_ONCE = 6

LOOK = Path(__file__).with_name("look.py").read_text()
LOOKS = ("/usr/bin/python3", "-I", "-c", LOOK)
#: prints "ready PID", then how often each signal came; ends a while after the first
COUNT = """
import os, signal
watched = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
signal.pthread_sigmask(signal.SIG_BLOCK, watched)
print("ready", os.getpid(), flush=True)
taken = [signal.sigwait(watched)]
while (info := signal.sigtimedwait(watched, 1)) is not None:
    taken.append(info.si_signo)
print("took", *sorted(map(int, taken)), flush=True)
"""
COUNTS = (sys.executable, "-I", "-c", COUNT)
#: as `conda run` does: the command's output is taken, and printed at its end
CONDA_RUN = """
import subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True)
sys.stdout.buffer.write(done.stdout)
sys.stderr.buffer.write(done.stderr)
sys.exit(done.returncode)
"""
#: sudo is known by its process's name, and passes on how the command ended
SUDO = """
import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(15, b"sudo", 0, 0, 0)
variables = {"SUDO_UID": "0", "SUDO_GID": "0", "SUDO_COMMAND": "cvmprof trace"}
inner = variables if "cvmprof" in sys.argv else {}
code = subprocess.call(sys.argv[1:], env={**os.environ, **inner})
os.kill(os.getpid(), -code) if code < 0 else sys.exit(code)
"""
#: leaves a daemon behind, which forked twice, waits for a word and passes it on
DAEMON = "(setsid sh -c 'read word < go; echo \"$word\" > said' > /dev/null 2>&1 &) ; echo left"


def shell(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


def ends(script: str, **changes: object) -> Life:
    return Life(shell(script), **changes)  # type: ignore[arg-type]


def to_started(*numbers: int) -> Callable[[int, int, int], None]:
    def act(started: int, _command: int, _group: int) -> None:
        for number in numbers:
            os.kill(started, number)

    return act


def to_command(number: int) -> Callable[[int, int, int], None]:
    return lambda _started, command, _group: os.kill(command, number)


def to_group(*numbers: int) -> Callable[[int, int, int], None]:
    """Send them to the group of the command, cvmprof and their caller, which ignores them."""

    def act(_started: int, _command: int, group: int) -> None:
        for number in numbers:
            os.killpg(group, number)

    return act


#: once it is stopped
CONTINUES = 'until grep -q "State:.T" /proc/$$/status; do :; done; kill -CONT $$'
BOTH_STREAMS = "echo out; echo err >&2; exit 9"
LIMITED = 'umask 027; ulimit -S -c 0 -t 500; exec nice -n 5 "$@"'
WAITS = "echo ready $$; exec sleep 60"
LIVES = {
    "exits 0": ends("echo out; echo err >&2"),
    "exits 3": ends("exit 3", code=3),
    "exits 125": ends("exit 125", code=125),
    "exits 255": ends("exit 255", code=255),
    **{f"kills itself by {number}": ends(f"kill -{number} $$", code=-number) for number in
       (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGPIPE, signal.SIGALRM, 40)},
    **{f"killed by {number}": ends(WAITS, act=to_command(number), code=-number) for number in
       (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)},
    **{f"cvmprof gets {number}": Life(COUNTS, act=to_started(number)) for number in
       (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGWINCH, signal.SIGTSTP,
        signal.SIGXCPU, signal.SIGSEGV, signal.SIGCONT, 34, 64)},
    **{f"the group gets {number}": Life(COUNTS, act=to_group(number), ignored=(number,))
       for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, 40)},
    "the group gets several": Life(COUNTS, act=to_group(1, 2, 15, 18), ignored=(1, 2, 15)),
    "signals its own group": ends('trap "echo took" TERM; kill 0; exit 6', ignored=(15,), code=6),
    "stops and goes on": ends(f"({CONTINUES}) & kill -STOP $$; exit 4", code=4),
    **{f"without {closed}": Life(LOOKS, closed=closed)
       for count in (1, 2, 3) for closed in combinations((0, 1, 2), count)},
    "stderr is full": ends("echo error >&2; exit $?", stderr="/dev/full", code=1),
    "stderr's reader left": ends("kill $$", stderr=NO_READER, code=-15),
    "the reader left": ends("yes | head -1; exit 3", code=3),
    "looks": Life(LOOKS),
    "looks, signals ignored": Life(LOOKS, ignored=(1, 2, 3, 10, 14, 20, 35)),
    "looks, limited": Life(LOOKS, before=(*shell(LIMITED), "sh")),
    "looks, without variables": Life(("env", "-i", *LOOKS)),
    "looks, under nohup": Life(LOOKS, before=("nohup",)),
    "looks, in a session": Life(("setsid", "--wait", *LOOKS)),
    "timeout, in time": Life(("timeout", "60", *LOOKS)),
    "timeout, too late": Life(("timeout", "0.2", "sleep", "60"), code=124),
    "timeout around": Life(("sh", "-c", "exit 3"), before=("timeout", "100"), code=3),
    "session around": ends("exit 3", before=("setsid", "--wait"), code=3),
    "xargs": Life(shell("seq 8 | xargs -P 4 -n 1 sh -c 'exit $(($0 > 7))'; echo $?")),
    "conda run": Life((sys.executable, "-c", CONDA_RUN, *shell(BOTH_STREAMS)), code=9),
    "sudo around": Life(LOOKS, before=(sys.executable, "-I", "-c", SUDO)),
    "sudo around, killed": ends("kill $$", before=(sys.executable, "-I", "-c", SUDO), code=-15),
    "sudo inside": Life(("setpriv", "--reuid=65534", "--clear-groups", *LOOKS)),
    "in the background": Life(("bash", "-c", "(exit 7) & wait $!"), code=7),
}  # fmt: skip
PREFIXES: dict[str, Callable[[Path], Prefix]] = {
    "traced": lambda run: [*SELF, "trace", "--no-report", "-o", str(run), "--"],
    "untraced": lambda _: (),
}


@pytest.fixture(scope="module")
def led(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[
    dict[tuple[str, str], Future[Ended]]
]:  # fmt: skip
    """The selected lives, each led in both ways, several at once."""
    calls = (getattr(item, "callspec", None) for item in request.session.items)
    names = [call.params["name"] for call in calls if call and call.params.get("name") in LIVES]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            (name, way): pool.submit(lead, LIVES[name], way, tmp_path_factory.mktemp(way))
            for name in names
            for way in PREFIXES
        }


def lead(life: Life, way: str, directory: Path) -> Ended:
    """Lead a life in one of the ways, in a directory whose name is the same in both."""
    here = directory / "here"
    here.mkdir()
    return life.run(PREFIXES[way](directory / "run"), here)


@pytest.mark.parametrize("name", LIVES)
def test_traced_it_is_as_untraced(led: dict[tuple[str, str], Future[Ended]], name: str) -> None:
    traced, untraced = (led[name, way].result() for way in PREFIXES)
    assert untraced.code == LIVES[name].code
    assert traced == untraced


@pytest.mark.parametrize("way", PREFIXES)
def test_what_a_command_leaves_behind_lives_on(tmp_path: Path, way: str) -> None:
    for name in ("go", "said"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "here").mkdir()
    script = f"cd ..; {DAEMON}"
    ended = Life(shell(script)).run(PREFIXES[way](tmp_path / "run"), tmp_path / "here")
    assert ended == Ended(0, "left\n", "")
    (tmp_path / "go").write_text("alive\n")
    assert (tmp_path / "said").read_text() == "alive\n"


def test_ranks_that_start_together_all_run_each_in_a_run_of_its_own(tmp_path: Path) -> None:
    rank = shlex.join([*SELF, "trace", "--no-report", "--", "sh", "-c", "exit 3"])
    script = (
        f"for rank in 1 2 3 4; do {rank} & done; for rank in 1 2 3 4; do wait -n; echo $?; done"
    )
    ended = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["3"] * 4
    runs = {line.removeprefix("cvmprof: run ") for line in ended.stderr.splitlines()}
    assert runs == {path.name for path in tmp_path.iterdir()}
    assert len(runs) == 4


#: what a program at a terminal does. One process, that does not read when Ctrl-Z comes: a read in
#: progress may still take what is typed for the shell.
DOES = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
if "catch" in sys.argv:
    sys.argv.remove("catch")
    signal.signal(signal.SIGTSTP, lambda *_: signal.raise_signal(signal.SIGSTOP))
for what in sys.argv[1:]:
    print("ready", flush=True)
    print("got", input(), flush=True) if what == "ask" else time.sleep(float(what))
"""
#: waits until the shell has seen that its job is stopped, or is not: a job that stops when bash is
#: about to wait for it is waited for for ever
STOPS = "until jobs -s | grep -q .; do :; done; wait %1"
GOES_ON = "while jobs -s | grep -q .; do :; done"
#: what is typed into a shell, "> ", and the lines that it then shows: of the command in braces, and
#: "=" with the exit code of what it ran
SESSIONS = {
    "asks": ("> {$DOES ask}", "ready", "> word", "got word", "= 0"),
    "Ctrl-C": ("> {$DOES 60}", "ready", "> ^C", "= 130"),
    "Ctrl-backslash": ("> {$DOES 60}", "ready", "> ^\\", "= 131"),
    "stopped, continued": (
        "> {$DOES 3 ask}", "ready", "> ^Z", "= 148", "> fg", "ready", "> word", "got word", "= 0",
    ),
    "timeout: asks": ("> {timeout 99 $DOES ask}", "ready", "> word", "got word", "= 0"),
    "timeout: Ctrl-C": (
        "> {timeout 99 $DOES ask 60}", "ready", "> word", "got word", "ready", "> ^C", "= 130",
    ),
    "timeout: stopped, continued": (
        "> {timeout 99 $DOES ask 3 ask 60}", "ready", "> word", "got word", "ready", "> ^Z",
        "= 148", "> fg", "ready", "> word", "got word", "ready", "> ^C", "= 130",
    ),
    "timeout: Ctrl-C in a pipeline": (
        "> set -o pipefail", "= 0", "> {timeout 99 $DOES 60} | sh -c 'trap \"\" INT; cat'",
        "ready", "> ^C", "= 130",
    ),
    "asks in the background": (
        "> {$DOES ask} &", "ready", "> wait %1", "= 149", "> fg", "> word", "got word", "= 0",
    ),
    "killed as a job": ("> {$DOES 60} &", "ready", "> kill %1; wait %1", "= 143"),
    "stops itself": (
        "> {sh -c 'echo ready; kill -STOP $$; echo went on; exit 4'}", "ready", "= 147", "> fg",
        "went on", "= 4",
    ),
    "stops later than Ctrl-Z": (
        "> {$DOES catch 3 ask}", "ready", "> ^Z", "= 147", "> fg", "ready", "> word", "got word",
        "= 0",
    ),
    "timeout: stops later than Ctrl-Z": (
        "> {timeout 99 $DOES catch 3 ask}", "ready", "> ^Z", "= 148", "> fg", "ready", "> word",
        "got word", "= 0",
    ),
    "a job is stopped, continued": (
        "> {sh -c 'echo ready; read word < go; exit 4'} &", "ready", f"> kill -STOP %1; {STOPS}",
        "= 147", "> bg", "= 0", "> echo > go; wait %1", "= 4",
    ),
    "its process is continued": (
        "> {sh -c 'echo $$ > pid; kill -STOP $$; exit 4'} &", "= 0", f"> {STOPS}", "= 147",
        f"> kill -CONT $(cat pid); {GOES_ON}; wait $!", "= 4",
    ),
    "a job is stopped, its process continued and stopped": (
        "> {sh -c 'echo $$ > pid; echo ready; read word < go; exit 4'} &", "ready",
        f"> kill -TSTP %1; {STOPS}", "= 148", f"> kill -CONT $(cat pid); {GOES_ON}", "= 0",
        f"> kill -TSTP $!; {STOPS}", "= 148", "> bg", "= 0", "> echo > go; wait %1", "= 4",
    ),
    "its stopped process is killed": (
        "> {sh -c 'echo $$ > pid; kill -STOP $$'} &", "= 0", f"> {STOPS}", "= 147",
        f"> kill -KILL $(cat pid); {GOES_ON}; wait $!", "= 137",
    ),
    "a shell that is suspended": (
        "> {bash --norc --noediting -i}", "= 0", "> suspend", "= 147", "> fg", "= 0",
        "> exit 5", "= 5",
    ),
    "a shell": (
        "> {bash --norc --noediting -i}", "= 0", "> $DOES 60", "ready", "> ^C", "= 130", "> exit 5",
        "= 5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", PREFIXES)
@pytest.mark.parametrize("name", SESSIONS)
def test_at_a_terminal_it_is_as_untraced(tmp_path: Path, name: str, way: str) -> None:
    prefix = "".join(f"{shlex.quote(word)} " for word in PREFIXES[way](tmp_path / "run"))
    (tmp_path / "does.py").write_text(DOES)
    os.mkfifo(tmp_path / "go")
    does = f"/usr/bin/python3 -I {tmp_path}/does.py"
    terminal = Terminal(tmp_path)
    try:
        for step in SESSIONS[name]:
            if not step.startswith("> "):
                terminal.expect(step)
            elif step.startswith("> ^"):
                terminal.type(chr(ord(step[3]) - 64))
            else:
                line = step[2:].replace("{", prefix).replace("}", "").replace("$DOES", does)
                terminal.type(f"{line}\n")
    finally:
        terminal.end()
