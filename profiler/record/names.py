"""Names of the files that a recorder writes. The session creates them and hands them over open."""

from __future__ import annotations

from ...probes import events

JOURNAL = "journal.jsonl"
TOUCH_FILES = ("touches.keys.bin", "touches.values.bin")
#: what can be in progress when recording stops
OPEN_LAYOUTS = (
    events.THREAD, events.REQUEST, events.CALL, events.DOWNLOAD, events.GPU_CALL,
    events.GPU_LAUNCHES,
)  # fmt: skip


def ring_file(layout: events.Layout) -> str:
    """The spool file of a ring."""
    return f"{layout.name}.ring"


def open_file(layout: events.Layout) -> str:
    """The spool file of what was in progress when recording stopped."""
    return f"open.{layout.name}.bin"


def spool_files() -> tuple[str, ...]:
    """All of them, besides the journal."""
    return (*map(ring_file, events.RINGS), *map(open_file, OPEN_LAYOUTS), *TOUCH_FILES)
