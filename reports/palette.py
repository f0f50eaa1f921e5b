"""The colours and words of the page: one fixed set for the closed list of causes.

Six families of hue (blue, rose, green, violet, orange, grey) that people with the common colour
blindnesses can distinguish; within a family the lightness differs. ``first_byte`` (latency) and
``transfer`` (bandwidth) have the strongest contrast among the oranges: to show which of the two it
was is what the page is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..probes.gpu import CALL_KINDS
from ..profiler.tables import CAUSES


@dataclass(frozen=True)
class CauseStyle:
    """A cause as people see it: its family, colour (#rrggbb) and meaning in a few words."""

    family: str
    colour: str
    meaning: str


#: the families, each with the colour of what sums several of its causes
FAMILY_COLOURS = {
    "CPU": "#5b8fc4", "GPU": "#9c5f66", "Kernel": "#66b99f", "Daemon": "#8a6bb1",
    "Network": "#e08a1e", "Not explained": "#a9adb3",
}  # fmt: skip
FAMILIES = tuple(FAMILY_COLOURS)

STYLES: dict[str, CauseStyle] = {
    "cpu": CauseStyle("CPU", "#5b8fc4", "running, page-cache hits included"),
    "copy": CauseStyle("CPU", "#a9cbe8", "copying from the page cache, mapping pages"),
    "runqueue": CauseStyle("CPU", "#1f4e79", "runnable, or the client's thread is; no CPU is free"),
    "stopped": CauseStyle(
        "CPU", "#0e2238", "stopped by a signal, a tracer or its cgroup's freezer"
    ),
    "driver": CauseStyle("GPU", "#9c5f66", "in the GPU's driver: copying, loading, allocating"),
    "device": CauseStyle("GPU", "#d9a0a6", "in the GPU's driver, waiting for the device"),
    "launch": CauseStyle("GPU", "#6b2f36", "submitted to the device, not begun"),
    "disk": CauseStyle("Kernel", "#2c7a62", "local disk"),
    "fuse_queue": CauseStyle("Kernel", "#66b99f", "request waits for the daemon to take it"),
    "reply": CauseStyle("Kernel", "#b9e3d4", "answered, not yet running again"),
    "daemon": CauseStyle("Daemon", "#8a6bb1", "inside the daemon, not divided further"),
    "daemon_lock": CauseStyle("Daemon", "#45286e", "waiting for a lock in the daemon"),
    "cache_read": CauseStyle("Daemon", "#bba6d6", "served from the client's cache"),
    "catalog": CauseStyle("Daemon", "#6a4795", "looking up or fetching a catalog"),
    "decompress": CauseStyle("Daemon", "#a8478f", "unpacking and verifying"),
    "cache_write": CauseStyle("Daemon", "#ddcfea", "writing into the client's cache"),
    "fetch": CauseStyle("Network", "#e08a1e", "fetching an object, not divided further"),
    "fetch_joined": CauseStyle("Network", "#fbd99a", "waiting for another thread's download"),
    "fetch_queue": CauseStyle("Network", "#a87b3f", "in the download queue, or between two tries"),
    "connect": CauseStyle("Network", "#6e2c00", "connecting to the server"),
    "first_byte": CauseStyle("Network", "#c8430a", "waiting for the first byte: latency"),
    "transfer": CauseStyle("Network", "#f7b733", "receiving bytes: bandwidth"),
    "blocked": CauseStyle("Not explained", "#d9dbde", "asleep outside file operations"),
    "unknown": CauseStyle("Not explained", "#4a4a4a", "could not be observed"),
}

#: the causes in the order of the legend and of stacked bars: by family
ORDER: tuple[str, ...] = tuple(STYLES)

#: colours by position in ``CAUSES``
CAUSE_COLOURS: tuple[str, ...] = tuple(STYLES[cause].colour for cause in CAUSES)

#: what a device does, by kind: how it is called and its colour
DEVICE_STYLES = {
    "kernel": ("kernel", "#2f6f8f"),
    "graph": ("graph", "#0d3349"),
    "run": ("inference", "#2f6f8f"),
    "copy_in": ("copy from the host", "#cc79a7"),
    "copy_out": ("copy to the host", "#7a2e5a"),
    "copy_device": ("copy inside the device", "#c3b091"),
    "memset": ("memory set", "#8c8c1a"),
}
#: calls of the driver, by kind
CALL_COLOURS = dict(
    zip(
        CALL_KINDS,
        ("#7fb3c8", "#cc79a7", "#8c8c1a", "#d9a0a6", "#9c5f66", "#c3b091", "#5d4a3a"),
        strict=True,
    )
)
#: where samples of a device are drawn, and the line of each of their columns
SAMPLED_COLOUR = "#f1f5f8"
SAMPLE_COLOURS = {
    "utilisation_percent": "#2f6f8f",
    "memory_bytes": "#7a2e5a",
    "power_w": "#b07d00",
    "pcie_rx_bytes_s": "#2b2b2b",
}

#: incidents in which something died or hung, and all others
FATAL_COLOUR, INCIDENT_COLOUR = "#8f1d14", "#44546a"

#: colours of what a log counts: calls, cache hits, cache misses, downloads
LOG_COLOURS = ("#9aa7b4", "#4c9a6a", "#d08a2e", "#b4452f")

PHASE_COLOURS = ("#3a5a78", "#7d9bb5", "#506b3f", "#9db38b", "#7a5c3c", "#b79c7b")


def by_family(causes_ns: Mapping[str, int]) -> dict[str, int]:
    """Return the sums of causes by family, the largest first; families without time are absent."""
    sums = dict.fromkeys(FAMILIES, 0)
    for cause, ns in causes_ns.items():
        sums[STYLES[cause].family] += ns
    ordered = sorted(sums.items(), key=lambda item: -item[1])
    return {family: ns for family, ns in ordered if ns}
