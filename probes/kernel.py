"""What a kernel has: the facts that attaching depends on, gathered once.

Versions are never tested, only members, tracepoints and functions. `KernelFacts` is plain data: it
can be saved, and the catalogue tested without that kernel. Standard library only.
"""

from __future__ import annotations

import gzip
import mmap
import os
import platform
import re
import subprocess
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import MissingDependency
from .btf import VMLINUX, Btf, BtfError
from .conditions import Conditions, Lack, chosen, of_this_process

#: members whose offsets the programs need: (macro's suffix, struct, path). If rows share a suffix,
#: the first member that a kernel has counts
OFFSETS = (
    ("INODE_I_SB", "inode", "i_sb"),
    ("INODE_I_INO", "inode", "i_ino"),
    ("INODE_I_GENERATION", "inode", "i_generation"),
    ("INODE_I_MODE", "inode", "i_mode"),
    ("INODE_I_SIZE", "inode", "i_size"),
    ("SUPER_BLOCK_S_DEV", "super_block", "s_dev"),
    ("SUPER_BLOCK_S_MAGIC", "super_block", "s_magic"),
    ("SUPER_BLOCK_S_SUBTYPE", "super_block", "s_subtype"),
    ("SUPER_BLOCK_S_FS_INFO", "super_block", "s_fs_info"),
    ("FILE_F_INODE", "file", "f_inode"),
    ("FILE_F_POS", "file", "f_pos"),
    ("FILE_F_PATH_DENTRY", "file", "f_path.dentry"),
    ("FILE_F_PATH_MNT", "file", "f_path.mnt"),
    ("DENTRY_D_PARENT", "dentry", "d_parent"),
    ("DENTRY_D_NAME_NAME", "dentry", "d_name.name"),
    ("VFSMOUNT_MNT_ROOT", "vfsmount", "mnt_root"),
    ("MOUNT_MNT", "mount", "mnt"),
    ("MOUNT_MNT_PARENT", "mount", "mnt_parent"),
    ("MOUNT_MNT_MOUNTPOINT", "mount", "mnt_mountpoint"),
    ("FILE_F_MAPPING", "file", "f_mapping"),
    ("VM_FAULT_VMA", "vm_fault", "vma"),
    ("VM_FAULT_PGOFF", "vm_fault", "pgoff"),
    ("VM_AREA_STRUCT_VM_FILE", "vm_area_struct", "vm_file"),
    ("ADDRESS_SPACE_HOST", "address_space", "host"),
    ("FOLIO_MAPPING", "folio", "mapping"),
    # before 5.16: commit 7b230db3b8d3 ("mm: Introduce struct folio")
    ("FOLIO_MAPPING", "page", "mapping"),
    ("FOLIO_INDEX", "folio", "index"),
    ("FOLIO_INDEX", "page", "index"),
    ("FOLIO_FLAGS", "folio", "flags"),
    ("FOLIO_FLAGS_1", "folio", "_flags_1"),
    ("TASK_STRUCT_PID", "task_struct", "pid"),
    ("TASK_STRUCT_TGID", "task_struct", "tgid"),
    ("TASK_STRUCT_COMM", "task_struct", "comm"),
    ("TASK_STRUCT_FLAGS", "task_struct", "flags"),
    ("TASK_STRUCT_STATUS", "task_struct", "thread_info.status"),  # x86
    ("TASK_STRUCT_FILES", "task_struct", "files"),
    ("TASK_STRUCT_MM", "task_struct", "mm"),
    ("TASK_STRUCT_FS", "task_struct", "fs"),
    ("FS_STRUCT_PWD_DENTRY", "fs_struct", "pwd.dentry"),
    ("FS_STRUCT_PWD_MNT", "fs_struct", "pwd.mnt"),
    ("DENTRY_D_INODE", "dentry", "d_inode"),
    ("TASK_STRUCT_REAL_PARENT", "task_struct", "real_parent"),
    ("TASK_STRUCT_START_TIME", "task_struct", "start_time"),
    ("TASK_STRUCT_EXIT_CODE", "task_struct", "exit_code"),
    ("TASK_STRUCT_THREAD_PID", "task_struct", "thread_pid"),
    ("TASK_STRUCT_GROUP_LEADER", "task_struct", "group_leader"),
    ("TASK_STRUCT_PENDING_SIGNAL", "task_struct", "pending.signal"),
    ("TASK_STRUCT_SE_CFS_RQ", "task_struct", "se.cfs_rq"),
    ("CFS_RQ_THROTTLE_COUNT", "cfs_rq", "throttle_count"),
    ("TASK_STRUCT_THROTTLED", "task_struct", "throttled"),
    ("TASK_STRUCT_CRED", "task_struct", "cred"),
    ("CRED_UID", "cred", "uid"),
    ("PID_LEVEL", "pid", "level"),
    ("PID_NUMBERS", "pid", "numbers"),
    ("MM_STRUCT_ARG_START", "mm_struct", "arg_start"),
    ("MM_STRUCT_ARG_END", "mm_struct", "arg_end"),
    ("MM_STRUCT_EXE_FILE", "mm_struct", "exe_file"),
    ("FILES_STRUCT_FDT", "files_struct", "fdt"),
    ("FDTABLE_FD", "fdtable", "fd"),
    ("FDTABLE_MAX_FDS", "fdtable", "max_fds"),
    ("FILE_PRIVATE_DATA", "file", "private_data"),
    ("SOCKET_SK", "socket", "sk"),
    ("SOCKET_TYPE", "socket", "type"),
    ("SOCK_FAMILY", "sock_common", "skc_family"),
    ("SOCK_STATE", "sock_common", "skc_state"),
    ("SOCK_NUM", "sock_common", "skc_num"),
    ("SOCK_DPORT", "sock_common", "skc_dport"),
    ("SOCK_DADDR", "sock_common", "skc_daddr"),
    ("SOCK_RCV_SADDR", "sock_common", "skc_rcv_saddr"),
    ("SOCK_V6_DADDR", "sock_common", "skc_v6_daddr"),
    ("SOCK_V6_RCV_SADDR", "sock_common", "skc_v6_rcv_saddr"),
    ("SOCK_NET", "sock_common", "skc_net.net"),
    ("NET_NS_INUM", "net", "ns.inum"),
    ("FUSE_REQ_IN_H_UNIQUE", "fuse_req", "in.h.unique"),
    ("FUSE_REQ_IN_H_OPCODE", "fuse_req", "in.h.opcode"),
    ("FUSE_REQ_IN_H_NODEID", "fuse_req", "in.h.nodeid"),
    ("FUSE_REQ_IN_H_PID", "fuse_req", "in.h.pid"),
    ("FUSE_REQ_OUT_H_ERROR", "fuse_req", "out.h.error"),
    ("FUSE_REQ_FLAGS", "fuse_req", "flags"),
    ("FUSE_REQ_ARGS", "fuse_req", "args"),
    ("FUSE_REQ_FM", "fuse_req", "fm"),
    ("FUSE_MOUNT_FC", "fuse_mount", "fc"),
    ("FUSE_CONN_DEV", "fuse_conn", "dev"),
    ("FUSE_REQ_CHAN", "fuse_req", "chan"),  # commit ("fuse: change req->fm to req->chan")
    ("FUSE_CHAN_CONN", "fuse_chan", "conn"),
    ("FUSE_ARGS_IN_ARGS", "fuse_args", "in_args"),
    ("FUSE_IN_ARG_VALUE", "fuse_in_arg", "value"),
    ("FUSE_ARGS_OUT_ARGS", "fuse_args", "out_args"),
    ("FUSE_ARG_VALUE", "fuse_arg", "value"),
    ("FUSE_FILE_PASSTHROUGH", "fuse_file", "passthrough"),  # commit 4a90451bbc7f, see below
    ("KIOCB_KI_FILP", "kiocb", "ki_filp"),
    ("KIOCB_KI_POS", "kiocb", "ki_pos"),
    ("IOV_ITER_COUNT", "iov_iter", "count"),
)
#: offsets that some kernels lack and the programs do not need
OPTIONAL_OFFSETS = frozenset((
    "FOLIO_FLAGS", "FOLIO_FLAGS_1", "TASK_STRUCT_PENDING_SIGNAL", "TASK_STRUCT_STATUS",
    "TASK_STRUCT_SE_CFS_RQ", "CFS_RQ_THROTTLE_COUNT",  # built without quotas of CPU time
    "TASK_STRUCT_THROTTLED",  # … or from before v6.18
    "TASK_STRUCT_CRED", "CRED_UID",
    "SOCK_V6_DADDR", "SOCK_V6_RCV_SADDR",  # built without IPv6
    "SOCK_NET",  # built without network namespaces
    # built without it, or from before 4a90451bbc7f ("fuse: implement open in passthrough mode")
    "FUSE_FILE_PASSTHROUGH",  # (in v6.9)
    "FUSE_ARGS_OUT_ARGS", "FUSE_ARG_VALUE",
    "TASK_STRUCT_FS", "FS_STRUCT_PWD_DENTRY", "FS_STRUCT_PWD_MNT", "DENTRY_D_INODE",
))  # fmt: skip
#: ways from a request to its superblock's device, one of which is enough: FUSE_REQ_CHAN replaced
#: FUSE_REQ_FM in v7.3
DEVICE_OFFSETS = (
    ("FUSE_REQ_FM", "FUSE_MOUNT_FC", "FUSE_CONN_DEV"),
    ("FUSE_REQ_CHAN", "FUSE_CHAN_CONN", "FUSE_CONN_DEV"),
    ("FUSE_REQ_BEFORE_FM", "SUPER_BLOCK_S_FS_INFO", "SUPER_BLOCK_S_DEV"),
)

