"""The layouts of records that the programs write, with their named numbers.

Each `Layout` is a flat record. Its C struct for the programs, its NumPy dtype for the decoder, and
its part of docs/schema.md come from here. A layout with ``ring_pages`` has a ring of its own; the
others are values of maps, which are flushed to the spool when recording stops. Times are
CLOCK_MONOTONIC nanoseconds; 0 means "has not happened". Standard library only.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, Union

from .gpu import COUNTED_KINDS, DRIVER_FUNCTIONS, GPU_RECORD_KINDS

#: the unit of ``ring_pages`` on every machine, also on those with larger pages
PAGE = 4096
#: before each record of a ring the kernel writes u32 length with flags, u32 page offset
RING_HEADER_BYTES = 8

#: what NumPy, Python's struct and C call a scalar, and its bytes
_SCALARS = {
    "u64": ("<u8", "Q", "u64", 8),
    "i64": ("<i8", "q", "s64", 8),
    "u32": ("<u4", "I", "u32", 4),
    "i32": ("<i4", "i", "s32", 4),
    "u16": ("<u2", "H", "u16", 2),
    "i16": ("<i2", "h", "s16", 2),
    "u8": ("u1", "B", "u8", 1),
}
_BYTES = re.compile(r"(?:text|raw)\[(\d+)\]$")

Dtype = list[tuple[str, Union[str, "Dtype"]]]


@dataclass(frozen=True)
class Field:
    """One member: its name, its type (a scalar, ``text[N]``, ``raw[N]`` or another layout) and its
    meaning.
    """

    name: str
    type: str | Layout
    doc: str

    @property
    def size(self) -> int:
        """Bytes it takes."""
        if isinstance(self.type, Layout):
            return self.type.size
        count = _BYTES.match(self.type)
        return int(count[1]) if count else _SCALARS[self.type][3]

    @property
    def alignment(self) -> int:
        """Bytes it must be aligned to, as C does."""
        if isinstance(self.type, Layout):
            return 8
        return 1 if _BYTES.match(self.type) else _SCALARS[self.type][3]

    def c_declaration(self) -> str:
        """The member as C declares it."""
        if isinstance(self.type, Layout):
            return f"struct {self.type.name} {self.name};"
        count = _BYTES.match(self.type)
        return f"u8 {self.name}[{count[1]}];" if count else f"{_SCALARS[self.type][2]} {self.name};"

    def dtype(self) -> str | Dtype:
        """The member as NumPy reads it."""
        if isinstance(self.type, Layout):
            return self.type.dtype()
        count = _BYTES.match(self.type)
        if not count:
            return _SCALARS[self.type][0]
        return f"{'S' if self.type.startswith('text') else 'V'}{count[1]}"  # S ends at a NUL

    @property
    def format(self) -> str:
        """The member as Python's struct names it; a nested layout is bytes."""
        scalar = None if isinstance(self.type, Layout) else _SCALARS.get(self.type)
        return scalar[1] if scalar else f"{self.size}s"


@dataclass(frozen=True)
class Layout:
    """A flat record. Raises ValueError if C would pad it, so that all sizes agree."""

    name: str
    doc: str
    fields: tuple[Field, ...]
    ring_pages: int = 0

    def __post_init__(self) -> None:
        offset = 0
        for field in self.fields:
            if offset % field.alignment:
                raise ValueError(f"{self.name}.{field.name}: padding would be inserted at {offset}")
            offset += field.size
        if offset % 8:
            raise ValueError(f"{self.name}: {offset} bytes is not a multiple of 8")

    @property
    def size(self) -> int:
        """Bytes of one record."""
        return sum(field.size for field in self.fields)

    @property
    def stride(self) -> int:
        """Bytes from one record of its ring to the next."""
        return self.size + RING_HEADER_BYTES

    def offset(self, name: str) -> int:
        """Bytes before a field. Raises KeyError if there is no field of that name."""
        return self._places[name][0]

    def read(self, record: bytes | memoryview, *names: str) -> tuple[Any, ...]:
        """Fields of a record, in the order asked for: numbers, or bytes; ``text`` up to its NUL.

        Raises KeyError if there is no field of that name.
        """
        places = map(self._places.__getitem__, names)
        return tuple(read(record, offset) for offset, read in places)

    def pack(self, **values: int | bytes) -> bytes:
        """A record with these fields; the others are 0. Raises KeyError on an unknown field."""
        record = bytearray(self.size)
        formats = {field.name: f"<{field.format}" for field in self.fields}
        for name, value in values.items():
            struct.pack_into(formats[name], record, self.offset(name), value)
        return bytes(record)

    def records(self, span: memoryview) -> Iterator[memoryview]:
        """The records in a span of its ring."""
        for start in range(RING_HEADER_BYTES, len(span), self.stride):
            yield span[start : start + self.size]

    @cached_property
    def _places(self) -> dict[str, tuple[int, Callable[[Any, int], Any]]]:
        """For each field its offset, and what reads it from there."""
        offsets = accumulate((field.size for field in self.fields), initial=0)
        return {field.name: (at, _reader(field)) for field, at in zip(self.fields, offsets)}

    def c_struct(self) -> str:
        """The struct's C definition."""
        body = "\n".join(f"    {field.c_declaration()}" for field in self.fields)
        return f"struct {self.name} {{\n{body}\n}};\n"

    def dtype(self) -> Dtype:
        """The record as a NumPy structured dtype's description."""
        return [(field.name, field.dtype()) for field in self.fields]


