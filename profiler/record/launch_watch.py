"""Watching launches within a budget: above it their probes are released, and attached again later.

They are attached and released by a thread: the rings must be drained meanwhile.
"""

from __future__ import annotations

import threading
from typing import Callable

from . import attach
from .driver_probes import DriverProbes
from .launch_budget import LaunchBudget


class LaunchWatch:
    """Says in the journal from when launches are not watched (``launches``, watched false), and
    from when they are again. ``note`` adds a line to it. If they cannot be attached again, they
    stay unwatched.
    """

    def __init__(
        self, probes: DriverProbes, budget: LaunchBudget, note: Callable[..., None]
    ) -> None:
        self._probes = probes
        self._budget = budget
        self._note = note
        self._watched = True
        self._released_ns = 0
        self._unwatched_ns = 0
        self._changing: threading.Thread | None = None
        self._refusal: str | None = None

    def step(self, now_ns: int) -> None:
        """Keep to the budget."""
        if self._changing is not None:
            if self._changing.is_alive():
                return
            self._changing = None
            if self._watched:
                self._finish_probing(now_ns)
        if self._refusal is None and self._budget.allows(now_ns, self._watched) != self._watched:
            self._change(now_ns)

    def _change(self, now_ns: int) -> None:
        """Begin to release the probes on launches, or to attach them."""
        self._watched = not self._watched
        if not self._watched:
            self._released_ns = now_ns
            self._note("launches", watched=False)
            self._note_row("launches were not watched all the time")
        work = self._probe if self._watched else self._probes.release_launches
        self._changing = threading.Thread(target=work, daemon=True)
        self._changing.start()

    def _probe(self) -> None:
        self._refusal = self._probes.probe_launches()

    def _finish_probing(self, now_ns: int) -> None:
        """The probes are attached again, or the kernel refused it."""
        self._watched = self._refusal is None
        if self._watched:
            self._unwatched_ns += now_ns - self._released_ns
            self._note("launches", watched=True)

    def stop(self, now_ns: int) -> None:
        """Say for how long launches were not watched, if they were not."""
        on = self._watched and self._changing is None
        unwatched_ns = self._unwatched_ns + (0 if on else now_ns - self._released_ns)
        if unwatched_ns:
            self._note_row(f"launches were not watched for {unwatched_ns / 1e9:.1f} s")

    def _note_row(self, fact: str) -> None:
        refused = f", and could not be again: {self._refusal}" if self._refusal else ""
        rows = self._probes.rows_of_launches(f"{fact}: {self._budget.reason}{refused}")
        self._note("probes", rows=attach.rows(rows))
