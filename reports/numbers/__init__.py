"""A run in numbers, each computed once."""

from __future__ import annotations
