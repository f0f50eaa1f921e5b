"""The command's environment, by which its Python processes mark phases of their frameworks."""

from __future__ import annotations

import os

from . import frameworks

#: holds the sitecustomize that each Python process of the command imports when it starts
STARTUP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "startup")


def instrumented(environment: dict[str, str]) -> dict[str, str]:
    """Return the environment that brings each Python process to `startup/`.

    Where the user cannot read that, or PYTHONPATH cannot name it since it has a colon, the
    environment stays as it is.
    """
    if os.pathsep in STARTUP or not os.access(os.path.join(STARTUP, "sitecustomize.py"), os.R_OK):
        return environment
    return frameworks.instrumented(environment, STARTUP)
