"""What the CVMFS client did with each request: calls, cache lookups, fetches, locks."""

from __future__ import annotations