def _reader(field: Field) -> Callable[[Any, int], Any]:
    unpack = struct.Struct(f"<{field.format}").unpack_from
    if isinstance(field.type, str) and field.type.startswith("text"):
        return lambda record, at: unpack(record, at)[0].partition(b"\0")[0]
    return lambda record, at: unpack(record, at)[0]


def _fields(text: str, **nested: Layout) -> tuple[Field, ...]:
    """Fields from lines of ``type name  meaning``."""
    lines = re.sub(r"\n {20,}", " ", text.strip()).splitlines()  # a deep indent continues a line
    rows = (line.split(None, 2) for line in lines)
    return tuple(Field(name, nested.get(kind, kind), doc) for kind, name, doc in rows)


#: kinds of operation, by the number that the programs write
OPERATION_KINDS = ("none", "read", "splice", "fault", "populate", "advise", "open", "metadata")

#: flags of an operation
OPERATION_WAITED = 1  # it slept
OPERATION_KNOWN_FILE = 2  # dev, ino and generation are set
OPERATION_HAS_RANGE = 4  # offset and size are set
OPERATION_PASSTHROUGH = 8  # FUSE passthrough: its file is read from another one, without the daemon
OPERATION_DIED = 16  # its task ended inside it
OPERATION_TRACED_FILE = 32  # its file is on a traced superblock
OPERATION_LINKED = 64  # it slept until a FUSE request was ended
OPERATION_FUSE = 128  # its file is on FUSE

#: errors that concern a file system and not a name: EIO, EACCES, ENODEV, ECONNABORTED, ENOTCONN,
#: ETIMEDOUT, EHOSTDOWN, EHOSTUNREACH, ESTALE
TROUBLES = (5, 13, 19, 103, 107, 110, 112, 113, 116)
TROUBLES_LOW = sum(1 << number for number in TROUBLES if number < 64)
TROUBLES_HIGH = sum(1 << number - 64 for number in TROUBLES if number >= 64)

#: daemon functions, by the number that the programs write
DAEMON_FUNCTIONS = (
    "none", "cvmfs_lookup", "cvmfs_forget", "cvmfs_getattr", "cvmfs_readlink", "cvmfs_opendir",
    "cvmfs_releasedir", "cvmfs_readdir", "cvmfs_open", "cvmfs_read", "cvmfs_release",
    "cvmfs_statfs", "cvmfs_getxattr", "cvmfs_listxattr", "Fetcher::Fetch",
    "DownloadManager::Fetch", "CacheManager::Open", "RamCacheManager::Open",
    "ExternalCacheManager::Open", "TieredCacheManager::Open", "StreamingCacheManager::Open",
)  # fmt: skip

#: kinds of task event
TASK_KINDS = ("none", "seen", "fork", "exec", "exit", "signal")
ROLE_TARGET, ROLE_DAEMON = 1, 2

