"""The session's end of the socket to the recorder; `record.protocol` has the messages."""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ...errors import CvmprofError
from ..record import protocol


@dataclass(frozen=True)
class RecorderLink:
    """The connection to one recorder."""

    control: socket.socket

    def send(self, kind: str, descriptors: tuple[int, ...] = (), **values: Any) -> None:
        """Send a message. That the recorder has ended is reported by the next `expect`."""
        with suppress(OSError):
            protocol.send(self.control, kind, descriptors, **values)

    def expect(self, kind: str, timeout_s: float) -> dict[str, Any]:
        """Return the next message, of that kind. Raises CvmprofError with what went wrong.

        Late answers to who lives are passed over: their asker has given up.
        """
        ready, message = self._next(timeout_s)
        while message is not None and kind != "living" and message["kind"] == "living":
            ready, message = self._next(timeout_s)
        if message is None:
            fact = "the recorder ended unexpectedly" if ready else "the recorder does not answer"
            help_text = "run it again; if it fails again, report what cvmprof --debug prints"
            raise CvmprofError(fact, help_text)
        if message["kind"] != kind:
            fact = f"the recorder sent {message['kind']!r} instead of {kind!r}"
            help_text = message.get("help_text", "please report this")
            raise CvmprofError(message.get("fact", fact), help_text)
        return message

    def _next(self, timeout_s: float) -> tuple[bool, dict[str, Any] | None]:
        """Whether anything came in time, and the message; None: the recorder has ended."""
        ready = bool(select.select([self.control], [], [], timeout_s)[0])
        return ready, self._received() if ready else None

    def _received(self) -> dict[str, Any] | None:
        try:
            message = protocol.receive(self.control)
        except ConnectionError:  # it died before it had read everything
            return None
        return message[0] if message else None
