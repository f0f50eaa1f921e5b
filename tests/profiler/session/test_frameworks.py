"""What is marked where a program uses frameworks, and that the program does not notice.

The frameworks are stand-ins with the modules and functions of the real ones.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from cvmprof.phases import named
from cvmprof.profiler.session import frameworks
from cvmprof.tests.profiler.session.hooked import Command


@pytest.fixture(name="command")
def _command(tmp_path: Path) -> Command:
    command = Command(tmp_path)
    command.add_stand_ins()
    return command


# --- what is marked -------------------------------------------------------------------------------


def test_loads_of_torch_are_phases_of_the_thread_that_called(command: Command) -> None:
    program = """
    import os, threading, time
    from torch import load
    import torch
    print(os.getpid(), threading.get_native_id(), time.monotonic_ns())
    torch.nn.Module().load_state_dict([1])
    print(load("program.py") == open("program.py").read(), time.monotonic_ns())
    """
    pid, tid, before, equal, after = command.output(program).split()
    assert equal == "True"
    phases = command.phases()
    assert [(phase.framework, phase.name) for phase in phases] == [("torch", "load")] * 2
    assert {(phase.pid, phase.tid) for phase in phases} == {(int(pid), int(tid))}
    times = [time_ns for phase in phases for time_ns in (phase.start_ns, phase.end_ns)]
    assert times == sorted(times)
    assert int(before) < times[0] and times[-1] < int(after)


def test_sessions_and_runs_of_onnx_runtime_are_phases(command: Command) -> None:
    program = """
    import onnxruntime
    session = onnxruntime.InferenceSession("a.onnx")
    print(session.path, session.run(None, 1), session.run(None, input_feed=2))
    """
    assert command.output(program) == "a.onnx 1 2\n"
    assert command.marked() == ["onnxruntime load", "onnxruntime run", "onnxruntime run"]


def test_a_load_within_a_load_is_one_phase(command: Command) -> None:
    program = """
    from transformers.modeling_utils import PreTrainedModel
    class Model(PreTrainedModel): pass
    print(Model.from_pretrained("a") == (Model, "a"))
    import safetensors.torch
    print(safetensors.torch.load_file("b"))
    with safetensors.safe_open("c") as file:
        print(file.path, isinstance(file, safetensors.safe_open))
    """
    assert command.output(program) == "True\nb\nc True\n"
    assert command.marked() == ["transformers load", "safetensors load", "safetensors load"]


def test_the_first_forward_of_a_model_after_a_load_is_a_phase(command: Command) -> None:
    program = """
    from models import model, torch
    original = torch.nn.Module.__call__
    encoder, decoder, transform = model(), model(), torch.nn.Module()
    print(encoder(0))
    encoder.load_state_dict([])
    print(transform(0), encoder(0), decoder(0), encoder(0), decoder(0))
    assert torch.nn.Module.__call__ is original
    decoder.load_state_dict([])
    print(decoder(0), decoder(0))
    assert torch.nn.Module.__call__ is original
    """
    assert command.output(program) == "3\n1 3 3 3 3\n3 3\n"
    expected = ["load", "first forward", "first forward", "load", "first forward"]
    assert command.marked() == [f"torch {name}" for name in expected]


def test_a_program_that_replaced_the_forward_keeps_its_own(command: Command) -> None:
    program = """
    from models import model, torch
    def own(self, value): return "own"
    torch.nn.Module.__call__ = own
    model().load_state_dict([])
    print(model()(0), torch.nn.Module.__call__ is own)
    """
    assert command.output(program) == "own True\n"
    assert command.marked() == ["torch load"]


def test_code_that_torch_compiles_is_not_marked(command: Command) -> None:
    """The compiler follows calls into what they call, and would refuse to compile the marking."""
    text = (command.site / "torch/__init__.py").read_text()
    compiler = "compile = None\nclass compiler:\n    is_compiling = staticmethod(lambda: True)\n"
    (command.site / "torch/__init__.py").write_text(text + compiler)
    program = """
    from models import model
    model().load_state_dict([])
    print(model()(0))
    """
    assert command.output(program) == "3\n"
    assert command.marked() == ["torch load"]


def test_a_compiler_that_cannot_be_asked_gets_no_forward_of_ours(command: Command) -> None:
    text = (command.site / "torch/__init__.py").read_text()
    (command.site / "torch/__init__.py").write_text(text + "compile = None\n")
    program = """
    from models import model, torch
    original = torch.nn.Module.__call__
    model().load_state_dict([])
    print(model()(0), torch.nn.Module.__call__ is original)
    """
    assert command.output(program) == "3 True\n"
    assert command.marked() == ["torch load"]


def test_threads_have_phases_of_their_own(command: Command) -> None:
    program = """
    import threading, onnxruntime
    session = onnxruntime.InferenceSession("a")
    met = threading.Barrier(3)
    def run():
        print(threading.get_native_id())
        met.wait()
        for _ in range(7):
            session.run(None, 1)
    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    """
    tids = {int(tid) for tid in command.output(program).split()}
    runs = [phase for phase in command.phases() if phase.name == "run"]
    assert len(tids) == 3
    assert sorted(phase.tid for phase in runs) == sorted(tid for tid in tids for _ in range(7))


def test_after_ten_thousand_runs_of_a_process_no_more_are_marked(command: Command) -> None:
    program = """
    import onnxruntime
    session = onnxruntime.InferenceSession("a")
    for number in range(10007):
        assert session.run(None, number) == number
    onnxruntime.InferenceSession("b")
    """
    command.output(program)
    marked = command.marked()
    assert (marked.count("onnxruntime run"), marked.count("onnxruntime load")) == (10000, 2)


# --- children -------------------------------------------------------------------------------------

LOAD_IN_CHILD = "import os, onnxruntime; onnxruntime.InferenceSession('a'); print(os.getpid())"


@pytest.mark.parametrize(
    "environment", ["", "env=os.environ", "env={**os.environ, 'A': '1'}", "env=os.environ.copy()"]
)
def test_python_children_mark_phases(command: Command, environment: str) -> None:
    program = f"""
    import os, subprocess, sys
    subprocess.run([sys.executable, "-c", {LOAD_IN_CHILD!r}], {environment})
    """
    pid = int(command.output(program))
    assert [(phase.pid, phase.tid) for phase in command.phases()] == [(pid, pid)]


def test_a_child_gets_the_environment_that_the_program_made(command: Command) -> None:
    program = """
    import os, subprocess
    own = {"PATH": "/bin:/usr/bin", "PYTHONPATH": "/own"}
    print(subprocess.check_output(["env"], env=own).decode().split(), own)
    copied = dict(os.environ)
    subprocess.run(["true"], env=copied)
    print(copied == os.environ)
    """
    assert command.output(program) == command.output(program, hooked=False)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_workers_of_multiprocessing_mark_phases(command: Command, method: str) -> None:
    program = f"""
    import multiprocessing, os
    import onnxruntime
    def load(name):
        onnxruntime.InferenceSession(name)
        return os.getpid()
    if __name__ == "__main__":
        onnxruntime.InferenceSession("parent")
        with multiprocessing.get_context({method!r}).Pool(1) as pool:
            print(os.getpid(), *pool.map(load, ["a", "b"]))
    """
    parent, first, second = map(int, command.output(program).split())
    assert parent != first == second
    assert [phase.pid for phase in command.phases()] == [parent, first, first]


def test_a_child_forked_in_a_phase_has_phases_of_its_own(command: Command) -> None:
    """The phase that it was forked in ends in the parent only."""
    program = """
    import os, onnxruntime
    class Forking(onnxruntime.InferenceSession):
        def __setattr__(self, name, value):
            vars(self)["child"] = os.fork()
            if not self.child:
                onnxruntime.InferenceSession("child")
    session = Forking("parent")
    if session.child:
        os.waitpid(session.child, 0)
        print(os.getpid(), session.child)
    """
    parent, child = map(int, command.output(program).split())
    assert [phase.pid for phase in command.phases()] == [parent, child]


# --- the program does not notice ------------------------------------------------------------------


def test_functions_look_as_before(command: Command) -> None:
    program = """
    import inspect, pickle, torch, onnxruntime, safetensors.torch, transformers.modeling_utils
    functions = [
        torch.load, torch.nn.Module.load_state_dict, safetensors.torch.load_file,
        onnxruntime.InferenceSession.__init__, onnxruntime.InferenceSession.run,
        transformers.modeling_utils.PreTrainedModel.from_pretrained,
    ]
    for each in functions:
        print(each.__name__, each.__qualname__, each.__module__, each.__doc__)
        print(inspect.signature(each), inspect.getsource(each), inspect.isfunction(each))
        print(pickle.loads(pickle.dumps(each)) == each, callable(each), type(each))
    print(torch.load is torch.serialization.load)
    for name in ("torch", "torch.serialization", "onnxruntime"):
        module = __import__(name, fromlist=["x"])
        print(module.__spec__, module.__loader__, vars(module.__loader__), module.__file__)
    """
    assert without_addresses(command.output(program)) == without_addresses(
        command.output(program, hooked=False)
    )


def test_an_exception_passes_and_ends_the_phase(command: Command) -> None:
    program = """
    import torch
    try:
        torch.load("missing")
    except FileNotFoundError as error:
        print(error.filename, error.__context__, error.__cause__)
    try:
        torch.load("program.py", 1, 2)
    except TypeError as error:
        print(error)
    """
    assert command.output(program) == command.output(program, hooked=False)
    assert command.marked() == ["torch load"] * 2


def test_a_file_that_cannot_be_entered_ends_its_phase(command: Command) -> None:
    program = """
    import safetensors.torch
    for path in ("missing", "there"):
        try:
            print(safetensors.safe_open(path).__enter__().__exit__(None, None, None))
        except FileNotFoundError as error:
            print(error)
    """
    assert command.output(program) == "missing\nNone\n"
    assert command.marked() == ["safetensors load"] * 2


def test_a_warning_is_about_the_line_that_called(command: Command) -> None:
    hooked, plain = (
        command.run("import torch\ntorch.load('program.py', mmap=True)\n", hooked=each)
        for each in (True, False)
    )
    assert hooked == plain
    assert "program.py:2: FutureWarning: about this call" in hooked.stderr


@pytest.mark.parametrize(
    "text", ["1 / 0", "raise ImportError('no CUDA')", "import no_such", "raise SystemExit(5)", "}"]
)
@pytest.mark.parametrize("module", ["torch/__init__.py", "torch/serialization.py"])
def test_an_import_that_fails_fails_as_without(command: Command, module: str, text: str) -> None:
    (command.site / module).write_text(text + "\n")
    hooked, plain = (
        command.run("print('begun')\nimport torch", hooked=each) for each in (True, False)
    )
    assert hooked == plain
    assert hooked.stdout == "begun\n"
    assert hooked.returncode != 0


def test_an_import_that_failed_once_is_followed_when_it_succeeds(command: Command) -> None:
    path = command.site / "torch/serialization.py"
    text = path.read_text()
    path.write_text("import later_there\n" + text)
    program = f"""
    try:
        import torch
    except ImportError as error:
        print(error.name)
    open({str(command.site / "later_there.py")!r}, "w").close()
    import importlib; importlib.invalidate_caches()
    import torch
    torch.load("program.py")
    """
    assert command.output(program) == "later_there\n"
    assert command.marked() == ["torch load"]


def test_modules_that_are_only_looked_for_are_not_imported(command: Command) -> None:
    program = """
    import importlib.util, sys
    print(importlib.util.find_spec("torch").name, importlib.util.find_spec("onnxruntime").origin)
    print(importlib.util.find_spec("torch.missing"), importlib.util.find_spec("torch.nn").name)
    print([name for name in sys.modules if name.split(".")[0] in ("torch", "onnxruntime")])
    """
    assert command.output(program) == command.output(program, hooked=False)


def test_a_program_that_replaces_the_finders_is_not_followed(command: Command) -> None:
    program = """
    import sys
    sys.meta_path[:] = [each for each in sys.meta_path if isinstance(each, type)]
    import torch
    torch.load("program.py")
    """
    command.output(program)
    assert command.marked() == []


def test_a_version_without_some_functions_is_marked_where_it_has_them(command: Command) -> None:
    (command.site / "onnxruntime/capi/onnxruntime_inference_collection.py").write_text(
        "class InferenceSession:\n    def run(self):\n        return 1\n"
        "    def __init__(self):\n        pass\n"
    )
    program = "import onnxruntime; print(onnxruntime.InferenceSession().run())"
    assert command.output(program) == "1\n"
    assert command.marked() == ["onnxruntime load"]


# --- the file -------------------------------------------------------------------------------------

LOAD_TWICE = """
import os, onnxruntime
onnxruntime.InferenceSession("a")
{between}
onnxruntime.InferenceSession("b")
print("ran")
"""


def test_a_descriptor_that_the_program_closed_is_opened_again(command: Command) -> None:
    between = (
        "os.closerange(3, 1000); other = os.dup2(os.open('other', os.O_CREAT | os.O_RDWR), 64)"
    )
    assert command.output(LOAD_TWICE.format(between=between)) == "ran\n"
    assert (command.directory / "other").read_bytes() == b""
    assert command.marked() == ["onnxruntime load"] * 2


def test_the_programs_own_descriptors_have_the_numbers_that_they_had(command: Command) -> None:
    between = (
        "print(os.open('program.py', os.O_RDONLY), sorted(os.listdir('/proc/self/fd'), key=int))"
    )
    plain = command.output(LOAD_TWICE.format(between=between), hooked=False)
    assert command.output(LOAD_TWICE.format(between=between)) == plain.replace("']", "', '64']")


def test_programs_that_it_starts_do_not_inherit_the_descriptor(command: Command) -> None:
    program = LOAD_TWICE.format(between="print(os.get_inheritable(64))")
    assert command.output(program) == "False\nran\n"


@pytest.mark.parametrize(
    "trouble", ["missing", "full", "unwritable", "link", "replaced", "nonsense"]
)
def test_a_file_that_cannot_be_written_does_no_harm(command: Command, trouble: str) -> None:
    if trouble == "full":
        command.named = named("/dev/full", Path("/dev/full").stat())
    elif trouble == "unwritable":
        command.named = named("/proc/version", Path("/proc/version").stat())
    elif trouble == "replaced":
        command.named = f"0:0:{command.phase_file}"
    elif trouble == "nonsense":
        command.named = "64"
    else:
        command.phase_file.unlink()
        if trouble == "link":
            command.phase_file.symlink_to(command.directory / "other")
            (command.directory / "other").touch()
    assert command.output(LOAD_TWICE.format(between="")) == "ran\n"
    for left in (command.phase_file, command.directory / "other"):
        assert not left.exists() or left.read_bytes() == b""


def test_without_what_writes_the_lines_nothing_is_marked(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a program that changed its root directory after it imported a framework."""
    monkeypatch.setattr(frameworks, "_PHASES", "/no/such/phases.py")
    marks = frameworks.Marks(command.named)
    for _ in range(2):
        mark = marks.begin("load", "torch")
        assert mark is None
        marks.end(mark)
    assert command.phases() == []


def test_a_program_that_may_write_no_file_is_not_ended(command: Command) -> None:
    limited = ["/bin/sh", "-c", 'ulimit -f 0; exec "$@"', "sh", sys.executable, "-c"]
    done = command.start(
        [*limited, LOAD_TWICE.format(between="")],
        command.environment(str(command.site), hooked=True),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")
    assert command.phases() == []


def without_addresses(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+", "0x", text)