#: where the task's state is if sched_switch does not pass it: commit 2f064a59a11f ("sched: Change
#: task_struct::state") (in v5.14) renamed the member
_TASK_STATE = (("task_struct", "__state"), ("task_struct", "state"))

RAW_TRACEPOINTS = (
    "sys_enter", "sys_exit", "mm_filemap_fault", "mm_filemap_map_pages",
    "mm_filemap_add_to_page_cache", "signal_generate", "signal_deliver", "fuse_request_send",
    "fuse_request_end",
    "sched_switch", "sched_waking", "task_newtask", "sched_process_exec",
    "sched_process_exit", "sched_process_free", "softirq_entry", "softirq_exit",
    "irq_handler_entry", "irq_handler_exit", "local_timer_entry", "local_timer_exit",
    "call_function_entry", "call_function_exit", "call_function_single_entry",
    "call_function_single_exit",
)  # fmt: skip

VMLINUX_NAME, FUSE_NAME = "vmlinux", "fuse"
#: functions that may be probed: the struct that the programs need, and which argument (from 1)
#: points to it. BTF decides if it describes the function; all kernels so far agree with this
FUNCTIONS = {
    "filemap_fault": ("vm_fault", 1),
    "fuse_dev_queue_req": ("fuse_req", 2),
    "queue_request_and_unlock": ("fuse_req", 2),
    "fuse_request_end": ("fuse_req", 1),
    "fuse_file_read_iter": ("kiocb", 1),
}
#: functions that exist if a way of attaching does: perf events of kprobes and of uprobes; BPF
#: trampolines and what calls them, on arm64 since commit 2aa6ac03516d ("arm64: ftrace: Add direct
#: call support") (in v6.4)
_KPROBES, _UPROBES = "create_local_trace_kprobe", "create_local_trace_uprobe"
_TRAMPOLINES = frozenset(("bpf_trampoline_link_prog", "register_ftrace_direct"))
#: exists in kernels that can preempt kernel code; and the mode, such as "none (full) lazy"
_PREEMPTION, _PREEMPTION_MODE = "preempt_schedule", Path("/sys/kernel/debug/sched/preempt")
#: exists since tracepoints do not disable preemption any more: commit a46023d5616e ("tracing: Guard
#: __DECLARE_TRACE() use of __DO_TRACE_CALL() with SRCU-fast") (in v7.0)
_PREEMPTIBLE = "trace_call_bpf_faultable"

