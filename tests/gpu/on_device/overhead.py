"""What recording costs a loop of steps: untraced, cupti and api in turns."""

from __future__ import annotations

import time
from statistics import median

from cvmprof.errors import CvmprofError

from .recording import Workload, recorded, untraced
from .rows import Report
from .site import Site

KINDS = ("untraced", "cupti", "api")
_GOAL = 1.01
_LOOP_LAYERS = 16
#: fewer runs of each kind give a range, not a ratio to go by
_FEWEST = 3


def measure(site: Site, report: Report) -> None:
    """Runs of each kind in turns, as many as the time allows. A kind that fails is left out."""
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    ends_s, longest_s = time.monotonic() + site.sizes.overhead_s, 0.0
    for turn in range(site.sizes.pairs):
        began_s = time.monotonic()
        if began_s + longest_s > ends_s:
            break
        for kind in list(times):
            try:
                times[kind].append(_run(site, kind, turn))
            except CvmprofError as error:
                report.fact(f"{kind} is left out", error.fact)
                del times[kind]
        longest_s = max(longest_s, time.monotonic() - began_s)
    for row in ratios(times):
        report.check(*row[:3], good=row[3])


def ratios(times: dict[str, list[float]]) -> list[tuple[str, str, str, bool]]:
    """For each kind but the first: what, goal, found, whether it is within the goal."""
    base = times.get(KINDS[0], [])
    rows = list[tuple[str, str, str, bool]]()
    for kind in KINDS[1:]:
        own = times.get(kind, [])
        if len(base) < _FEWEST or len(own) < _FEWEST:
            continue
        ratio = median(own) / median(base)
        each = [ours / untraced for ours, untraced in zip(own, base, strict=False)]
        found = f"{ratio:.4f} (n = {len(own)}, {min(each):.4f}–{max(each):.4f})"
        rows.append((f"{kind}, ratio of medians", f"≤ {_GOAL}", found, ratio <= _GOAL))
    return rows


def _run(site: Site, kind: str, turn: int) -> float:
    words = ("loop", _LOOP_LAYERS, site.sizes.side, site.sizes.loop_steps)
    workload = Workload(words, site.framework)
    if kind == KINDS[0]:
        return untraced(site, workload)["loop_s"]
    return recorded(site, site.run(f"loop-{kind}-{turn}"), kind, workload).measured["loop_s"]
