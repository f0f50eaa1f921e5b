"""The protocol between session and recorder: JSON packets on a socket pair, with descriptors.

From the session: ``configure`` (options, names of the spool files, their descriptors), ``target``
(a pid), ``living``, ``stop``. From the recorder: ``ready``, ``tracing``, ``living`` (the traced
processes that have not ended), ``stopped`` (losses, failures), ``error`` (fact, help_text).
"""

from __future__ import annotations

import array
import json
import socket
from typing import Any

_MAX_BYTES = 1 << 18
_MAX_DESCRIPTORS = 64


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """A pair that preserves message boundaries."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(to: socket.socket, kind: str, descriptors: tuple[int, ...] = (), **values: Any) -> None:
    """Send one message. Raises OSError if the other side is gone."""
    data = json.dumps({"kind": kind, **values}).encode()
    if descriptors:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        to.sendmsg([data], [rights])
    else:
        to.send(data)


def receive(source: socket.socket) -> tuple[dict[str, Any], tuple[int, ...]] | None:
    """The next message and its descriptors; None if the other side has closed."""
    space = socket.CMSG_SPACE(_MAX_DESCRIPTORS * array.array("i").itemsize)
    data, ancillary, _, _ = source.recvmsg(_MAX_BYTES, space)
    descriptors = array.array("i")
    for level, kind, payload in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            whole = len(payload) - len(payload) % descriptors.itemsize
            descriptors.frombytes(payload[:whole])
    return (json.loads(data), tuple(descriptors)) if data else None