#: configuration options that explain why something is absent; known if they can be read
OPTIONS = (
    "BPF_SYSCALL", "BPF_JIT", "BPF_EVENTS", "DEBUG_INFO_BTF", "DEBUG_INFO_BTF_MODULES", "KALLSYMS",
    "KPROBES", "KPROBE_EVENTS", "UPROBE_EVENTS", "FUNCTION_TRACER",
    "DYNAMIC_FTRACE_WITH_DIRECT_CALLS", "FTRACE_SYSCALLS", "FUSE_FS", "AIO", "IO_URING",
    "SECURITY_LOCKDOWN_LSM",
)  # fmt: skip

#: modules have BTF since commit 36e68442d1af ("bpf: Load and verify kernel module BTFs") (in
#: v5.11). If FUSE is a module of an older kernel, its structs are assumed to be those of v5.10's
#: fs/fuse/fuse_i.h. Bytes, on 64-bit machines. What follows the last member here depends on
#: CONFIG_VIRTIO_FS and on the stable release: the programs search there.
_FUSE_OF_5_10 = {
    "FUSE_REQ_ARGS": 32, "FUSE_REQ_FLAGS": 48, "FUSE_REQ_IN_H_OPCODE": 60,
    "FUSE_REQ_IN_H_UNIQUE": 64, "FUSE_REQ_IN_H_NODEID": 72, "FUSE_REQ_IN_H_PID": 88,
    "FUSE_REQ_OUT_H_ERROR": 100, "FUSE_REQ_BEFORE_FM": 136,
    "FUSE_ARGS_IN_ARGS": 24, "FUSE_IN_ARG_VALUE": 8,
}  # fmt: skip
_FUSE_FLAGS_OF_5_10 = {"REQUEST_BACKGROUND_BIT": 2, "REQUEST_FINISHED_BIT": 9}
#: this function came with struct fuse_mount: commit fcee216beb9c ("fuse: split fuse_mount off of
#: fuse_conn") (in v5.10)
_FUSE_OF_5_10_HAS = "fuse_mount_remove"