#: how a blocked interval began
BLOCKED_PREEMPTED, BLOCKED_SLEEP, BLOCKED_UNINTERRUPTIBLE = 0, 1, 2
BLOCKED_STOPPED = 3  # by a signal, a tracer or the freezer of its cgroup
BLOCKED_WAKER_IRQ = 1  # flag: the waker was interrupt context, not a task
BLOCKED_EARLY = 4  # flag: the wake came while the thread was still leaving the CPU
BLOCKED_IO = 2  # flag: in_iowait was set, in a file operation that no daemon serves
BLOCKED_THROTTLED = 16  # flag: a quota of its cgroup kept it off the CPU when it became runnable
#: shorter waits for a CPU have no record of their own
CPU_WAIT_LEAST_NS = 50_000
#: shorter runs meanwhile, one after another, count as one of the process that ran longest at a time
CPU_RUN_LEAST_NS = 50_000
CPU_WAIT_THROTTLED = 1  # flag: a quota of its cgroup kept the thread off the CPU, whoever ran there
CPU_WAIT_UNKNOWN = 2  # flag: longer ago than is looked back
#: no user has this number: which one it was is not known
CPU_NO_USER = (1 << 32) - 1

#: a touch is what happened to this much of a file in this much time
TOUCH_GRANULE_BYTES, TOUCH_BUCKET_NS = 1 << 20, 100_000_000
#: the programs spread reads over the granules that they touched; longer ones are spread when the
#: tables are made
LONG_READ_BYTES = 16 << 20

#: system calls on the daemon's cache directory
CACHE_SYSCALLS = ("none", "openat", "rename", "unlink")

#: flags of a download
DOWNLOAD_TLS = 1  # the connection is encrypted: the request is not visible
DOWNLOAD_TUNNEL = 2  # a proxy was asked to connect to the host (CONNECT)
DOWNLOAD_ANNOUNCED = 4  # the record only reports that the connection exists
DOWNLOAD_KNOWN = 8  # the connection has been announced

#: functions of the CUDA driver, by the number that the programs write
GPU_FUNCTIONS = ("none", *DRIVER_FUNCTIONS)
GPU_LAST_COUNTED = sum(kind in COUNTED_KINDS for kind in DRIVER_FUNCTIONS.values())
#: launches are counted in spans of this length
GPU_SPAN_NS = 10_000_000

#: states of a TCP socket, include/net/tcp_states.h
TCP_STATES = (
    "none", "established", "syn_sent", "syn_recv", "fin_wait1", "fin_wait2", "time_wait", "close",
    "close_wait", "last_ack", "listen", "closing", "new_syn_recv",
)  # fmt: skip

