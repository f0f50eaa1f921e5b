"""How much of a process's time may be spent on watching its launches."""

from __future__ import annotations

#: so much may always be spent, so that a short run, or a load, is watched whole
_FIRST_NS = 100_000_000
#: launches are watched again when so much may be spent
_WORTHWHILE_NS = 50_000_000


class LaunchBudget:
    """What watching has cost each process, against a share of the time since it began.

    ``percent`` of that time may be spent, where one launch costs ``hit_ns``. ``reason``: why
    launches are not watched, where they are not.
    """

    def __init__(self, percent: float, hit_ns: int, start_ns: int) -> None:
        self.reason = (
            f"each costs {hit_ns / 1000:.1f} µs, and all more than {percent:g} % of the run time"
        )
        self._share = percent / 100
        self._hit_ns = hit_ns
        self._start_ns = start_ns
        self._launches: dict[int, int] = {}

    def count(self, pid: int, launches: int) -> None:
        """Some launches of a process were watched."""
        self._launches[pid] = self._launches.get(pid, 0) + launches

    def allows(self, now_ns: int, watched: bool) -> bool:
        """Whether launches may be watched from now on; ``watched``: whether they are now."""
        spent_ns = self._hit_ns * max(self._launches.values(), default=0)
        allowed_ns = max(_FIRST_NS, self._share * (now_ns - self._start_ns))
        return spent_ns + (0 if watched else _WORTHWHILE_NS) <= allowed_ns