_SOUGHT = (
    *FUNCTIONS,
    _KPROBES,
    _UPROBES,
    *_TRAMPOLINES,
    _PREEMPTION,
    _PREEMPTIBLE,
    _FUSE_OF_5_10_HAS,
)
_SYMBOL = re.compile(rb" [tT] (%s)(?:\t\[(\w+)\])?\n" % "|".join(_SOUGHT).encode())


@dataclass(frozen=True)
class KernelFunction:
    """A function that the kernel has under its own name.

    ``module``: where it is, ``vmlinux`` or a module's name. ``described``: whether BTF describes
    it, under ``btf_id``. ``argument``: which argument the programs need, from 1.
    """

    module: str
    described: bool
    argument: int
    btf_id: int = 0


@dataclass(frozen=True)
class KernelFacts:
    """One kernel.

    ``raw_tracepoints``: names with their number of arguments. ``offsets`` (bytes) and
    ``enumerators``: what the programs need, by name. ``functions``: those that may be probed.
    ``kprobes``, ``uprobes``, ``trampolines`` (fentry, fexit): whether they are built in.
    ``preemption`` of kernel code: none, voluntary, full, lazy or unknown;
    ``preemptible_tracepoints``: whether that includes programs on tracepoints.

    ``config``: those of `OPTIONS` that are known (y, m, n). ``untold``: why types and functions are
    unknown, if they are. ``conditions`` are of this boot and process, and are not saved.
    """

    release: str
    machine: str
    page_bytes: int = 4096
    kprobes: bool = False
    uprobes: bool = False
    trampolines: bool = False
    preemption: str = "none"
    preemptible_tracepoints: bool = False
    functions: dict[str, KernelFunction] = field(default_factory=dict[str, KernelFunction])
    raw_tracepoints: dict[str, int] = field(default_factory=dict[str, int])
    offsets: dict[str, int] = field(default_factory=dict[str, int])
    enumerators: dict[str, int] = field(default_factory=dict[str, int])
    config: dict[str, str] = field(default_factory=dict[str, str])
    untold: Lack | None = None
    conditions: Conditions = field(default_factory=Conditions)


