"""What a device did, whoever says so: counts, and the time in which kernels ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby, pairwise


@dataclass(frozen=True, order=True)
class Operation:
    """One operation of a device; ``kind``: kernel, copy or memset."""

    kind: str
    device: int
    start_ns: int
    end_ns: int
    bytes: int


@dataclass(frozen=True)
class Gap:
    """A time in which no kernel ran on a device."""

    device: int
    start_ns: int
    end_ns: int

    @property
    def ns(self) -> int:
        return self.end_ns - self.start_ns


@dataclass(frozen=True)
class Activity:
    """The operations, in any order."""

    operations: tuple[Operation, ...]

    def count(self, kind: str) -> int:
        """How many of a kind there were."""
        return Counter(each.kind for each in self.operations)[kind]

    def bytes_copied(self) -> int:
        return sum(each.bytes for each in self.operations if each.kind == "copy")

    def busy_ns(self) -> int:
        """Time in which a kernel ran, over all devices."""
        return sum(end - start for spans in self._busy().values() for start, end in spans)

    def gaps(self) -> list[Gap]:
        """The times between kernels, from the first kernel of a device to its last."""
        return [
            Gap(device, before[1], after[0])
            for device, spans in self._busy().items()
            for before, after in pairwise(spans)
        ]

    def _busy(self) -> dict[int, list[tuple[int, int]]]:
        kernels = sorted(each for each in self.operations if each.kind == "kernel")
        return {
            device: united((each.start_ns, each.end_ns) for each in of_device)
            for device, of_device in groupby(kernels, key=lambda each: each.device)
        }


def united(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans that do not overlap, of spans sorted by their start."""
    result = list[tuple[int, int]]()
    for start, end in spans:
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], end))
        else:
            result.append((start, end))
    return result


def worst(gaps: Iterable[Gap], count: int) -> list[Gap]:
    """The longest gaps, in the order of time."""
    longest = sorted(gaps, key=lambda gap: gap.ns, reverse=True)[:count]
    return sorted(longest, key=lambda gap: gap.start_ns)
