"""The sides of a run, joined: what attribution and health are made from."""

from __future__ import annotations

from dataclasses import dataclass

from .client.side import ClientSide
from .device.side import DeviceSide
from .kernel.side import KernelSide
from .wire.side import WireSide


@dataclass(frozen=True)
class Sides:
    """The kernel's, the client's, the network's and the device's side of one run.

    ``client.fetches`` are completed here: see `wire.completed_fetches`.
    """

    kernel: KernelSide
    client: ClientSide
    wire: WireSide
    device: DeviceSide
