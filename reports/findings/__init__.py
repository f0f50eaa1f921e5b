"""What the numbers mean, in sentences."""

from __future__ import annotations
