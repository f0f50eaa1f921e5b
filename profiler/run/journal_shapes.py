"""What each line of the journal must look like: whoever reads it relies on that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

MAX_PID = 2**31 - 1


@dataclass(frozen=True)
class Whole:
    """A whole number within bounds, both included; by default any that a table can hold."""

    low: int = -(2**63)
    high: int = 2**63 - 1

    def wrong(self, value: object) -> Iterator[str]:
        """Yield what is wrong with a value, if anything is."""
        if type(value) is not int or not self.low <= value <= self.high:
            yield f"is not a whole number from {self.low:,} to {self.high:,}"


@dataclass(frozen=True)
class Of:
    """A value of one of some types; ``name`` says which in words."""

    name: str
    types: tuple[type, ...]

    def wrong(self, value: object) -> Iterator[str]:
        """Yield what is wrong with a value, if anything is."""
        if type(value) not in self.types:
            yield f"is not {self.name}"


@dataclass(frozen=True)
class Maybe:
    """A value that may be null, or absent."""

    shape: Shape

    def wrong(self, value: object) -> Iterator[str]:
        """Yield what is wrong with a value, if anything is."""
        if value is not None:
            yield from self.shape.wrong(value)


@dataclass(frozen=True)
class Rows:
    """A list of values that look alike."""

    shape: Shape

    def wrong(self, value: object) -> Iterator[str]:
        """Yield what is wrong with a value, if anything is."""
        if not isinstance(value, list):
            yield "is not a list"
            return
        for number, each in enumerate(cast("list[object]", value)):
            yield from _within(f"[{number}]", self.shape.wrong(each))


@dataclass(frozen=True)
class Fields:
    """An object with certain fields; others may be there too, of shape ``others``."""

    fields: Mapping[str, Shape]
    others: Shape | None = None

    def wrong(self, value: object) -> Iterator[str]:
        """Yield what is wrong with a value, if anything is."""
        if not isinstance(value, dict):
            yield "is not an object"
            return
        pairs = cast("dict[str, object]", value)
        for name, shape in self.fields.items():
            yield from _within(f".{name}", shape.wrong(pairs.get(name)))
        if self.others is not None:
            for name in pairs.keys() - self.fields.keys():
                yield from _within(f".{name}", self.others.wrong(pairs[name]))


Shape = Whole | Of | Maybe | Rows | Fields

_TIME = Whole(0, 2**62)
_PID = Whole(0, MAX_PID)
_TEXT = Of("text", (str,))
_NUMBER = Of("a number", (int, float))
_FLAG = Of("true or false", (bool,))
_TEXTS = Rows(_TEXT)
_OPTIONS = Fields({
    "every_read": Maybe(_FLAG), "all_files": Maybe(_FLAG), "strict": Maybe(_FLAG),
    "instrument": Maybe(_FLAG), "stall_threshold_ns": Maybe(_TIME), "gpu": Maybe(_TEXT),
    "gpu_budget": Maybe(_NUMBER), "until": Maybe(_TEXT), "duration_s": Maybe(_NUMBER),
})  # fmt: skip
_ATTRIBUTES: dict[str, Shape] = {
    "device": Maybe(_TEXT), "mountpoint": Maybe(_TEXT), "path": Maybe(_TEXT),
    "inode": Maybe(Whole(0, 2**64 - 1)), "reason": Maybe(_TEXT),
    "attributes": Fields({}, others=_TEXT),
}  # fmt: skip
_PROBE = {
    name: Maybe(_TEXT)
    for name in ("event", "family", "target", "build_id", "symbols", "reason")
}  # fmt: skip
_GPU = Fields({
    "index": Whole(0, 2**31 - 1), "uuid": Maybe(_TEXT), "name": Maybe(_TEXT),
    "memory_bytes": Maybe(Whole(0)),
})  # fmt: skip

#: the fields of each kind of line beside ``kind``, as far as they are read
LINES: dict[str, dict[str, Shape]] = {
    "start": {
        "schema_version": Maybe(Whole()), "version": Maybe(_TEXT), "command": Maybe(_TEXTS),
        "utc_offset_ns": Maybe(Whole()), "kernel": Maybe(_TEXT), "machine": Maybe(_TEXT),
        "boot_id": Maybe(_TEXT), "cpus": Maybe(Whole(1)), "uid": Maybe(Whole(0)),
        "backend": Maybe(_TEXT), "options": Maybe(_OPTIONS),
    },
    "child": {"pid": _PID},
    "exit": {"pid": Maybe(_PID), "status": Whole(0, 0xFFFF)},
    "stop": {"complete": Maybe(_FLAG)},
    "mountinfo": {"pid": Maybe(_PID), "text": Maybe(_TEXT)},
    "daemon": {
        "pid": _PID, "name": Maybe(_TEXT), "threads": Maybe(Rows(_PID)), "start_ns": Maybe(_TIME),
    },
    "neighbour": {"pid": _PID, "name": Maybe(_TEXT), "start_ns": Maybe(Whole())},
    "reader": {"pid": _PID},
    "cache": {"pid": _PID, "directory": _TEXT, "names": Maybe(_TEXTS)},
    "library": {"pid": _PID, "path": _TEXT, "opened_ns": _TIME},
    "attributes": {**_ATTRIBUTES, "asked_ns": Maybe(_TIME), "answered_ns": Maybe(_TIME)},
    "attributes_before": {**_ATTRIBUTES, "asked_ns": _TIME, "answered_ns": _TIME},
    "probes": {"rows": Maybe(Rows(Fields(_PROBE)))},
    "hits": {"rows": Maybe(Rows(Fields({"event": Maybe(_TEXT), "hits": Maybe(Whole(0))})))},
    "losses": {"rows": Maybe(Rows(Fields({
        "probe": Maybe(_TEXT), "cause": Maybe(_TEXT), "count": Maybe(Whole(0)),
    })))},
    "incident": {"incident": Maybe(_TEXT), "detail": Maybe(_TEXT), "pid": Maybe(_PID)},
    "launches": {"watched": _FLAG},
    "cpu_sampler": {"allowed_cpus": Maybe(Whole(1))},
    "gpu": {"devices": Rows(_GPU)},
}  # fmt: skip


def fault(line: dict[str, Any]) -> str | None:
    """What is wrong with a line of the journal, None if nothing is. Other kinds are not read."""
    kind = line["kind"]
    if kind not in LINES:
        return None
    shape = Fields({"time_ns": _TIME, **LINES[kind]})
    return next((f"{kind}{words}" for words in shape.wrong(line)), None)


def _within(place: str, faults: Iterator[str]) -> Iterator[str]:
    return (f"{place}{words if words[0] in '.[' else f' {words}'}" for words in faults)
