"""Runs made from a client's own logs."""

from __future__ import annotations
