"""The diagnosis of a kernel as text for a terminal."""

from __future__ import annotations

from ...probes.compiler import OLDEST_NAME, Compiler
from ...probes.diagnosis import Diagnosis, Observed
from ...probes.gpus import Gpu, Gpus

_FAMILIES = {
    "raw_tracepoint": "tracepoint", "perf_software": "software event", "uprobe": "uprobes on",
    "uprobe_multi": "uprobes on", "fentry": "fentry", "fexit": "fentry and fexit",
    "kprobe": "kprobe", "kretprobe": "kprobe and kretprobe", "system call": "system calls,",
}  # fmt: skip
_NAME, _SHOWS = 22, 33
#: more attach points than these are counted, not named
_NAMED = 2


def render_doctor(diagnosis: Diagnosis) -> str:
    """Return whether this machine can be recorded on, what observes each event, for each event
    that is not observed why not and how to get it, and the GPUs.
    """
    kernel = f"kernel {diagnosis.release}, {diagnosis.machine}"
    lines = [kernel, *_bcc(diagnosis.bcc), *_verdict(diagnosis), ""]
    if diagnosis.kernel["untold"] is not None:
        return "\n".join([*lines[:-1], *_gpus(diagnosis.gpus)]) + "\n"
    seen = [observed for observed in diagnosis.events if observed.family is not None]
    unseen = [observed for observed in diagnosis.events if observed.family is None]
    lines.append(f"  {'event':<{_NAME}}{'shows':<{_SHOWS}}observed by")
    lines += map(_seen, seen)
    for observed in unseen:
        lines += _unseen(observed)
    lines += ["", "what --backend may force (the kernel may still refuse to attach it)"]
    for name, refused in diagnosis.backends.items():
        lines.append(f"  {name:<{_NAME}}{f'no: {refused}' if refused else 'yes'}")
    return "\n".join([*lines, *_gpus(diagnosis.gpus)]) + "\n"


def _gpus(gpus: Gpus | None) -> list[str]:
    if gpus is None:
        return []
    others = [f"  {each:<{_NAME}}not recorded: only GPUs of NVIDIA are" for each in gpus.others]
    if gpus.driver is None and gpus.unsampled is None:
        return ["", "GPUs", "  no NVIDIA driver", *others]
    parts = {
        "NVIDIA driver": gpus.driver or "not loaded",
        **{f"GPU {gpu.index}": _gpu(gpu) for gpu in gpus.devices},
        "libcuda": gpus.libcuda or "not found",
        "CUPTI": gpus.cupti or "not found; the command's own environment may have one",
        "samples": f"no: {gpus.unsampled}" if gpus.unsampled else "by NVML, 20 times a second",
    }
    return ["", "GPUs", *(f"  {name:<{_NAME}}{text}" for name, text in parts.items()), *others]


def _gpu(gpu: Gpu) -> str:
    memory = None if gpu.memory_bytes is None else f"{gpu.memory_bytes / 2**30:.0f} GiB"
    divided = "divided into MIG instances" if gpu.is_divided else None
    return ", ".join(filter(None, (gpu.name, memory, gpu.uuid, divided)))


def _bcc(bcc: Compiler | None) -> list[str]:
    if bcc is None or bcc.refusal is not None:
        return []
    return [f"bcc {bcc.version} of {bcc.interpreter}: supported ({OLDEST_NAME} or newer is)"]


def _verdict(diagnosis: Diagnosis) -> list[str]:
    if not diagnosis.hindrances:
        unseen = [each.event for each in diagnosis.events if each.family is None]
        return ["cvmprof can record here" + (f", except: {', '.join(unseen)}" if unseen else "")]
    lines = ["cvmprof CANNOT record here:"]
    for lack in diagnosis.hindrances:
        lines += [f"  {lack.reason}", f"    to fix it: {lack.way_out}"]
    return lines


def _seen(observed: Observed) -> str:
    family = _FAMILIES[str(observed.family)]
    more = len(observed.targets) - _NAMED
    named = ", ".join(observed.targets[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    return f"  {observed.event:<{_NAME}}{observed.tells:<{_SHOWS}}{family} {named}"


def _unseen(observed: Observed) -> list[str]:
    ways = [f"{word} {way}" for word, way in zip(_WORDS, observed.ways_out, strict=False)]
    return [
        "",
        f"  {observed.event:<{_NAME}}NOT OBSERVED: {observed.reason}",
        f"  {'':<{_NAME}}without it: {observed.lost}",
        *(f"  {'':<{_NAME}}{way}" for way in ways),
    ]


_WORDS = ("to get it:", *["       or:"] * 9)
