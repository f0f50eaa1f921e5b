"""As the user, while the command runs: start, hold, follow and stop it."""

from __future__ import annotations
