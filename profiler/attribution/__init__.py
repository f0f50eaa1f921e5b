"""Where each nanosecond went: the tiling of every target thread."""

from __future__ import annotations
