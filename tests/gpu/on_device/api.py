"""The source cuda_api: against cupti, and at high rates of launches."""

from __future__ import annotations

from cvmprof.errors import CvmprofError

from .mounted import model_path
from .recorded import read_api, read_cupti
from .recording import Workload, recorded, untraced
from .rows import Report
from .site import Site


def compare_sources(site: Site, report: Report) -> None:
    """The warm load again, by uprobes on libcuda: as many launches, copies and memory sets."""
    run = site.run("api")
    workload = Workload(("load", model_path(site), site.sizes.steps), site.framework)
    done = recorded(site, run, "api", workload)
    report.fact("recorded", f"{done.kept}, {done.measured['load_s']:.2f} s of loading")
    of_api, of_cupti = read_api(run), read_cupti(site.run("warm"))
    for kind in ("launch", "copy", "memset", "synchronize"):
        operation = {"launch": "kernel"}.get(kind, kind)
        expected = (
            of_cupti.calls[kind] if kind == "synchronize" else of_cupti.activity.count(operation)
        )
        report.equal(f"{kind}, cupti's and ours", expected, of_api.calls[kind])
    report.fact("launches watched", "all the time" if of_api.watched else "not all the time")


def launch_at_rates(site: Site, report: Report) -> None:
    """What a launch costs its caller, and how many are counted."""
    for rate in site.sizes.rates:
        for gpu in ("", "cupti", "api"):
            try:
                _launch(site, report, rate, gpu)
            except CvmprofError as error:
                report.fact(f"{rate:,} launches/s, {gpu or 'untraced'}", error.fact)


def _launch(site: Site, report: Report, rate: int, gpu: str) -> None:
    workload = Workload(("launches", rate, site.sizes.rate_s), "driver")
    run = site.run(f"rate-{rate}-{gpu}")
    measured = recorded(site, run, gpu, workload).measured if gpu else untraced(site, workload)
    count, named = round(measured["launches"]), f"{rate:,} launches/s, {gpu or 'untraced'}"
    achieved = count / measured["took_s"]
    report.fact(named, f"{achieved:,.0f}/s reached, {measured['launch_ns']:,.0f} ns each")
    if gpu == "cupti":
        report.equal(f"{named}: kernels", count, read_cupti(run).activity.count("kernel"))
    elif gpu:
        kept = read_api(run)
        seen = kept.calls["launch"]
        found = f"{seen:,}" + ("" if kept.watched else ", backed off")
        good = seen == count if kept.watched else 0 < seen < count
        report.check(f"{named}: counted", f"{count:,}", found, good=good)