OPERATION = Layout(
    "operation",
    "A file operation of a target thread, written at its end; also the state of one still open.",
    _fields(
        """
        u64 start_ns     when it began; identifies the operation together with tid
        u64 end_ns       when it ended; 0 while it is open
        u64 ino          inode number of the file
        i64 offset       first byte asked for
        u64 size         bytes asked for
        i64 result       bytes supplied, 0, or -errno
        u32 dev          device number of the superblock, as the kernel encodes it
        u32 generation   the inode's generation
        u32 pid          process
        u32 tid          thread
        u32 requests     FUSE requests that it queued
        u16 syscall      system call number; 65535 for a page fault, 65534 for an asynchronous
                         read
        u8 kind          index into OPERATION_KINDS
        u8 flags         OPERATION_* bits
        """
    ),
    ring_pages=8192,
)
HIT = Layout(
    "hit",
    "A run of page-cache hits of one thread on one file: reads and faults that queued no request "
    "and waited for none.",
    _fields(
        """
        u64 start_ns     start of the first one
        u64 end_ns       end of the last one
        u64 ino          inode number
        u64 bytes        bytes supplied
        u64 ns           time inside the hits, summed
        u64 max_ns       the longest hit
        u32 dev          device number
        u32 generation   the inode's generation
        u32 pid          process
        u32 tid          thread
        u32 count        number of hits
        u32 empty        reads between them that supplied nothing: at the file's end or of size 0
        u32 kind         index into OPERATION_KINDS
        u32 reserved     zero
        """
    ),
    ring_pages=1024,
)
REQUEST = Layout(
    "request",
    "A FUSE request, written at its end; also the state of one still in flight.",
    _fields(
        """
        u64 queued_ns     when it was queued; 0 if before recording
        u64 end_ns        when the daemon's answer ended it; 0 while in flight
        u64 unique        the request's number on its connection
        u64 node_id       FUSE node
        u64 offset        for READ: first byte
        i64 handle        for READ: the open file's handle, as the daemon numbers it
        u64 op_start_ns   start of the operation that queued it; 0 if none
        u32 size          for READ: bytes asked for
        u32 dev           device number of the superblock
        u32 pid           process that queued it
        u32 tid           thread that queued it
        u32 end_pid       process in which it ended: the daemon
        u32 end_tid       thread in which it ended
        u32 opcode        FUSE opcode
        i32 error         0 or -errno; -ENOENT of each LOOKUP that found nothing
        u32 requester     in_header.pid: the process on whose behalf
        u32 background    1 when queued as a background request
        """
    ),
    ring_pages=2048,
)
SERVED = Layout(
    "served",
    "A daemon thread took a request from /dev/fuse.",
    _fields(
        """
        u64 time_ns   when its read returned
        u64 unique    the request's number
        u32 pid       the daemon
        u32 tid       the daemon's thread
        u32 opcode    FUSE opcode
        u32 reserved  zero
        """
    ),
    ring_pages=1024,
)
BLOCKED = Layout(
    "blocked",
    "An off-CPU interval of a target or daemon thread.",
    _fields(
        """
        u64 start_ns    switched out
        u64 woken_ns    made runnable; 0 if preempted or not seen
        u64 end_ns      switched in, or woken if no program saw it switched in; 0 while off CPU
        u64 unique      the FUSE request that the waker was ending; 0 if none
        u32 dev         that request's device number
        u32 pid         process
        u32 tid         thread
        u32 waker_pid   process of the waker; 0 if not seen or interrupt
        u32 waker_tid   thread of the waker
        u16 state       BLOCKED_PREEMPTED, BLOCKED_SLEEP, BLOCKED_UNINTERRUPTIBLE, BLOCKED_STOPPED
        u16 flags       BLOCKED_WAKER_IRQ, BLOCKED_IO, BLOCKED_EARLY, BLOCKED_THROTTLED
        """
    ),
    ring_pages=4096,
)
CPU_WAIT = Layout(
    "cpu_wait",
    "A part of the time in which a target or daemon thread waited for a CPU, for at least "
    "CPU_WAIT_LEAST_NS in all. Its parts do not overlap; the last ones are written first.",
    _fields(
        """
        u64 start_ns          since when; of the first part: it could run, woken or preempted
        u64 end_ns            until when; of the last part: it ran
        u32 pid               process
        u32 tid               thread
        u32 ran_pid           process that ran on its CPU meanwhile; 0: none, it was idle
        u32 ran_tid           the thread of that process that ran last in this part
        text[16] ran_name     its name; empty if it had ended, or is hidden
        u32 flags             CPU_WAIT_THROTTLED, CPU_WAIT_UNKNOWN: then ran_pid says nothing
        u32 ran_uid           its user; CPU_NO_USER if not known
        """
    ),
    ring_pages=1024,
)
CALL = Layout(
    "call",
    "A call of a daemon function, written at its return; also the state of one not yet returned.",
    _fields(
        """
        u64 start_ns         entered; identifies the call together with tid and function
        u64 end_ns           returned; 0 while inside
        u64 parent_start_ns  start of the enclosing call on the thread; 0 if none
        u64 unique           FUSE request being served; 0 if none
        u64 ino              inode argument, if the function has one
        u64 offset           for cvmfs_read: first byte
        u64 size             for cvmfs_read: bytes asked for
        i64 result           return value, as a signed 64-bit register
        raw[32] object       content hash: 20 bytes digest, u32 algorithm (0 md5, 1 sha1, 2 rmd160,
                             3 shake128), suffix character
        u32 pid              the daemon
        u32 tid              its thread
        u32 function         index into DAEMON_FUNCTIONS
        u32 parent_function  function of the enclosing call; 0 if none
        """
    ),
    ring_pages=2048,
)
DOWNLOAD = Layout(
    "download",
    "An HTTP request on a daemon's connection and its answer, by the socket system calls. With "
    "sent_ns 0 a connection before its first request: with DOWNLOAD_ANNOUNCED as first seen, with "
    "closed_ns ended without a request.",
    _fields(
        """
        u64 connect_ns         connect(2) of this connection; 0 if before recording
        u64 sent_ns            the request was written to the socket
        u64 first_byte_ns      first bytes of the answer received
        u64 last_byte_ns       last bytes received before the next request, or so far
        u64 closed_ns          close(2) of the connection; 0 if the record is older
        u64 bytes              bytes received, headers included
        u64 socket             inode number of the socket
        u32 pid                the daemon
        u32 tid                thread that sent the request
        i32 fd                 the socket
        u32 sequence           requests sent on this connection before this one
        u32 net_namespace      inode number of the network namespace; 0 if unknown
        u16 family             2 IPv4, 10 IPv6
        u16 state              index into TCP_STATES, at the close
        u16 local_port         port of this end
        u16 remote_port        port of the other end: the server's or a proxy's
        u32 flags              DOWNLOAD_* bits
        raw[16] local         address of this end, IPv4 in the first four bytes
        raw[16] remote        address of the other end
        text[512] answer      beginning of the answer: the status line and headers
        raw[320] request      beginning of the request: line and headers; with DOWNLOAD_TLS, of
                            the first message on the connection
        """
    ),
    ring_pages=256,
)
WORK = Layout(
    "work",
    "What a daemon's thread did with a piece of an answer, until it used a socket or slept.",
    _fields(
        """
        u64 start_ns  the piece was received
        u64 end_ns    the thread used a socket again, or went to sleep
        u64 sent_ns   the request that the piece answers; identifies the download with pid and fd
        u64 late_ns   before that: runnable but not running, since the sleep before it received
                      and outside other pieces
        u64 write_ns  of the time: in write(2), to the cache
        u64 off_ns    of the time: runnable but not running, also in write(2), whose time excludes
                      it
        u32 pid       the daemon
        u32 tid       its thread
        i32 fd        the socket
        u32 round     number of the thread's round; it serves each connection once in a round
        """
    ),
    ring_pages=1024,
)
CACHE_FILE = Layout(
    "cache_file",
    "A system call of a daemon on a file name: in its cache directory, or of its transactions.",
    _fields(
        """
        u64 start_ns         entered
        u64 end_ns           returned
        i64 result           descriptor, 0 or -errno
        u32 pid              the daemon
        u32 tid              its thread
        u32 syscall          index into CACHE_SYSCALLS
        u32 open_flags       for openat: its flags
        text[128] path      the name (its last 127 bytes)
        text[128] new_path  for rename: the new name
        """
    ),
    ring_pages=512,
)
TASK = Layout(
    "task",
    "A life event of a target or daemon task.",
    _fields(
        """
        u64 time_ns       when
        u64 start_ns      the task's own start (CLOCK_MONOTONIC)
        u64 began_ns      for exec: when it was called; 0 if that was not seen
        u32 pid           process
        u32 tid           thread
        u32 parent_pid    parent process
        u32 exit_code     as wait(2) encodes it; for signal: its number
        u32 namespace_pid  process, in its own pid namespace
        u32 namespace_tid  thread, in its own pid namespace
        u16 kind          index into TASK_KINDS
        u16 role          ROLE_TARGET, ROLE_DAEMON
        u32 arguments     for exec: bytes of argv below
        text[16] name    the task's name
        raw[256] argv   for exec: the beginning of argv, NUL-separated
        """
    ),
    ring_pages=256,
)
FILE = Layout(
    "file",
    "A file, when first seen: identity, size and path; or a superblock: where it is mounted.",
    _fields(
        """
        u64 time_ns         when
        u64 ino             inode number
        u64 size            the inode's size in bytes
        u32 dev             device number
        u32 generation      the inode's generation
        u32 pid             process that had it open
        u32 magic           the superblock's magic number
        u16 text            bytes used in components
        u16 mount_text      bytes of those for the path within the mount; the rest is the
                            mountpoint
        u16 depth           number of path components
        u16 complete        1 if the walk reached the root of the namespace
        text[16] filesystem  the superblock's subtype
        raw[2048] components  names from the file up to the root, each ended by NUL
        """
    ),
    ring_pages=1024,
)
FAILURE = Layout(
    "failure",
    "A call on a path that failed with one of TROUBLES, or with ENOENT after a sleep: the "
    "directory that a relative path begins at (time_ns 0: not looked up), and the path. It belongs "
    "to the operation with this tid and start_ns, and may be on any file system.",
    (
        *FILE.fields,
        *_fields(
            """
            u64 start_ns     start of the operation
            u32 tid          its thread
            u32 requests     FUSE requests that it queued
            text[256] asked  the path, as the program gave it
            """
        ),
    ),
    ring_pages=256,
)
TOUCH_KEY = Layout(
    "touch_key",
    "A file granule in a time bucket.",
    _fields(
        """
        u64 ino         inode number
        u64 bucket      time divided by 100 ms
        u32 dev         device number
        u32 generation  the inode's generation
        u32 granule     offset divided by 1 MiB
        u32 reserved    zero
        """
    ),
)
TOUCH = Layout(
    "touch",
    "What happened to a granule in a bucket.",
    _fields(
        """
        u64 bytes_read      bytes supplied by read operations
        u32 pages_mapped    pages of 4 KiB mapped around faults
        u32 pages_inserted  pages of 4 KiB put into the page cache
        """
    ),
)
THREAD = Layout(
    "thread",
    "Everything in progress on one thread; flushed when recording stops.",
    _fields(
        """
        u64 adding             1 while the run of hits changes
        u64 touched            pages last inserted or mapped: a program and its backup see one event
        u64 ending_unique      FUSE request that this daemon thread is ending
        u64 syscall_start_ns   start of the daemon system call in progress
        u64 syscall_buffer     its buffer's address
        u64 syscall_number     which one; 0 if none
        i32 syscall_fd         its descriptor
        u32 ending_dev         device number of ending_unique
        u32 pid                process
        u32 tid                thread
        u32 role               ROLE_TARGET, ROLE_DAEMON
        u32 depth              daemon calls open on the thread
        u64 late_ns            daemon: how long it waited for a CPU in this round, outside `work`
        u64 served_fds         connections served in this round: bits by the descriptor's low 6 bits
        u32 round              the round of `work`
        u32 reserved           zero
        operation operation    the system call in progress
        operation fault        the page fault in progress
        hit hit                the run of hits not yet closed
        blocked blocked        the off-CPU interval in progress
        blocked early          a wake before the thread was seen to leave the CPU
        work work              the piece of an answer that the thread works on
        """,
        operation=OPERATION,
        hit=HIT,
        blocked=BLOCKED,
        work=WORK,
    ),
)

