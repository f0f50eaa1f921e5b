"""Marks phases where a Python process of the traced command loads or runs a model.

`startup/sitecustomize.py` loads this file into the user's own Python, 3.6 or newer, when the
program imports one of the packages it watches. It imports none of them: it changes some of their
functions right after the program imported them. Nothing here raises into the program or prints.

The lines are those of `phases.py`, with the key ``framework``: the package whose function it was.
"""

import functools
import os
import sys
import threading
from importlib.machinery import SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

LOAD, RUN, FIRST_FORWARD = "load", "run", "first forward"
PHASE_VARIABLE = "CVMPROF_PHASES"

#: the functions that are phases, by the module that defines them
CALLS = {
    "onnxruntime.capi.onnxruntime_inference_collection": (
        ("InferenceSession.__init__", LOAD),
        ("Session.run", RUN),
        ("Session.run_with_iobinding", RUN),
        ("Session.run_with_ort_values", RUN),
        ("Session.run_with_ortvaluevector", RUN),
    ),
    "safetensors.torch": (("load_file", LOAD),),
    "torch.nn.modules.module": (("Module.load_state_dict", LOAD),),
    "torch.serialization": (("load", LOAD),),
    "transformers.modeling_utils": (("PreTrainedModel.from_pretrained", LOAD),),
}
#: those after whose loads torch runs the model
_TORCH = frozenset(("safetensors", "torch", "transformers"))

_MOST_PHASES = 10000  # of one name and process: 2 MiB of lines
_PHASES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../phases.py")

# Frames of these names are skipped by Python: by warnings that look for their caller's line; and
# the second by tracebacks of imports.
_INTERNAL = "<cvmprof, as importlib._bootstrap>"
_IMPORTLIB = "<frozen importlib._bootstrap_external>"


def instrumented(environment: "Any", startup: str) -> "dict[str, str]":
    """Return the environment with ``startup`` first in PYTHONPATH.

    It is spelled in three ways, so that sitecustomize.py knows what PYTHONPATH was: not set
    ("DIR"), empty ("DIR/", since an empty entry would be the current directory), or a list
    ("DIR/.:LIST").
    """
    given = environment.get("PYTHONPATH")
    after = "" if given is None else "/." + os.pathsep + given if given else "/"
    return dict(environment, PYTHONPATH=startup + after)


