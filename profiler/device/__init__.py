"""What the device did: operations, samples. Today the runner's calls stand in for a GPU."""

from __future__ import annotations
