"""cvmprof: where did the time go between the model file and the GPU?

``open_run(path)`` opens the tables of a run, ``phase(name)`` names a part of a program. Both are
imported at first use, so a program that only marks phases loads one small module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .phases import phase
    from .profiler.run.opened import open_run

__version__ = "0.1.0"
__all__ = ["open_run", "phase"]

_HOMES = {"open_run": ".profiler.run.opened", "phase": ".phases"}


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
