"""What happened meanwhile, and whether the recording can be believed."""

from __future__ import annotations