class Frameworks:
    """Changes modules of frameworks when they are imported.

    ``phase_file``: what the variable for phases holds. ``startup``: the directory that PYTHONPATH
    begins with for the processes of the command.
    """

    def __init__(self, phase_file: str, startup: str) -> None:
        self._startup = startup
        self._marks = Marks(phase_file)
        self._first_forward: "FirstForward | None" = None

    def find_spec(self, asking: "Any", name: str, path: "Any", target: "Any") -> "Any":
        """Return the spec that the finders other than ``asking`` have; None for a module that
        stays as it is.
        """
        if name not in CALLS and name not in ("safetensors", "subprocess"):
            return None
        for finder in sys.meta_path:
            if finder is not asking and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    _call_after_execution(spec.loader, name, self._change)
                    return spec
        return None

    def _change(self, module: "Any") -> None:
        name = module.__name__
        for path, phase in CALLS.get(name, ()):
            with _Suppressed():  # a version of the framework may lack the function
                self._mark_calls(module, path, phase)
        if name == "safetensors":
            self._mark_blocks(module.safe_open)
        elif name == "subprocess":
            self._follow_children(module.Popen)
        elif name == "torch.nn.modules.module":
            self._first_forward = FirstForward(self._marks, module.Module)

    def _mark_calls(self, module: "Any", path: str, phase: str) -> None:
        """Make the calls of a function or method, ``Class.name``, phases."""
        *owners, attribute = path.split(".")
        owner: "Any" = module
        for each in owners:
            owner = getattr(owner, each)
        function: "Any" = owner.__dict__[attribute]
        is_class_method = isinstance(function, classmethod)
        framework = module.__name__.partition(".")[0]
        marked = self._marked(getattr(function, "__func__", function), phase, framework)
        setattr(owner, attribute, classmethod(marked) if is_class_method else marked)

    def _marked(self, function: "Any", phase: str, framework: str) -> "Any":
        marks = self._marks

        @functools.wraps(function)
        def call(*args: "Any", **kwargs: "Any") -> "Any":
            mark = marks.begin(phase, framework)
            try:
                return function(*args, **kwargs)
            finally:
                self._end(mark)

        return _named(call, _INTERNAL)

    def _end(self, mark: "_Mark | None") -> None:
        self._marks.end(mark)
        if mark is not None and mark.is_load_of_torch and self._first_forward is not None:
            self._first_forward.expect()

    def _mark_blocks(self, opened: "Any") -> None:
        """Make each ``with safe_open(…)`` block one phase: it reads many tensors."""
        enter, leave, marks = opened.__enter__, opened.__exit__, self._marks
        entered: "dict[int, Any]" = {}

        @functools.wraps(enter)
        def __enter__(file: "Any") -> "Any":  # noqa: N807
            mark = marks.begin(LOAD, "safetensors")
            try:
                result = enter(file)
            except BaseException:
                marks.end(mark)
                raise
            entered[id(file)] = mark
            return result

        @functools.wraps(leave)
        def __exit__(file: "Any", *error: "Any") -> "Any":  # noqa: N807
            try:
                return leave(file, *error)
            finally:
                self._end(entered.pop(id(file), None))

        opened.__enter__ = _named(__enter__, _INTERNAL)
        opened.__exit__ = _named(__exit__, _INTERNAL)

    def _follow_children(self, popen: "Any") -> None:
        """Let a child come here also where the program gives it a copy of its own environment."""
        start = popen.__init__

        @functools.wraps(start)
        def __init__(*args: "Any", **kwargs: "Any") -> None:  # noqa: N807
            with _Suppressed():
                if PHASE_VARIABLE in (kwargs.get("env") or ()):
                    kwargs["env"] = instrumented(kwargs["env"], self._startup)
            start(*args, **kwargs)

        popen.__init__ = _named(__init__, _INTERNAL)


class FirstForward:
    """Marks the first forward of each outermost module after a load.

    ``Module.__call__`` is replaced only from a load until a module is called again, so that later
    forwards cost nothing. Modules without parameters, such as transforms, do not count.
    """

    def __init__(self, marks: "Marks", module_class: "Any") -> None:
        self._marks = marks
        self._class = module_class
        self._original: "Any" = vars(module_class)["__call__"]
        self._is_expected = False
        self._called: "set[int]" = set()
        self._replacement: "Any" = None

    def expect(self) -> None:
        """Mark the forwards to come."""
        with _Suppressed():
            if self._replacement is None:
                self._replacement = self._replaced(_compiling_test(sys.modules["torch"]))
            self._called.clear()
            self._is_expected = True
            self._exchange(self._original, self._replacement)

    def _replaced(self, is_compiling: "Callable[[], bool]") -> "Any":
        original = self._original

        @functools.wraps(original)
        def __call__(module: "Any", *args: "Any", **kwargs: "Any") -> "Any":  # noqa: N807
            if is_compiling() or not self._is_expected:
                return original(module, *args, **kwargs)
            mark = self._begin(module)
            try:
                return original(module, *args, **kwargs)
            finally:
                self._marks.end(mark)

        return _named(__call__, _INTERNAL)

    def _begin(self, module: "Any") -> "Any":
        with _Suppressed():
            if self._marks.is_open(FIRST_FORWARD) or next(module.parameters(), None) is None:
                return None
            if id(module) not in self._called:
                self._called.add(id(module))
                return self._marks.begin(FIRST_FORWARD, "torch")
            self._is_expected = False
            self._exchange(self._replacement, self._original)
        return None

    def _exchange(self, present: "Any", other: "Any") -> None:
        """Replace ``Module.__call__`` unless it is someone else's."""
        if vars(self._class)["__call__"] is present:
            self._class.__call__ = other


