"""The colours and words of the page: one meaning has one colour, and one colour one meaning.

The causes are six families of hue (blue, rose, green, violet, orange, grey); within a family they
differ in lightness. ``first_byte`` (latency) and ``transfer`` (bandwidth) have the strongest
contrast among the oranges: to show which of the two it was is what the page is for. All colours are
as far apart as so many can be, also for people with each of the common colour blindnesses; the
tests measure it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..profiler.tables import CAUSES


@dataclass(frozen=True)
class CauseStyle:
    """A cause as people see it: its family, colour (#rrggbb) and meaning in a few words."""

    family: str
    colour: str
    meaning: str


FAMILIES: tuple[str, ...] = ("CPU", "GPU", "Kernel", "Daemon", "Network", "Not explained")

STYLES: dict[str, CauseStyle] = {
    "cpu": CauseStyle("CPU", "#5f97cb", "running, page-cache hits included"),
    "copy": CauseStyle("CPU", "#8cc8f6", "copying from the page cache, mapping pages"),
    "runqueue": CauseStyle("CPU", "#033982", "runnable, or the client's thread is; no CPU is free"),
    "stopped": CauseStyle("CPU", "#463cfa", "stopped by a signal, a tracer or a frozen cgroup"),
    "driver": CauseStyle("GPU", "#945169", "in the GPU's driver: copying, loading, allocating"),
    "device": CauseStyle("GPU", "#d6a1bc", "in the GPU's driver, waiting for the device"),
    "launch": CauseStyle("GPU", "#42182b", "submitted to the device, not begun"),
    "disk": CauseStyle("Kernel", "#0c6b4c", "local disk"),
    "fuse_queue": CauseStyle("Kernel", "#66bc8c", "request waits for the daemon to take it"),
    "reply": CauseStyle("Kernel", "#b6f0d4", "answered, not yet running again"),
    "daemon": CauseStyle("Daemon", "#886ad2", "inside the daemon, not divided further"),
    "daemon_lock": CauseStyle("Daemon", "#2c0861", "waiting for a lock in the daemon"),
    "cache_read": CauseStyle("Daemon", "#af9ef2", "served from the client's cache"),
    "catalog": CauseStyle("Daemon", "#7939a4", "looking up or fetching a catalog"),
    "decompress": CauseStyle("Daemon", "#b847ab", "unpacking and verifying"),
    "cache_write": CauseStyle("Daemon", "#eed7ff", "writing into the client's cache"),
    "fetch": CauseStyle("Network", "#c68a36", "fetching an object, not divided further"),
    "fetch_joined": CauseStyle("Network", "#fbd582", "waiting for another thread's download"),
    "fetch_queue": CauseStyle("Network", "#997359", "in the download queue, or between two tries"),
    "connect": CauseStyle("Network", "#5a1b00", "connecting to the server"),
    "first_byte": CauseStyle("Network", "#c74a04", "waiting for the first byte: latency"),
    "transfer": CauseStyle("Network", "#f2b100", "receiving bytes: bandwidth"),
    "blocked": CauseStyle("Not explained", "#c9cbcc", "asleep outside file operations"),
    "unknown": CauseStyle("Not explained", "#444649", "could not be observed"),
}

#: the causes in the order of the legend and of stacked bars: by family
ORDER: tuple[str, ...] = tuple(STYLES)

#: colours by position in ``CAUSES``
CAUSE_COLOURS: tuple[str, ...] = tuple(STYLES[cause].colour for cause in CAUSES)

#: what failed, died or hung, and findings that warn; other incidents; findings of nothing wrong
FAILED_COLOUR, INCIDENT_COLOUR, GOOD_COLOUR = "#b11e2d", "#061e39", "#1b5e00"

#: what a device does, by kind: how it is called and its colour
DEVICE_STYLES = {
    "kernel": ("kernel", "#027986"),
    "graph": ("graph", "#003846"),
    "run": ("inference", "#1fbfd4"),
    "copy_in": ("copy from the host", "#bec180"),
    "copy_out": ("copy to the host", "#605d33"),
    "copy_device": ("copy inside the device", "#8c883b"),
    "memset": ("memory set", "#d4f661"),
}
#: where samples of a device are drawn, and the line of each of their columns
SAMPLED_COLOUR = "#f1f5f8"
SAMPLE_COLOURS = {
    "utilisation_percent": "#4c11a4",
    "memory_bytes": "#3a76f7",
    "power_w": "#d63a80",
    "pcie_rx_bytes_s": "#8f3b00",
}

#: a phase; neighbours take turns
PHASE_COLOURS = ("#4d5774", "#6c8192")

#: how often a part of a file was touched, from never to most
HEAT_COLOURS = ("#ffffff", "#c9dd9f", "#8fb33a", "#2f4500")

#: a log's lookups of what was not in the client's cache
MISSED_COLOUR = "#e16eba"
#: colours of what a log counts: calls, cache hits, cache misses, downloads
LOG_COLOURS = (
    STYLES["daemon"].colour, STYLES["cache_read"].colour, MISSED_COLOUR, STYLES["fetch"].colour,
)  # fmt: skip

#: outlines in the lanes: the piece that was chosen, and those of the same fetch
CHOSEN_COLOUR, SAME_FETCH_COLOUR = "#0b57d0", "#111111"

#: every colour with its meaning but those of lightness only: paper, ink, and the heat between
MEANINGS: dict[str, str] = {
    **{cause: style.colour for cause, style in STYLES.items()},
    **dict(DEVICE_STYLES.values()),
    **{f"line of {column}": colour for column, colour in SAMPLE_COLOURS.items()},
    "sampled": SAMPLED_COLOUR,
    **{f"phase, turn {turn}": colour for turn, colour in enumerate(PHASE_COLOURS)},
    **{f"heat, step {step}": colour for step, colour in enumerate(HEAT_COLOURS) if step},
    "not in the client's cache": MISSED_COLOUR,
    "failed": FAILED_COLOUR,
    "other incident": INCIDENT_COLOUR,
    "nothing wrong": GOOD_COLOUR,
    "chosen": CHOSEN_COLOUR,
    "of the same fetch": SAME_FETCH_COLOUR,
}  # fmt: skip


def ink_on(colour: str) -> str:
    """Return black or white, whichever is easier to read on ``colour``."""
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = (((each + 0.055) / 1.055) ** 2.4 if each > 0.04045 else each / 12.92
              for each in channels)  # fmt: skip
    luminance = sum(w * each for w, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    # (1 + 0.05) / (l + 0.05) = (l + 0.05) / (0 + 0.05), the contrasts of WCAG 2.2
    return "#ffffff" if luminance < 0.179 else "#000000"


def held_by(causes_ns: Mapping[str, int]) -> str:
    """Return the largest cause of the family with the largest sum."""
    family = next(iter(by_family(causes_ns)), "Not explained")
    members = (cause for cause in ORDER if STYLES[cause].family == family)
    return max(members, key=lambda cause: causes_ns.get(cause, 0))


def by_family(causes_ns: Mapping[str, int]) -> dict[str, int]:
    """Return the sums of causes by family, the largest first; families without time are absent."""
    sums = dict.fromkeys(FAMILIES, 0)
    for cause, ns in causes_ns.items():
        sums[STYLES[cause].family] += ns
    ordered = sorted(sums.items(), key=lambda item: -item[1])
    return {family: ns for family, ns in ordered if ns}
