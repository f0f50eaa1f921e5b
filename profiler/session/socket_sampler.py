"""Sample the daemons' connections while a command runs, by sock_diag(7).

A thread of the session asks the kernel, as the invoking user, for the connections that the recorder
has announced, each by its two addresses: the table of sockets is never dumped. A connection in
another network namespace cannot be sampled without root.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ...probes.catalog import SOCKET_SAMPLES
from ...probes.events import DOWNLOAD, DOWNLOAD_ANNOUNCED, SOCKET_SAMPLE

EVENT = SOCKET_SAMPLES.name
INTERVAL_S = 0.05
#: connections sampled at once, the newest
MAX_CONNECTIONS = 64
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20  # linux/netlink.h, linux/sock_diag.h
_NLMSG_ERROR, _NLM_F_REQUEST = 2, 1  # linux/netlink.h
_INET_DIAG_INFO, _NO_COOKIE = 2, (1 << 64) - 1  # linux/inet_diag.h
_ANSWER_BYTES, _PATIENCE_S = 8192, 1.0


@dataclass(frozen=True)
class Announced:
    """A connection as the recorder announced it."""

    socket: int
    net_namespace: int
    family: int
    local_port: int
    remote_port: int
    local: bytes
    remote: bytes


_FIELDS = tuple(field.name for field in fields(Announced))


class Announcements:
    """The spool file of the ring of downloads, read while it grows."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._offset = 0

    def read(self) -> list[Announced]:
        """Return the connections announced since the last call."""
        announced = list[Announced]()
        while len(span := os.pread(self._file, DOWNLOAD.stride, self._offset)) == DOWNLOAD.stride:
            self._offset += DOWNLOAD.stride
            for record in DOWNLOAD.records(memoryview(span)):
                (flags,) = DOWNLOAD.read(record, "flags")
                if flags & DOWNLOAD_ANNOUNCED:
                    announced.append(Announced(*DOWNLOAD.read(record, *_FIELDS)))
        return announced

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Asker:
    """Asks the kernel for single connections.

    Raises ImportError where pyroute2 is missing, OSError where the kernel has no sock_diag.
    """

    def __init__(self) -> None:
        from pyroute2.netlink import diag

        self._messages: Any = diag  # pyroute2 has no types
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
        self._netlink.settimeout(_PATIENCE_S)

    def request(self, connection: Announced) -> bytes:
        """Return the message that asks for a connection."""
        message = self._messages.inet_diag_req()
        message["header"]["type"] = _SOCK_DIAG_BY_FAMILY
        message["header"]["flags"] = _NLM_F_REQUEST
        message["sdiag_family"] = connection.family
        message["sdiag_protocol"] = socket.IPPROTO_TCP
        message["idiag_ext"] = 1 << (_INET_DIAG_INFO - 1)
        message["idiag_sport"] = connection.local_port
        message["idiag_dport"] = connection.remote_port
        message["idiag_src"] = struct.unpack(">4I", connection.local)
        message["idiag_dst"] = struct.unpack(">4I", connection.remote)
        message["idiag_cookie"] = _NO_COOKIE
        message.encode()
        return bytes(message.data)

    def ask(self, request: bytes, inode: int) -> bytes | None:
        """Return a SOCKET_SAMPLE of the connection, None where it is closed. Raises OSError."""
        self._netlink.send(request)
        answer = self._netlink.recv(_ANSWER_BYTES)
        time_ns = time.monotonic_ns()
        if struct.unpack_from("=H", answer, 4)[0] == _NLMSG_ERROR:
            return None
        message = self._messages.inet_diag_msg(answer)
        message.decode()
        info = message.get_attr("INET_DIAG_INFO")
        if message["idiag_inode"] != inode or info is None:
            return None
        return SOCKET_SAMPLE.pack(
            time_ns=time_ns,
            socket=inode,
            bytes_received=info["tcpi_bytes_received"],
            delivery_rate_bytes_s=info["tcpi_delivery_rate"],
            rtt_us=info["tcpi_rtt"],
            min_rtt_us=_measured(info["tcpi_min_rtt"]),
            receive_rtt_us=info["tcpi_rcv_rtt"],
            retransmits=info["tcpi_total_retrans"],
            congestion_window=info["tcpi_snd_cwnd"],
            segments_received=info["tcpi_data_segs_in"],
            out_of_order=info["tcpi_rcv_ooopack"],
            unread_bytes=message["idiag_rqueue"],
            state=message["idiag_state"],
        )

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()


def _measured(microseconds: int) -> int:
    """Return 0 where the kernel has no measurement yet, which it writes as all bits set."""
    return 0 if microseconds == (1 << 32) - 1 else microseconds


@dataclass(frozen=True)
class Sampled:
    """What a sampler did: samples taken, CPU time used, and its row for the table `probes`."""

    samples: int
    cpu_ns: int
    row: dict[str, str | None]


class SocketSampler:
    """A thread that samples from `start` to `stop`. ``samples`` is a descriptor to append to.

    Importing pyroute2 takes 0.2 s: the thread does it while the recorder compiles.
    """

    def __init__(self, announcements: Path, samples: int) -> None:
        self._path, self._samples = announcements, samples
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="socket sampler", daemon=True)
        self._requests = dict[int, bytes]()  # socket inode -> message that asks for it
        self._in_other_namespace = self._dropped = self._samples_taken = self._cpu_ns = 0
        self._error: str | None = None

    def start(self) -> None:
        """Start. The thread inherits the signals that the caller has blocked."""
        self._thread.start()

    def stop(self) -> Sampled:
        """Take a last sample of every connection and end. May be called more than once."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(2 * _PATIENCE_S)
        return Sampled(self._samples_taken, self._cpu_ns, self._row())

    def _row(self) -> dict[str, str | None]:
        gaps = list[str]()
        if self._in_other_namespace:
            gaps.append(
                f"{self._in_other_namespace} of the daemons' connections are in another network "
                "namespace, which only root can see"
            )
        if self._dropped:
            gaps.append(f"only the newest {MAX_CONNECTIONS} connections at a time were sampled")
        if self._error:
            gaps.append(self._error)
        return {
            "event": EVENT,
            "family": "none" if gaps and not self._samples_taken else "sock_diag",
            "target": "tcp_info",
            "build_id": None,
            "reason": "; ".join(gaps) or None,
        }

    def _run(self) -> None:
        try:
            announcements = Announcements(self._path)
            asker = Asker()
        except (ImportError, OSError) as error:
            self._error = f"the kernel cannot be asked for connections: {error}"
            return
        before_ns = time.thread_time_ns()
        try:
            own_namespace = os.stat("/proc/self/ns/net").st_ino
            while not self._ending.wait(INTERVAL_S):
                self._step(announcements, asker, own_namespace)
            self._step(announcements, asker, own_namespace)
        except OSError as error:
            self._error = f"sampling ended early: {error}"
        finally:
            self._cpu_ns = time.thread_time_ns() - before_ns
            asker.close()
            announcements.close()

    def _step(self, announcements: Announcements, asker: Asker, own_namespace: int) -> None:
        for connection in announcements.read():
            if connection.net_namespace in (0, own_namespace):
                self._requests[connection.socket] = asker.request(connection)
            else:
                self._in_other_namespace += 1
        while len(self._requests) > MAX_CONNECTIONS:
            del self._requests[next(iter(self._requests))]
            self._dropped += 1
        for inode, request in list(self._requests.items()):
            sample = asker.ask(request, inode)
            if sample is None:
                del self._requests[inode]
            else:
                os.write(self._samples, sample)
                self._samples_taken += 1
