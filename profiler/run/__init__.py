"""The run directory: written, decoded, read."""

from __future__ import annotations
