"""The three sides of a run, joined: what attribution and health are made from."""

from __future__ import annotations

from dataclasses import dataclass

from .client.side import ClientSide
from .kernel.side import KernelSide
from .wire.side import WireSide


@dataclass(frozen=True)
class Sides:
    """The kernel's, the client's and the network's side of one run.

    ``client.fetches`` are completed here: see `wire.completed_fetches`.
    """

    kernel: KernelSide
    client: ClientSide
    wire: WireSide
