"""The HTML page."""

from __future__ import annotations
