"""Orders for the lab's server: its speed, and what goes wrong with which object.

They are a JSON file that the server reads again whenever it changes, so a running server takes new
orders with the next request. It counts the matches of each rule from then on.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from ...errors import CvmprofError
from .layout import make_directory

Action = Literal["status", "stall", "corrupt", "delay", "truncate", "freeze", "drop"]


@dataclass(frozen=True)
class Rule:
    """One thing that goes wrong or slowly.

    ``action``: ``status`` answers with HTTP ``status``; ``stall`` never answers while the client
    waits; ``corrupt`` flips one byte of the body; ``delay`` waits ``delay_s`` more before the first
    byte; ``truncate`` ends the connection after half of the body; ``freeze`` sends no more than
    that half, but leaves it open; ``drop`` ends it without an answer. ``path`` is a regular
    expression searched in the URL's path. The first ``skip`` matching requests pass unharmed, the
    next ``times`` are hit (None: all that follow).
    """

    action: Action
    path: str = ""
    status: int = 503
    delay_s: float = 0.0
    skip: int = 0
    times: int | None = None

    def __post_init__(self) -> None:
        if self.action not in get_args(Action):
            actions = ", ".join(get_args(Action))
            raise CvmprofError(
                f"{self.action!r} is not a fault of the lab", f"use one of {actions}"
            )
        if not 400 <= self.status <= 599:
            raise CvmprofError(
                f"{self.status} is not a status of an error", "use one from 400 to 599, such as 503"
            )
        try:
            re.compile(self.path)
        except re.error as error:
            raise CvmprofError(
                f"{self.path!r} is not a regular expression: {error}",
                "escape its special characters",
            ) from error


@dataclass(frozen=True)
class Shaping:
    """Latency before every object's first byte, bytes/s of each connection (None: no limit)."""

    latency_s: float = 0.0
    bandwidth_bytes_s: float | None = None
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        if self.latency_s < 0 or (
            self.bandwidth_bytes_s is not None and self.bandwidth_bytes_s <= 0
        ):
            raise CvmprofError(
                "a latency below zero, or a bandwidth of zero or less, is not possible",
                "give a latency such as 0.02 s and a bandwidth above zero, or leave them out",
            )


def write_orders(file: Path, shaping: Shaping) -> None:
    """Give these orders to a server, running or not yet started."""
    make_directory(file.parent)
    temporary = file.with_suffix(f".{os.getpid()}.{time.monotonic_ns()}")
    temporary.write_text(json.dumps(asdict(shaping)))
    os.replace(temporary, file)


def read_orders(file: Path) -> Shaping:
    """The orders in ``file``; no file means full speed and no fault.

    Raises CvmprofError if the file is not what ``write_orders`` writes.
    """
    try:
        fields = cast("Mapping[str, object]", json.loads(file.read_text()))
        rules = tuple(Rule(**rule) for rule in cast("list[dict[str, object]]", fields["rules"]))  # type: ignore[arg-type]
        return Shaping(
            latency_s=cast("float", fields["latency_s"]),
            bandwidth_bytes_s=cast("float | None", fields["bandwidth_bytes_s"]),
            rules=rules,
        )
    except FileNotFoundError:
        return Shaping()
    except (ValueError, KeyError, TypeError) as error:
        raise CvmprofError(
            f"{file} does not hold orders: {error}", "delete it and order again"
        ) from error
