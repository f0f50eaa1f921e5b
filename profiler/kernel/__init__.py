"""What the kernel saw: tasks, operations, page faults, mounts, FUSE requests."""

from __future__ import annotations