SOCKET_SAMPLE = Layout(
    "socket_sample",
    "State of a daemon's connection by sock_diag (linux/tcp.h: tcp_info; linux/inet_diag.h); "
    "written by the session, not by a program.",
    _fields(
        """
        u64 time_ns                when
        u64 socket                 inode number of the socket
        u64 bytes_received         tcpi_bytes_received
        u64 delivery_rate_bytes_s  tcpi_delivery_rate
        u32 rtt_us                 tcpi_rtt
        u32 min_rtt_us             tcpi_min_rtt; 0 if none was measured
        u32 receive_rtt_us         tcpi_rcv_rtt
        u32 retransmits            tcpi_total_retrans
        u32 congestion_window      tcpi_snd_cwnd
        u32 segments_received      tcpi_data_segs_in
        u32 out_of_order           tcpi_rcv_ooopack
        u32 unread_bytes           idiag_rqueue
        u32 state                  index into TCP_STATES
        u32 reserved               zero
        """
    ),
)

#: flags of a record of a device
GPU_PAGEABLE = 1  # a copy's memory of the host is not pinned: the driver copies it piece by piece
GPU_IN_GRAPH = 2  # it ran as part of a graph

GPU_RECORD = Layout(
    "gpu_record",
    "An operation of a device, or a call of its driver, as CUPTI reports it; written by the "
    "library injected into the command's processes, not by a program.",
    _fields(
        """
        u64 start_ns     began
        u64 end_ns       ended
        u64 bytes        bytes moved or set; 0 for others
        u32 kind         index into GPU_RECORD_KINDS
        u32 device       number of the device in its process
        u32 context      CUDA context
        u32 stream       stream; 0 for calls
        u32 correlation  the same for a call and for what it submitted
        u32 name         number of the name: of a kernel, or of the function called; 0 if none
        u32 pid          process, as it sees itself
        u32 tid          for calls: thread, as it sees itself
        i32 result       for calls: what it returned
        u32 flags        GPU_* bits
        """
    ),
)
#: what a sample of a GPU measures: bit 0 of `gpu_sample.known` is for the first, and so on
GPU_MEASURES = (
    "utilisation_percent", "memory_bytes", "power_mw", "clock_mhz", "pcie_rx_bytes_s",
    "pcie_tx_bytes_s",
)  # fmt: skip
GPU_SAMPLE = Layout(
    "gpu_sample",
    "State of a GPU by NVML; written by the session, not by a program.",
    _fields(
        """
        u64 time_ns              when
        u64 memory_bytes         memory in use, by anybody
        u64 pcie_rx_bytes_s      received over PCIe, in 20 ms that ended up to 50 ms before
        u64 pcie_tx_bytes_s      sent over PCIe, likewise
        u32 device               its number on the machine
        u32 known                bits: which of GPU_MEASURES the device gave; the others are zero
        u32 utilisation_percent  share of the time before that a kernel ran
        u32 power_mw             power drawn
        u32 clock_mhz            clock of its processors
        u32 reserved             zero
        """
    ),
)
GPU_CALL = Layout(
    "gpu_call",
    "A call of the CUDA driver that copies, waits, loads or allocates, written at its return; also "
    "the state of one not yet returned.",
    _fields(
        """
        u64 start_ns  entered
        u64 end_ns    returned; 0 while inside
        u64 bytes     bytes moved, where an argument says so
        i64 result    return value
        u64 stack     where the caller's stack ends; calls made inside this one lie below
        u32 pid       process
        u32 tid       thread
        u32 function  index into GPU_FUNCTIONS
        u32 reserved  zero
        """
    ),
    ring_pages=1024,
)
GPU_LAUNCHES = Layout(
    "gpu_launches",
    "Launches of one thread by one function in 10 ms, written with the first one after that time; "
    "also those not yet written.",
    _fields(
        """
        u64 first_ns  the first was entered
        u64 last_ns   the last was entered
        u32 pid       process
        u32 tid       thread
        u32 function  index into GPU_FUNCTIONS
        u32 count     launches
        """
    ),
    ring_pages=256,
)
GPU_LIBRARY = Layout(
    "gpu_library",
    "A target maps code of a file that is named as the CUDA driver.",
    _fields(
        """
        u64 time_ns  when
        u32 pid      process
        u32 tid      thread
        """
    ),
    ring_pages=16,
)

