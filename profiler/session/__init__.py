"""Runs as the user while the command runs: starts, holds, follows and stops it."""

from __future__ import annotations
