"""The commands, one a file. They load at every start, so heavy imports stay inside functions."""

from __future__ import annotations