#: every layout, nested ones first
LAYOUTS = (
    OPERATION, HIT, REQUEST, SERVED, BLOCKED, CPU_WAIT, CALL, DOWNLOAD, WORK, CACHE_FILE, TASK,
    FILE, FAILURE, TOUCH_KEY, TOUCH, THREAD, SOCKET_SAMPLE, GPU_RECORD, GPU_SAMPLE, GPU_CALL,
    GPU_LAUNCHES, GPU_LIBRARY,
)  # fmt: skip
RINGS = tuple(layout for layout in LAYOUTS if layout.ring_pages)

#: why events were lost, by the number in the programs
LOSS_CAUSES = ("ring full", "map full", "unmatched end", "unreadable", "unmatched start")


def c_definitions() -> str:
    """The C structs of all layouts and the named numbers, as the programs include them."""
    parts = [layout.c_struct() for layout in LAYOUTS]
    parts.append(_enumeration("operation_kind", "KIND", OPERATION_KINDS))
    parts.append(_enumeration("daemon_function", "FN", DAEMON_FUNCTIONS))
    parts.append(_enumeration("task_kind", "TASK", TASK_KINDS))
    parts.append(_enumeration("cache_syscall", "CACHE", CACHE_SYSCALLS))
    parts.append(_enumeration("tcp_state", "TCP", TCP_STATES))
    parts.append(_enumeration("loss_cause", "LOSS", LOSS_CAUSES))
    parts += [f"#define {name} {value}\n" for name, value in _constants()]
    return "".join(parts)


def gpu_definitions() -> str:
    """The C struct and the named numbers of what the injected library writes."""
    flags = [(name, value) for name, value in _constants() if name.startswith("GPU_")]
    return "".join((
        GPU_RECORD.c_struct(),
        _enumeration("gpu_record_kind", "GPU_RECORD", GPU_RECORD_KINDS),
        *(f"#define {name} {value}\n" for name, value in flags),
    ))  # fmt: skip


def _enumeration(name: str, prefix: str, values: tuple[str, ...]) -> str:
    names = ", ".join(f"{prefix}_{re.sub('[^A-Za-z0-9]+', '_', value).upper()}" for value in values)
    return f"enum {name} {{ {names} }};\n"


def _constants() -> list[tuple[str, int]]:
    prefixes = (
        "OPERATION_",
        "ROLE_",
        "BLOCKED_",
        "DOWNLOAD_",
        "TOUCH_",
        "TROUBLES_",
        "LONG_READ_",
        "GPU_",
        "CPU_",
    )
    named = {name: value for name, value in globals().items() if name.startswith(prefixes)}
    return [(name, value) for name, value in named.items() if isinstance(value, int)]
