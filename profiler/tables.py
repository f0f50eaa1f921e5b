"""The tables of a run: the public contract, as data.

Times are integer nanoseconds of CLOCK_MONOTONIC and end in ``_ns``; sizes end in ``_bytes``. Task
ids and the numbers that rows give each other are Int32, times, sizes and results Int64, what the
kernel counts without sign (request numbers, inodes) UInt64. ``docs/schema.md`` is made from this.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import polars as pl

from ..probes.gpu import CALL_KINDS, DEVICE_KINDS

Dtype: TypeAlias = "pl.DataType | type[pl.DataType]"
#: the name of a table, and its rows or some of them: `segments` comes in parts
Part: TypeAlias = tuple[str, pl.DataFrame]


@dataclass(frozen=True)
class Column:
    """A column: its name, polars type, whether it may be null, and its meaning."""

    name: str
    dtype: Dtype
    nullable: bool
    doc: str


@dataclass(frozen=True)
class Table:
    """A table: its name, what a row is, and its columns."""

    name: str
    doc: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(column.name for column in self.columns)

    def schema(self) -> pl.Schema:
        """The polars schema."""
        return pl.Schema({column.name: column.dtype for column in self.columns})


#: kinds of operation (``operations.kind``, ``hits.kind``)
OPERATION_KIND = pl.Enum(["read", "splice", "fault", "populate", "advise", "open", "metadata"])

#: the closed list of causes (``segments.cause``), shallow to deep where one contains another
CAUSES = (
    "unknown", "blocked", "stopped", "runqueue", "cpu", "driver", "device", "launch", "copy",
    "disk", "fuse_queue", "daemon", "daemon_lock", "cache_read", "catalog", "fetch", "fetch_joined",
    "fetch_queue", "connect", "first_byte", "transfer", "decompress", "cache_write", "reply",
)  # fmt: skip
CAUSE = pl.Enum(CAUSES)
#: causes that are waits for the network
NETWORK_CAUSES = frozenset(
    ("fetch", "fetch_joined", "fetch_queue", "connect", "first_byte", "transfer")
)
#: causes inside the fetch of an object: the network, and what follows a download
FETCH_CAUSES = NETWORK_CAUSES | {"decompress", "cache_write"}

#: classes of an operation, deepest source first
OPERATION_CLASSES = (
    "http", "joined", "cvmfs cache", "passthrough", "disk", "page cache", "unknown",
)  # fmt: skip
OPERATION_CLASS = pl.Enum(OPERATION_CLASSES)

WAIT_HOW = pl.Enum(["queued", "waker", "range"])
#: object kinds that are not content of files
METADATA_KINDS = ("catalog", "manifest", "whitelist", "certificate", "history", "meta")

OBJECT_KIND = pl.Enum(["chunk", "file", *METADATA_KINDS])
LOCK_KIND = pl.Enum(["same_handle", "collision", "catalog", "other"])
OUTCOME = pl.Enum(["downloaded", "joined", "failed"])
ROLE = pl.Enum(["target", "daemon", "neighbour"])
OFF_REASON = pl.Enum(["sleep", "uninterruptible", "preempted", "stopped"])
GPU_SOURCE = pl.Enum(["cupti", "cuda_api", "runner"])
#: ``run`` is an inference of the runner, which stands for the device where no GPU was recorded
GPU_OP_KIND = pl.Enum([*DEVICE_KINDS, "run"])
#: operations between which a device waits
COMPUTING_KINDS = ("kernel", "graph", "run")
GPU_CALL_KIND = pl.Enum(CALL_KINDS)

#: what a segment may lead to, and the columns that say so
SEGMENT_LINKS = ("op_id", "mount_id", "unique", "fetch_id", "via_tid")

#: kinds of incident
INCIDENT_KINDS = (
    "mount", "remount", "reload", "crash", "exit", "stop", "dead", "eviction", "hang", "unasked",
    "unnamed",
)  # fmt: skip

#: later than any time in a run; far enough from 2⁶³ that sweeps may multiply it by 4
HORIZON_NS = 1 << 60

_TYPES: dict[str, Dtype] = {
    "i32": pl.Int32, "i64": pl.Int64, "u32": pl.UInt32, "u64": pl.UInt64, "f64": pl.Float64,
    "bool": pl.Boolean, "str": pl.String, "argv": pl.List(pl.String), "operation": OPERATION_KIND,
    "cause": CAUSE, "how": WAIT_HOW, "object": OBJECT_KIND, "outcome": OUTCOME, "role": ROLE,
    "lock": LOCK_KIND, "off": OFF_REASON, "gpu": GPU_SOURCE, "gpu_op": GPU_OP_KIND,
    "gpu_call": GPU_CALL_KIND, "shape": pl.List(pl.Int64),
}  # fmt: skip


def _table(name: str, doc: str, text: str) -> Table:
    """A table from lines of ``type[?] name  meaning``; ``?`` marks a nullable column."""
    lines = re.sub(r"\n {20,}", " ", text.strip()).splitlines()  # a deep indent continues a line
    rows = (line.split(None, 2) for line in lines)
    columns = [
        Column(column, _TYPES[kind.rstrip("?")], kind.endswith("?"), meaning)
        for kind, column, meaning in rows
    ]
    return Table(name, doc, tuple(columns))


TABLES: tuple[Table, ...] = (
    _table(
        "operations",
        "A file operation of a target thread that did or waited for I/O, or every one with "
        "--every-read.",
        """
        i32       op_id         its number, in the order of start_ns
        operation kind          what it is
        i64       start_ns      when it began
        i64?      end_ns        when it ended; null: it never did
        i32       pid           process
        i32       tid           thread
        i32?      file_id       its file; null where none was known (an open that failed)
        i64?      offset_bytes  first byte asked for; for a fault: of the page
        i64?      size_bytes    bytes asked for
        i64       result        bytes supplied, 0, or -errno
        bool      passthrough   read from another file, bypassing the daemon (FUSE passthrough)
        """,
    ),
    _table(
        "failed_operations",
        "A file operation on FUSE that failed, with an error that concerns the file system and not "
        "a name; an automounter that mounts nothing (ENOENT) included.",
        """
        i32  op_id     the operation; its result is the error
        i32? mount_id  mount; null: not known
        str? path      file, or what was asked for; relative where its directory is not known
        """,
    ),
    _table(
        "hits",
        "A run of page-cache hits of one thread on one file: reads and faults that queued no "
        "request and waited for none, whoever put the pages there. Closed after 10 ms or at the "
        "thread's next operation or switch-out.",
        """
        i32       pid       process
        i32       tid       thread
        i32       file_id   file
        operation kind      what they are
        i64       start_ns  start of the first one
        i64       end_ns    end of the last one
        i64       count     number of hits
        i64?      empty     reads between them that supplied nothing (at the file's end, of size 0),
                            which are no hits; null: not known
        i64       bytes     bytes supplied
        i64       ns        time inside the hits, summed
        i64       max_ns    the longest hit
        """,
    ),
    _table(
        "touches",
        "A file granule (1 MiB) in a time bucket (100 ms): where, for heat maps.",
        """
        i32 file_id         file
        i32 granule         offset divided by 1 MiB
        i64 start_ns        start of the bucket
        i64 bytes_read      bytes supplied by read operations
        i64 pages_mapped    pages of 4 KiB mapped around faults
        i64 pages_inserted  pages of 4 KiB put into the page cache
        """,
    ),
    _table(
        "fuse_requests",
        "A FUSE request; (mount_id, unique) names it.",
        """
        i32  mount_id      mount
        u64  unique        its number on the mount's connection
        i32  opcode        FUSE opcode (15 is READ)
        u64  node_id       FUSE node
        i64? offset_bytes  for READ: first byte
        i64? size_bytes    for READ: bytes asked for
        i64? handle        for READ: the open file, as the daemon numbers it
        i32  pid           process that queued it; 0 when queued before recording
        i32  tid           thread that queued it; 0 when queued before recording
        i64? queued_ns     when it was handed to the queue; null: before recording
        i64? served_ns     when the daemon took it
        i64? end_ns        when the daemon's answer ended it; null: in flight at the end
        i32  error         0 or -errno; -ENOENT of each LOOKUP that found nothing
        i32? op_id         the operation that queued it
        """,
    ),
    _table(
        "waits",
        "A wait of an operation on a request; many to many.",
        """
        i32 op_id     operation
        i32 mount_id  mount of the request
        u64 unique    number of the request
        i64 start_ns  the operation's thread went off the CPU
        i64? end_ns   it ran again; null: never
        how how       queued: queued by the operation; waker: known by the wake; range: by bytes
        """,
    ),
    _table(
        "daemon_calls",
        "A call of a daemon function.",
        """
        i32  call_id      its number, in the order of start_ns
        i32? parent_id    the enclosing call on the thread
        i32? mount_id     mount that the daemon serves
        str  function     demangled name without arguments
        i32  pid          daemon
        i32  tid          its thread
        i64  start_ns     entered
        i64? end_ns       returned; null: still inside at the end
        u64? unique       FUSE request being served
        str? object_hash  for Fetcher::Fetch and CacheManager::Open
        i64? result       return value
        i32? file_id      the file that it is for, where an imported log names it
        """,
    ),
    _table(
        "cache_lookups",
        "A lookup in the client's cache.",
        """
        i32? call_id      its daemon call; null: known by system calls only
        i32? mount_id     mount
        i64  start_ns     began
        i64? end_ns       ended
        i32  pid          daemon
        i32  tid          its thread
        str  object_hash  object looked up
        bool hit          whether it was there
        """,
    ),
    _table(
        "lock_waits",
        "A client's thread that serves a request waited for another thread; the ``holder_`` "
        "columns say what that one did.",
        """
        i32  mount_id         mount
        u64  unique           request that waited
        i64  start_ns         began
        i64? end_ns           ended, or passed to another holder; null: never
        i32  pid              daemon
        i32  tid              its thread that waited
        i32  holder_tid       thread waited for
        u64? holder_unique    request that it served
        i32? holder_fetch_id  fetch that it made
        lock kind             which lock: see "How time gets its cause"
        """,
    ),
    _table(
        "fetches",
        "A wait of a daemon thread for an object not in the cache.",
        """
        i32     fetch_id         its number, in the order of start_ns
        i32?    call_id          its call of the client; null: known by system calls only
        i32?    mount_id         mount
        u64?    unique           FUSE request it was made for; null: made by the client for itself
        i64     start_ns         began
        i64?    end_ns           ended; null: never did
        i32     pid              daemon
        i32     tid              its thread
        str?    object_hash      object waited for; null: it has none (manifest, whitelist)
        object? object_kind      what the object is; null: unknown
        outcome? outcome         how it ended; null: it never did
        i32?    joined_fetch_id  the fetch that downloads the object that this one waits for
        i32?    file_id          file for which it was fetched
        i64?    offset_bytes     where in the file the object lies
        i64?    unpacked_bytes   its size in the file
        i32?    download_id      the attempt that delivered it, else the last one
        """,
    ),
    _table(
        "downloads",
        "An attempt to get an object over HTTP.",
        """
        i32  download_id    its number, in the order in which they began
        i32? mount_id       mount
        i32? fetch_id       the fetch that it is an attempt of; null: none is known, or imported
        str? object_hash    object asked for; null: the path names none (manifest, whitelist), or is
                            not seen and the fetch it was for is not certain
        str? url_path       path asked for; null: encrypted, or the connection failed
        str  host           server asked; if no request was seen, the address connected to
        str? proxy          proxy it went through: its address
        i32? connection_id  its connection; null: imported
        str? local          address and port of this end
        str? remote         address and port of the other end
        bool? encrypted     whether by HTTPS: the path and the answer are not seen; null: imported
        bool? reused        whether the connection was open already; null: imported
        i32  attempt        1 for the first request, or failed connection, for the object in a fetch
        i32? status         HTTP status of the answer
        i64? queued_ns      handed to the download manager
        i64? connect_ns     connect(2) of its connection; null: before recording
        i64? sent_ns        the request was handed to the socket; null: the connection failed
        i64? first_byte_ns  first byte of the answer received
        i64? last_byte_ns   last byte received
        i64? committed_ns   the object was renamed into the cache
        i64? closed_ns      its connection was closed after it, with no further request
        i64? wire_bytes     bytes received, headers included; with HTTPS encrypted; null: imported
        i64? header_bytes   of these, the answer's headers; null: not seen
        """,
    ),
    _table(
        "sockets",
        "A sample of a daemon's connection, every 50 ms while it is open.",
        """
        i64 time_ns                when
        i32 connection_id          connection
        str state                  of TCP: established, syn_sent, close_wait…
        str remote                 address and port of the other end
        i64 rtt_us                 smoothed round-trip time
        i64 min_rtt_us             shortest recent round-trip time; 0: none measured
        i64 receive_rtt_us         round-trip time as the receiver estimates it; 0: none
        i64 retransmits            segments that this end sent again, so far
        i64 congestion_window      segments that this end may have in flight
        i64 bytes_received         so far
        i64 segments_received      segments with data, so far
        i64 out_of_order           segments that came out of order, so far: those before were lost
        i64 unread_bytes           received and not yet read by the daemon
        i64 delivery_rate_bytes_s  of what this end sends, as the kernel estimates it
        """,
    ),
    _table(
        "mounts",
        "A mount seen.",
        """
        i32  mount_id        its number
        str  device          major:minor
        str? mountpoint      where; null: never learnt
        str? filesystem      type, as mountinfo names it
        str? repository      fully qualified name
        i64? revision        revision of the repository
        str? client_version  version of the client
        i32? daemon_pid      process that answers its requests
        i64? revision_at_start  revision before the command, where it was mounted then
        str? cache_manager   kind of the client's cache, as far as the run shows it
        str? cache_path      directory of the client's cache
        i64? start_ns        mounted; null: before recording
        i64? end_ns          gone; null: still there at the end
        """,
    ),
    _table(
        "files",
        "A file seen, per mount, inode and generation.",
        """
        i32  file_id                its number
        i32  mount_id               mount
        u64  inode                  inode number
        u32  generation             the inode's generation
        str? path                   absolute, as the first task that had it open saw it
        i64? size_bytes             size
        i64? cached_bytes_at_start  bytes in the client's cache at the first lookups
        """,
    ),
    _table(
        "chunks",
        "A chunk of a file; an unchunked file is one chunk.",
        """
        i32  file_id          file
        i32  index            its place in the file, from 0
        str  object_hash      object that holds it
        i64  offset_bytes     where it begins
        i64  size_bytes       its size in the file
        bool? cached_at_start  whether its first lookup hit; null: never looked up
        """,
    ),
    _table(
        "tasks",
        "A process or thread; (tid, start_ns) names it.",
        """
        i32  pid         process
        i32  tid         thread
        i32  parent_pid  parent process; 0 where not seen
        str  name        the task's name, the latest seen
        argv? argv       arguments of its last exec, possibly cut
        role role        target, daemon, or neighbour: a process of others that used the mounts of
                         the command, where it still lived at the end
        i64  start_ns    the task's own start; 0: before recording, not known
        i64? end_ns      its end; null: alive when recording stopped
        i32? exit_code   exit status of a task that exited
        i32? signal      signal that killed it
        """,
    ),
    _table(
        "blocked",
        "An off-CPU interval of a target or daemon thread.",
        """
        i32  pid           process
        i32  tid           thread
        i64  start_ns      switched out
        i64? woken_ns      made runnable; null: preempted, or not seen
        i64? end_ns        switched in, or woken where no program saw that; null: still off it
        off  off_reason    why
        i32? woken_by_pid  process of the waker; null: not seen, or an interrupt
        i32? woken_by_tid  thread of the waker
        """,
    ),
    _table(
        "cpu_waits",
        "A part of the time in which a target or daemon thread could run and had no CPU, for 50 µs "
        "or more in all, and who had it. The parts of a thread do not overlap.",
        """
        i32  pid          process
        i32  tid          thread
        i64  start_ns     since when; of the first part: it could run, woken or preempted
        i64  end_ns       until when; of the last part: it ran
        i32? ran_pid      process that ran on the CPU where the thread then ran; 0: none, it was
                          idle; null: a quota, or not known, of a long wait that changed hands often
        i32? ran_tid      the thread of that process that ran last in this part
        str? ran_name     its name; null: it had ended, or /proc hides it from the user
        str? ran_user     its user, else the user's number; null likewise
        bool throttled    a quota of its cgroup kept the thread off the CPU, whoever ran there
        """,
    ),
    _table(
        "cgroups",
        "A sample, four times a second, of a cgroup with a quota of CPU time in or below which the "
        "command or a client's daemon runs.",
        """
        i64  time_ns            when
        i32  pid                the command's first process, or a daemon
        str  path               the cgroup's name, as far as it is in sight
        i64  quota_us           CPU time that it may use in a period
        i64  period_us          length of a period
        i64? periods            periods so far in which it was active
        i64? throttled_periods  of these, in how many it used up its quota
        i64? throttled_ns       how long it was held off so far, summed over the CPUs
        """,
    ),
    _table(
        "machine_cpu",
        "A sample, four times a second, of all CPUs of the machine together, counted since boot.",
        """
        i64  time_ns      when
        i64? used_ns      time in which they ran tasks or the kernel
        i64? idle_ns      time in which they had nothing to run
        i64? stolen_ns    time in which a hypervisor ran something else
        i64? pressure_ns  time in which a task could run and had no CPU; null: not counted here
        """,
    ),
    _table(
        "devices",
        "A GPU that the command used, or that was sampled.",
        """
        str  device        its UUID as the driver writes it; else a name unique in this run
        i32? index         its number on the machine
        str? name          its model
        i64? memory_bytes  its memory
        """,
    ),
    _table(
        "gpu_ops",
        "An operation on a device: a kernel, a graph, a copy, a memory set.",
        """
        str  device       device
        i32? context      CUDA context
        i32? stream       stream
        gpu_op kind       what it is; copies are named from the host: copy_in is to the device
        str? name         the kernel's name
        i64  start_ns     began
        i64  end_ns       ended
        i64? bytes        bytes moved or set
        bool pageable     a copy whose memory of the host is not pinned
        i64? correlation  number that it shares with the call that submitted it, in its process
        i32  pid          process
        i32? tid          thread that submitted it
        i32? gpu_call_id  call that submitted it
        gpu  source       how it is known
        """,
    ),
    _table(
        "gpu_calls",
        "A call of the CUDA driver that submits, copies, waits, loads, allocates or makes a "
        "context; or several launches of one thread, counted.",
        """
        i32  gpu_call_id  its number, in the order of start_ns
        gpu_call kind     what it does for its caller
        str  function     its name, without suffixes of versions
        i64  start_ns     entered; the first, where several are counted
        i64? end_ns       returned; null: never did. Where several are counted: the last was entered
        i64  count        calls in this row
        i64? bytes        bytes asked to be moved
        i32? result       what it returned; null where not seen
        i64? correlation  number that it shares with what it submitted, in its process
        i32  pid          process
        i32  tid          thread
        gpu  source       how it is known
        """,
    ),
    _table(
        "gpu_samples",
        "A sample of a device by NVML. Null: the device does not report it.",
        """
        i64  time_ns              when
        str  device               device
        f64? utilisation_percent  share of the time before that a kernel ran
        i64? memory_bytes         memory in use, by anybody
        f64? power_w              power drawn
        f64? clock_mhz            clock of its processors
        i64? pcie_rx_bytes_s      received over PCIe
        i64? pcie_tx_bytes_s      sent over PCIe
        """,
    ),
    _table(
        "tensors",
        "A named range of a model file that the command used.",
        """
        i32   file_id       file
        str   name          its name in the model
        i64   offset_bytes  where it begins
        i64   size_bytes    its size
        str   dtype         type of its elements, as the format names it
        shape shape         its dimensions
        """,
    ),
    _table(
        "phases",
        "A named phase.",
        """
        str  name      its name
        i64  start_ns  began
        i64? end_ns    ended, or its thread did; null: had not when recording stopped
        i32  pid       process
        i32  tid       thread
        str? framework package that cvmprof marked it for; null: the program marked it
        """,
    ),
    _table(
        "incidents",
        "A thing that happened to the system.",
        f"""
        i64  time_ns   when
        str  kind      {", ".join(INCIDENT_KINDS)}
        i32? pid       process
        i32? tid       thread
        i32? mount_id  mount
        i32? signal    signal
        str  detail    in words
        """,
    ),
    _table(
        "reconciliation",
        "What was recorded on a mount against what its client counted itself, between the readings "
        "of its counters before and after the command.",
        """
        i32  mount_id       mount
        str  quantity       objects handed to download; body_bytes received, in KiB; chunks of files
        i64? client_before  the client's counter before the command
        i64? client_after   the client's counter after it
        i64? counted        by the client in between; chunks: named by the files' chunk lists
        i64? recorded       in this run's tables for the same time
        i64  in_flight      more that was in progress when the counters were read: the client may
                            have counted it or not
        i64? difference     what is left of recorded minus counted; null: unknown
        str? remark         what the comparison does not cover, or why there is none
        """,
    ),
    _table(
        "probes",
        "A logical event and how it was observed.",
        """
        str  event     logical event
        str  family    kind of attachment
        str  target    function, tracepoint or library and symbol
        str? build_id  build id of the binary
        str? symbols   source of its symbols: .symtab, .gnu_debugdata, .dynsym, or a debug file
        i64  hits      how often it fired
        str? reason    why it is not observed, or not in the best way
        """,
    ),
    _table(
        "losses",
        "Events lost, per probe and cause.",
        """
        str probe  probe or ring
        str cause  why
        i64 count  how many
        """,
    ),
    _table(
        "segments",
        "Derived: the tiling. An interval of one target thread, spent on one cause.",
        """
        i32  pid       process
        i32  tid       thread
        i64  start_ns  begins
        i64  end_ns    ends; equals the start of the thread's next segment
        cause cause    what it was spent on
        i32? op_id     innermost operation in progress
        i32? mount_id  mount of the request waited for
        u64? unique    number of the request waited for
        i32? fetch_id  fetch waited for
        i32? via_tid   thread that ended the wait
        """,
    ),
    _table(
        "stalls",
        "Derived: a gap between the kernels of a device, or of the runner's inferences.",
        """
        i32 stall_id        its number
        str device          device
        i64 start_ns        began
        i64 end_ns          ended: the next kernel begins
        i32? waiting_tid    thread that submitted it; null: not known
        i64 submitted_ns    when the call that submitted it returned, inside the gap; what follows
                            is launch
        i64 copying_in_ns   of the gap: the device copied from the host
        i64 copying_out_ns  of the gap: the device copied to the host
        gpu source          how it is known: with cuda_api a gap between calls, not on the device
        """,
    ),
)

_BY_NAME = {table.name: table for table in TABLES}


def table(name: str) -> Table:
    """Return the table called ``name``. Raises KeyError where there is none."""
    return _BY_NAME[name]


def empty(name: str) -> pl.DataFrame:
    """Return the table called ``name`` without rows."""
    return pl.DataFrame(schema=table(name).schema())


def conform(name: str, frame: pl.DataFrame, *extra: str) -> pl.DataFrame:
    """Return ``frame`` with exactly the table's columns and types; absent columns become null.

    Columns named ``extra`` are kept behind them, as they are.

    Raises polars' errors where a value does not fit its type, and ValueError for a null in a column
    that is not nullable: both are bugs of cvmprof, not faults of the run.
    """
    schema = table(name).schema()
    present = set(frame.columns)
    expressions = [
        pl.col(key).cast(dtype) if key in present else pl.lit(None, dtype=dtype).alias(key)
        for key, dtype in schema.items()
    ]
    result = frame.select(*expressions, *extra)
    refuse_nulls(name, result)
    return result


def refuse_nulls(name: str, frame: pl.DataFrame) -> None:
    """Raise ValueError where a column that is not nullable holds a null."""
    solid: Sequence[str] = [column.name for column in table(name).columns if not column.nullable]
    bad = [key for key in solid if frame[key].null_count()]
    if bad:
        raise ValueError(f"{name}: null in {', '.join(bad)}")
