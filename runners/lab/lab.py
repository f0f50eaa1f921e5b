"""The lab as the command line uses it: publish, serve, mount, unmount, cold."""

from __future__ import annotations

from pathlib import Path

from . import publisher, serving
from .cold import ColdResult, Cooled, Emptied, cached_bytes, cold
from .layout import DEFAULT_REPOSITORY, Lab
from .mounting import Client, MountOptions, chosen_client, mount, mounts, unmount
from .publisher import Cutting, Published
from .server import Access, read_access_log
from .serving import Serving, await_stalled, settle
from .shaping import Rule, Shaping, write_orders

__all__ = [
    "DEFAULT_REPOSITORY",
    "Access",
    "Client",
    "ColdResult",
    "Cooled",
    "Cutting",
    "Emptied",
    "Lab",
    "MountOptions",
    "Published",
    "Rule",
    "Serving",
    "Shaping",
    "accesses",
    "await_stalled",
    "cached_bytes",
    "chosen_client",
    "cold",
    "mount",
    "mounts",
    "order",
    "publish",
    "serve",
    "serve_here",
    "settle",
    "stop",
    "unmount",
]

DEFAULT_PORT = 8123


def publish(
    lab: Lab, source: Path, cutting: Cutting | None = None, level: int = publisher.DEFAULT_LEVEL
) -> Published:
    """Make the repository's content equal to the directory ``source`` (see ``publisher.publish``).

    A client that has the repository mounted sees the change when it is mounted again.
    """
    return publisher.publish(source, lab, cutting, level)


def serve(lab: Lab, port: int = 0, shaping: Shaping | None = None) -> Serving:
    """Serve in the background; a running server takes the new orders. Port 0 takes a free port."""
    return serving.start(lab, port, shaping or Shaping())


def serve_here(lab: Lab, port: int = DEFAULT_PORT, shaping: Shaping | None = None) -> int:
    """Serve in the foreground until SIGTERM or SIGINT; returns the exit status."""
    return serving.run(lab, port, shaping or Shaping())


def order(lab: Lab, shaping: Shaping) -> None:
    """Give the server new orders, from its next request on."""
    write_orders(lab.orders, shaping)


def accesses(lab: Lab) -> list[Access]:
    """The access log, after every request so far is over: ground truth."""
    settle(lab)
    return read_access_log(lab.access_log)


def stop(lab: Lab, force: bool = False) -> None:
    """Unmount everything that this lab mounted, and stop its server."""
    for mountpoint in mounts(lab):
        unmount(lab, mountpoint, force)
    serving.stop(lab)