def facts_of(
    btf: Btf, release: str, machine: str, kallsyms: bytes = b"", page_bytes: int = 4096
) -> KernelFacts:
    """The facts in a kernel's BTF (of vmlinux and FUSE) and ``/proc/kallsyms``."""
    tracepoints = {name: btf.tracepoint_arguments(name) for name in RAW_TRACEPOINTS}
    symbols = {
        name.decode(): (module or VMLINUX_NAME.encode()).decode()
        for name, module in _SYMBOL.findall(kallsyms)
    }
    offsets, enumerators = _offsets(btf), _enumerators(btf)
    if symbols.get(_FUSE_OF_5_10_HAS) == FUSE_NAME and not btf.has_struct("fuse_req"):
        offsets.update(_FUSE_OF_5_10)
        enumerators.update(_FUSE_FLAGS_OF_5_10)
    return KernelFacts(
        release=release,
        machine=machine,
        page_bytes=page_bytes,
        kprobes=_KPROBES in symbols,
        uprobes=_UPROBES in symbols,
        trampolines=_TRAMPOLINES.issubset(symbols),
        preemption="unknown" if _PREEMPTION in symbols else "none",
        preemptible_tracepoints=_PREEMPTIBLE in symbols,
        functions={
            name: _function(btf, name, symbols[name]) for name in FUNCTIONS if name in symbols
        },
        raw_tracepoints={name: count for name, count in tracepoints.items() if count is not None},
        offsets=offsets,
        enumerators=enumerators,
    )


def running_kernel() -> KernelFacts:
    """The facts of the running kernel, without ``config``. Loads FUSE if it is a module.

    Raises MissingDependency if the kernel has no type information.
    """
    facts = _gathered()
    if facts.untold is not None:
        raise MissingDependency(facts.untold.reason, facts.untold.way_out)
    return facts


def diagnosed_kernel() -> KernelFacts:
    """Everything known about the running kernel, even if it has no type information."""
    facts = _gathered()
    conditions = of_this_process(frozenset(FUNCTIONS))
    return replace(facts, config=_config(facts.release), conditions=conditions)


def config_of(text: str) -> dict[str, str]:
    """The values of `OPTIONS` in a kernel's configuration, ``n`` if not set."""
    set_to = dict(_OPTION.findall(text))
    return {name: set_to.get(name, "n") for name in OPTIONS}


def saved(facts: KernelFacts) -> dict[str, Any]:
    """The facts for JSON, without the conditions of this boot and process."""
    whole = asdict(facts)
    del whole["conditions"]
    return whole


def restored(values: dict[str, Any]) -> KernelFacts:
    """The facts that `saved` gave."""
    entries: dict[str, dict[str, Any]] = values.get("functions", {})
    functions = {name: KernelFunction(**entry) for name, entry in entries.items()}
    untold: dict[str, str] | None = values.get("untold")
    lack = None if untold is None else Lack(**untold)
    whole: dict[str, Any] = {**values, "functions": functions, "untold": lack}
    return KernelFacts(**whole)


_OPTION = re.compile(r"^CONFIG_(\w+)=(\S+)$", re.MULTILINE)


