"""Loads of the model: cold and warm; their twin under torch's profiler; both at once."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cvmprof.errors import CvmprofError
from cvmprof.tests.gpu.stand_ins import read_log

from . import kineto
from .activity import Activity
from .mounted import model_path, mounted
from .recorded import OfCupti, read_cupti
from .recording import Workload, recorded, untraced
from .rows import Report
from .site import Site

#: that two runs of the same kernels may differ in busy time
_BUSY_SHARE = 0.01


def load_cold(site: Site, report: Report) -> None:
    """With the client's cache and the page cache emptied."""
    with suppress(CvmprofError):  # without a mount, from the local file
        mounted(site).cool()
    _load(site, report, "cold")


def load_warm(site: Site, report: Report) -> None:
    """Again, from the page cache."""
    _load(site, report, "warm")


def compare_twin(site: Site, report: Report) -> None:
    """The same load unrecorded, under torch's profiler: what it counts, we counted."""
    profiled = _Profiled(site, "twin")
    untraced(site, profiled.workload)
    twin = profiled.seen()
    ours = read_cupti(site.run("warm")).activity
    report.equal("kernels, torch's and ours", twin.count("kernel"), ours.count("kernel"))
    report.equal("copies, torch's and ours", twin.count("copy"), ours.count("copy"))
    report.equal("memory sets, torch's and ours", twin.count("memset"), ours.count("memset"))
    share = abs(twin.busy_ns() - ours.busy_ns()) / max(1, twin.busy_ns())
    found = f"{ours.busy_ns() / 1e6:,.2f} ms, {100 * share:.2f} % apart"
    report.check("busy", f"{twin.busy_ns() / 1e6:,.2f} ms", found, good=share <= _BUSY_SHARE)


def record_beside_profiler(site: Site, report: Report) -> None:
    """Torch's profiler in a process that is recorded: it keeps its place, and ours says so."""
    alone = kineto.read_trace(site.work / "twin.json")
    run = site.run("beside")
    profiled = _Profiled(site, "beside")
    done = recorded(site, run, "cupti", profiled.workload)
    report.fact("recorded", f"{done.kept}, {done.measured['load_s']:.2f} s of loading")
    report.equal("kernels that torch saw", alone.count("kernel"), profiled.seen().count("kernel"))
    troubles = "; ".join(read_cupti(run).troubles) or "nothing"
    report.check("ours says", "another tool …", troubles, good="another tool" in troubles)


def _load(site: Site, report: Report, name: str) -> None:
    sizes, run = site.sizes, site.run(name)
    workload = Workload(("load", model_path(site), sizes.steps), site.framework)
    done = recorded(site, run, "cupti", workload)
    report.fact("loaded", f"in {done.measured['load_s']:.2f} s")
    report.fact("steps", f"{sizes.steps} in {done.measured['steps_s']:.2f} s")
    report.fact("recorded", done.kept)
    _report_cupti(report, read_cupti(run), sizes.model_bytes)


def _report_cupti(report: Report, kept: OfCupti, model_bytes: int) -> None:
    activity = kept.activity
    for process in kept.processes:
        versions = f"{process.get('cupti_version')}, driver {process.get('driver_version')}"
        report.fact("CUPTI", f"{process.get('cupti')}, version {versions}")
    report.check("troubles", "none", "; ".join(kept.troubles) or "none", good=not kept.troubles)
    report.equal("dropped", 0, kept.dropped)
    found = f"{activity.count('kernel'):,}, busy for {activity.busy_ns() / 1e6:,.2f} ms"
    report.check("kernels", "some", found, good=activity.count("kernel") > 0)
    copied = activity.bytes_copied()
    report.check("bytes copied", f"≥ {model_bytes:,}", f"{copied:,}", good=copied >= model_bytes)
    report.fact("calls", ", ".join(f"{count:,} {kind}" for kind, count in kept.calls.most_common()))


@dataclass(frozen=True)
class _Profiled:
    """The load under torch's profiler; in a rehearsal the stand-ins' log stands for its trace, and
    another tool has subscribed to their CUPTI.
    """

    site: Site
    name: str

    @property
    def _trace(self) -> Path:
        return self.site.work / f"{self.name}.json"

    @property
    def _log(self) -> Path:
        return self.site.work / f"{self.name}.log"

    @property
    def workload(self) -> Workload:
        words = ("load", model_path(self.site), self.site.sizes.steps)
        if self.site.rehearsal:
            variables = {"STANDIN_LOG": str(self._log), "STANDIN_CUPTI_SUBSCRIBED": "1"}
            return Workload(words, self.site.framework, variables)
        return Workload((*words, self._trace), self.site.framework)

    def seen(self) -> Activity:
        """What torch's profiler saw."""
        if self.site.rehearsal:
            kineto.write_trace(self._trace, read_log(self._log))
        return kineto.read_trace(self._trace)
