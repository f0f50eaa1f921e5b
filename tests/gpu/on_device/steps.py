"""The steps, the most valuable first; each runs in a process of its own, within its own time."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cvmprof.errors import CvmprofError

from . import api, facts, injection, late, loads, mounted, overhead
from .rows import Report
from .site import Site, read_site


@dataclass(frozen=True)
class Step:
    """``limit_s``: how long it may take."""

    name: str
    run: Callable[[Site, Report], None]
    limit_s: float


STEPS = (
    Step("facts", facts.gather, 60),
    Step("library", injection.check_library, 30),
    Step("model", mounted.mount_model, 60),
    Step("cold", loads.load_cold, 90),
    Step("warm", loads.load_warm, 60),
    Step("twin", loads.compare_twin, 60),
    Step("late", late.delay_chunks, 90),
    Step("api", api.compare_sources, 60),
    Step("beside", loads.record_beside_profiler, 60),
    Step("rate", api.launch_at_rates, 90),
    Step("overhead", overhead.measure, 200),
)


def main(name: str, site_file: str) -> int:
    """Run one step. What stops it becomes a row."""
    site = read_site(Path(site_file))
    report = Report(name, site.rows)
    step = next(each for each in STEPS if each.name == name)
    try:
        step.run(site, report)
    except CvmprofError as error:
        report.check("ended", "yes", f"no: {error.fact}; {error.help_text}", good=False)
    except Exception as error:  # noqa: BLE001  a machine that can be had for minutes: the others go on
        traceback.print_exc()
        report.check("ended", "yes", f"no: {error!r}", good=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
