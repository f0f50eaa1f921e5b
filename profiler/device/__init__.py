"""What the devices did, and the calls that asked for it; samples of their load."""

from __future__ import annotations