class Marks:
    """The phases of this process: writes their lines into the run's file, until that fails.

    ``named``: what the variable for phases holds. A phase within one of the same name on the same
    thread is not marked, nor are those of a name after the first 10,000.
    """

    def __init__(self, named: str) -> None:
        self._named = named
        self._phases: "Any" = None
        self._file: "Any" = None
        self._is_lost = False
        self._counts: "dict[str, int]" = {}
        self._thread = threading.local()

    def begin(self, name: str, framework: str) -> "_Mark | None":
        """Mark the begin of a phase; return what `end` needs, None if it is not marked."""
        with _Suppressed():
            count, opened = self._counts.get(name, 0), self._opened()
            if name not in opened and count < _MOST_PHASES and self._is_usable():
                mark = _Mark(name, framework, opened, self._phases)
                self._file.append(mark.line("begin"))
                self._counts[name] = count + 1
                opened.add(name)
                return mark
        return None

    def end(self, mark: "_Mark | None") -> None:
        """Mark the end of a phase, from whichever thread."""
        if mark is None:
            return
        with _Suppressed():
            mark.opened.discard(mark.name)
            if mark.pid == os.getpid():  # else it was begun before a fork, and ends in the parent
                self._file.append(mark.line("end"))

    def _is_usable(self) -> bool:
        """Whether lines are written. What writes them is loaded at the first phase."""
        if self._file is None and not self._is_lost:
            try:
                self._phases = _loaded(_PHASES)
                self._file = self._phases.PhaseFile(self._named)
            except Exception:  # noqa: BLE001  the program goes on, and this is not tried again
                self._is_lost = True
        return self._file is not None and not self._file.is_given_up

    def is_open(self, name: str) -> bool:
        """Whether this thread is in a phase of this name."""
        return name in self._opened()

    def _opened(self) -> "set[str]":
        """The names of this thread's phases; none in a process that was forked meanwhile."""
        pid = os.getpid()
        if getattr(self._thread, "pid", None) != pid:
            self._thread.pid, self._thread.opened = pid, set()
        return self._thread.opened  # type: ignore[no-any-return]


class _Mark:
    """A phase that has begun; ``opened`` are the names of its thread's phases, ``phases`` is the
    module of that name.
    """

    def __init__(self, name: str, framework: str, opened: "set[str]", phases: "Any") -> None:
        self.name = name
        self.opened = opened
        self.is_load_of_torch = name == LOAD and framework in _TORCH
        self.pid = os.getpid()
        self._time_ns = phases.monotonic_ns
        self._rest = b'"pid": %d, "tid": %d, "framework": "%s"}\n' % (
            self.pid,
            phases.thread_id(),
            framework.encode(),
        )

    def line(self, event: str) -> bytes:
        """The line of its begin or end, now."""
        line = b'{"name": "%s", "event": "%s", "time_ns": %d, %s'
        return line % (self.name.encode(), event.encode(), self._time_ns(), self._rest)


class _Suppressed:
    """Keeps the exceptions of its block from the program, except for those that end it."""

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, kind: "Any", *_: object) -> bool:
        return kind is not None and issubclass(kind, Exception)


def _compiling_test(torch: "Any") -> "Callable[[], bool]":
    """Return the function by which torch's compiler knows code that it must not compile.

    Raises AttributeError where torch has the compiler without it.
    """
    if not hasattr(torch, "compile"):
        return bool
    return torch.compiler.is_compiling  # type: ignore[no-any-return]


def _call_after_execution(loader: "Any", name: str, act: "Callable[[Any], None]") -> None:
    """Call ``act`` with the module when the loader has executed it; the loader stays what it is."""
    if loader is None or isinstance(loader, type):  # a class loads many modules
        return
    execute = loader.exec_module

    def exec_module(module: "Any") -> None:
        with _Suppressed():  # another thread may have, where modules share a loader
            del loader.exec_module
        execute(module)
        if module.__name__ == name:
            with _Suppressed():
                act(module)

    loader.exec_module = _named(exec_module, _IMPORTLIB)


def _named(function: "Any", filename: str) -> "Any":
    """Return the function, its code from a file of this name."""
    if hasattr(function.__code__, "replace"):  # since Python 3.8
        function.__code__ = function.__code__.replace(co_filename=filename)
    return function


def _loaded(path: str) -> "Any":
    """Return a module of ours, which is not in sys.path and stays out of sys.modules."""
    module = type(sys)("cvmprof_" + os.path.basename(path)[:-3])
    SourceFileLoader(module.__name__, path).exec_module(module)
    return module
