"""Runs when a Python process of the traced command starts: hides what brought it there, and lets
`frameworks.py` follow which frameworks the program imports.

The session puts this directory first in PYTHONPATH. A user's sitecustomize is imported last, as
Python would have done. Whatever fails here, the program runs as if untraced. Any Python may come
here, so this file is valid from Python 2.7 on; before 3.6 no phase is marked.
"""
# pyright: reportTypeCommentUsage=false

import os
import sys

_HERE = os.path.dirname(__file__)
_PATH_VARIABLE, _PHASE_VARIABLE = "PYTHONPATH", "CVMPROF_PHASES"
#: packages that `frameworks.py` may change when they are imported
_WATCHED = ("onnxruntime", "safetensors", "subprocess", "torch", "transformers")

# `Any` is not imported, since it would cost each Python process of the command some milliseconds.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # novm  # noqa: F401  in comments


class _Finder(object):
    """Asks `frameworks.py` about the modules of a framework; finds no module by itself."""

    def __init__(self, phase_file):
        # type: (str) -> None
        self._phase_file = phase_file
        self._frameworks = None  # type: Any

    def find_spec(self, name, path=None, target=None):
        # type: (str, Any, Any) -> Any
        """Return the spec that the other finders have, for a module to be changed; else None."""
        if name.partition(".")[0] not in _WATCHED:
            return None
        try:
            if self._frameworks is None:
                self._frameworks = _loaded().Frameworks(self._phase_file, _HERE)
            return self._frameworks.find_spec(self, name, path, target)
        except Exception:  # noqa: BLE001  the program's import goes on without us
            return None


def _loaded():
    # type: () -> Any
    """Return the module `frameworks`, which is not in sys.path and stays out of sys.modules."""
    from importlib.machinery import SourceFileLoader  # novm

    name, path = "cvmprof_frameworks", os.path.join(os.path.dirname(_HERE), "frameworks.py")
    module = type(sys)(name)
    module.__file__ = path
    SourceFileLoader(name, path).exec_module(module)
    return module


def _untraced(entries):
    # type: (list[str]) -> list[str]
    """The entries of PYTHONPATH without this directory, which `instrumented` in frameworks.py put
    before others or in the place of none. In that place it may have got others since.
    """
    others = [entry for entry in entries if entry != _HERE + "/."]
    return ["" if entry.rstrip("/") == _HERE else entry for entry in others]


def _leave_path(entries):
    # type: (list[str]) -> None
    """Take this directory out of sys.path; an empty entry in its place is the current directory."""
    position = sys.path.index(_HERE)
    del sys.path[position]
    for spelled in (_HERE, _HERE + "/", _HERE + "/."):
        sys.path_importer_cache.pop(spelled, None)
    if "" in entries and len(entries) > 1 and os.getcwd() not in sys.path:
        sys.path.insert(position, os.getcwd())


def _hide(given, entries):
    # type: (str, list[str]) -> None
    """Show PYTHONPATH as it is untraced.

    The process keeps the variable: a child that inherits its environment comes here as well.
    """
    encode = getattr(os, "fsencode", str)
    shown = getattr(os.environ, "_data", None) or getattr(os.environ, "data")  # type: Any  # noqa: B009
    if given == _HERE:
        del shown[encode(_PATH_VARIABLE)]
    else:
        shown[encode(_PATH_VARIABLE)] = encode(os.pathsep.join(entries))


def _start():
    # type: () -> None
    given = os.environ.get(_PATH_VARIABLE, "")
    entries = _untraced(given.split(os.pathsep))
    _leave_path(entries)
    _hide(given, entries)
    phase_file = os.environ.get(_PHASE_VARIABLE)
    if sys.version_info >= (3, 6) and phase_file:
        sys.meta_path.insert(0, _Finder(phase_file))


try:  # noqa: SIM105  Python 2 has no suppress
    _start()
except Exception:  # noqa: BLE001  the program starts without us
    pass

# Python 2 clears a module that nothing refers to, even while it runs.
_this = sys.modules.pop("sitecustomize", None)
if _HERE not in sys.path:
    __import__("sitecustomize")
