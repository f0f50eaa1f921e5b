"""Three chunks of the model come late: are they the three worst stalls?"""

from __future__ import annotations

from pathlib import Path

from cvmprof.runners.lab.lab import Access, Rule, Shaping

from .activity import Gap, worst
from .attributes import chunk_hashes
from .model import tensor_ranges
from .mounted import mounted
from .recorded import read_cupti
from .recording import Workload, recorded
from .rows import Report
from .site import Site

DELAY_S = 0.5
DELAYED_TENSORS = "tensors delayed"
#: in the run's directory: the server's log of the run
ACCESS_LOG = "access.jsonl"


def delay_chunks(site: Site, report: Report) -> None:
    """Load one tensor after the other, each with a kernel; three chunks are delayed."""
    lab = mounted(site)
    lab.cool()
    chunks = delayed_chunks(lab.model, site.sizes.chunk_bytes)
    rules = tuple(Rule("delay", _url_pattern(each), delay_s=DELAY_S) for each in chunks.values())
    lab.order(Shaping(rules=rules))
    run, before = site.run("late"), len(lab.served())
    done = recorded(site, run, "cupti", Workload(("layers", lab.model), site.framework))
    lab.order(Shaping())
    delayed = [access for access in lab.served()[before:] if access.fault == "delay"]
    report.fact(DELAYED_TENSORS, ", ".join(chunks))
    report.equal("chunks delayed", len(chunks), len(delayed))
    report.fact("recorded", f"{done.kept}, {done.measured['layers_s']:.2f} s")
    gaps = read_cupti(run).activity.gaps()
    longest = sorted((gap.ns for gap in gaps), reverse=True)[:4]
    report.fact("longest gaps", ", ".join(f"{ns / 1e6:,.0f} ms" for ns in longest))
    found = matches(worst(gaps, len(chunks)), delayed)
    report.equal("the worst gaps hold the delays", f"{len(chunks)}, in order", f"{found}, in order")
    keep_accesses(run / ACCESS_LOG, lab.lab.access_log, before)


def delayed_chunks(model: Path, chunk_bytes: int) -> dict[str, str]:
    """A chunk in the middle of each of three tensors, spread over the file: its hash, by tensor."""
    hashes, ranges = chunk_hashes(model), tensor_ranges(model)
    names = list(ranges)
    chosen = [names[len(names) * quarter // 4] for quarter in (1, 2, 3)]
    middles = {name: ranges[name][0] + ranges[name][1] // 2 for name in chosen}
    return {name: hashes[middle // chunk_bytes] for name, middle in middles.items()}


def matches(gaps: list[Gap], delayed: list[Access]) -> int:
    """How many gaps hold the end of the delayed request at the same place in the order of time."""
    ends = sorted(access.last_byte_ns or 0 for access in delayed)
    return sum(gap.start_ns <= end <= gap.end_ns for gap, end in zip(gaps, ends, strict=False))


def keep_accesses(to: Path, log: Path, skip: int) -> None:
    """The lines of the access log from one on."""
    to.write_text("".join(line + "\n" for line in log.read_text().splitlines()[skip:]))


def _url_pattern(object_hash: str) -> str:
    return f"{object_hash[:2]}/{object_hash[2:]}"