def _gathered() -> KernelFacts:
    release, machine = platform.release(), os.uname().machine
    conditions = of_this_process()
    try:
        btf = Btf.of_running_kernel()
        if not btf.has_struct("fuse_req"):
            btf = _with_fuse(btf)
        symbols = _kallsyms()
        facts = facts_of(btf, release, machine, symbols, mmap.PAGESIZE)
    except OSError:
        untold = Lack(f"the kernel {release} has no type information ({VMLINUX} is absent)", _TYPED)
    except BtfError as error:
        reason = f"the kernel's type information cannot be read: {error}"
        untold = Lack(reason, "report this kernel to the cvmprof project")
    else:
        mode = chosen(_PREEMPTION_MODE) or facts.preemption  # debugfs may not be mounted
        return replace(facts, preemption=mode, conditions=conditions)
    return KernelFacts(release, machine, untold=untold, conditions=conditions)


_TYPED = (
    "boot a kernel built with CONFIG_DEBUG_INFO_BTF (in a container: check that /sys is mounted)"
)


def _kallsyms() -> bytes:
    """The kernel's symbols; nothing if it has none. Their addresses, often hidden, are not used."""
    try:
        return Path("/proc/kallsyms").read_bytes()
    except OSError:
        return b""


def _config(release: str) -> dict[str, str]:
    """The running kernel's configuration, if it can be read."""
    for place in ("/proc/config.gz", f"/boot/config-{release}", f"/lib/modules/{release}/config"):
        try:
            content = Path(place).read_bytes()
        except OSError:
            continue
        text = gzip.decompress(content) if place.endswith(".gz") else content
        return config_of(text.decode("ascii", "replace"))
    return {}


def _with_fuse(btf: Btf) -> Btf:
    """Add the types of FUSE's module, which is loaded: nothing can be attached to it before."""
    types = VMLINUX.with_name(FUSE_NAME)
    if not types.exists():
        modprobe = next((path for path in _MODPROBE if os.access(path, os.X_OK)), None)
        if modprobe:
            subprocess.run([modprobe, "-q", FUSE_NAME], check=False, stdin=subprocess.DEVNULL)
    return Btf(types.read_bytes(), btf) if types.exists() else btf


_MODPROBE = ("/sbin/modprobe", "/usr/sbin/modprobe")


def _function(btf: Btf, name: str, module: str) -> KernelFunction:
    kind, usual = FUNCTIONS[name]
    arguments = btf.function_arguments(name)
    described = arguments is not None
    place = arguments.index(kind) + 1 if arguments and kind in arguments else usual
    return KernelFunction(module, described, place, btf.function_id(name) or 0)


def _offsets(btf: Btf) -> dict[str, int]:
    found = {**_bit(btf, "in_iowait", "IN_IOWAIT"), **_bit(btf, "frozen", "FROZEN")}
    for name, struct_name, path in OFFSETS:
        offset = btf.offset(struct_name, path)
        if offset is not None:
            found.setdefault(name, offset)
    if (btf.tracepoint_arguments("sched_switch") or 0) < 4:
        for place in _TASK_STATE:
            state = btf.offset(*place)
            if state is not None:
                found.setdefault("TASK_STRUCT_STATE", state)
    return found


def _enumerators(btf: Btf) -> dict[str, int]:
    places = {
        "REQUEST_BACKGROUND_BIT": ("fuse_req_flag", "FR_BACKGROUND"),
        "REQUEST_FINISHED_BIT": ("fuse_req_flag", "FR_FINISHED"),
        "FOLIO_HEAD_BIT": ("pageflags", "PG_head"),
        # commit 89ae89f53d20 ("bpf: Add multi uprobe link") (in v6.6)
        "UPROBE_MULTI_TYPE": ("bpf_attach_type", "BPF_TRACE_UPROBE_MULTI"),
    }
    values = {name: btf.enumerator(*place) for name, place in places.items()}
    return {name: value for name, value in values.items() if value is not None}


def _bit(btf: Btf, member_name: str, name: str) -> dict[str, int]:
    """The offset of the byte with a bit of a task, and the number of the bit."""
    member = btf.member("task_struct", member_name)
    if member is None:
        return {}
    return {f"TASK_STRUCT_{name}": member.byte_offset, f"{name}_BIT": member.bit_offset % 8}
