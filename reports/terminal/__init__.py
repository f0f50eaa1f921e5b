"""What the terminal shows."""

from __future__ import annotations
