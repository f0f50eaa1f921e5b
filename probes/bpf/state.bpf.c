// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* What all programs share: which tasks are traced, what is in progress on each thread, what was lost.
 *
 * The layouts, the rings with their emit_* functions and the offsets (OFFSET_*) are generated and precede
 * this text. No kernel header is included. */

#define BPF_LICENSE Dual BSD/GPL /* bcc puts it into the module, for the kernel to check */
#define TASK_UNINTERRUPTIBLE_BIT 2
/* __TASK_STOPPED and __TASK_TRACED, the same before and after commit 31cae1eaae4f ("sched,signal,ptrace: Rework
 * TASK_TRACED, TASK_STOPPED state") (in v5.19); TASK_FROZEN, a bit that had no meaning before commit f5d39b020809
 * ("freezer,sched: Rewrite core freezer logic") (in v6.1). */
#define TASK_STOPPED_BITS (0x4 | 0x8 | 0x8000)
#define SIGNAL_BUS 7
#define CRASH_SIGNALS (1 << 4 | 1 << 6 | 1 << SIGNAL_BUS | 1 << 8 | 1 << 11) /* ILL, ABRT, BUS, FPE, SEGV */
#define MODE_TYPE 0170000
#define MODE_REGULAR 0100000
#define SIGNAL_KILL 9
#define NO_UNROLL _Pragma("clang loop unroll(disable)") /* unrolled loops take long to compile */
/* Makes the compiler compare a loop's counter with its constant bound, which older verifiers must see.
 * Otherwise it may count down from a number of which they know no bound. */
#define KEEP_BOUND(counter) asm volatile("" : "+r"(counter))

/* BPF_FUNC_probe_read_user, BPF_FUNC_probe_read_user_str. For each call by those names bcc would search all
 * symbols of the kernel. */
static long (*read_user)(void *to, u32 bytes, void *address) = (void *)112;
static long (*read_user_string)(void *to, u32 bytes, void *address) = (void *)114;

BPF_HASH(roles, u32, u32, 16384);                /* process -> ROLE_* */
BPF_HASH(threads, u32, struct thread, 16384);    /* thread -> what is in progress on it */
BPF_HASH(devices, u32, u32, 4096);               /* superblocks that target tasks have used */
BPF_TABLE("lru_hash", u32, u64, births, 1024);   /* superblock -> when its daemon was initialised, if recorded */
BPF_HASH(daemon_devices, u32, u32, 1024);        /* daemon -> superblock that it serves, once known */
BPF_HASH(requests, u64, struct request, 65536);  /* struct fuse_req * -> request in flight */
BPF_PERCPU_ARRAY(blank_thread, struct thread, 1);

#define HISTORY 256 /* tasks that are looked back upon; a power of two */
#define ROLES 4     /* more than there are; a power of two */
struct ran {
    u64 until_ns; /* from when the one before left */
    u64 longest_ns; /* how long its task ran at a time, at most */
    u64 task; /* struct task_struct * */
    u64 pid_tid; /* 0: the CPU was idle */
};
/* When a quota last kept threads of a cgroup off this CPU. */
struct throttle {
    u64 cfs_rq; /* struct cfs_rq * of the cgroup on this CPU */
    u64 from_ns;
    u64 until_ns; /* 0: it does still */
};
struct history {
    u64 count;
    u32 untraced; /* this thread runs now and was not traced when it began to; 0: not known */
    u32 throttled; /* a throttle has not ended */
    struct throttle throttles[ROLES]; /* by the role of the threads */
    struct cpu_wait part; /* of the wait that is being divided */
    u32 had; /* place of what ran at the end of the part */
    struct ran ran[HISTORY]; /* what ran on this CPU last */
};
BPF_PERCPU_ARRAY(history, struct history, 1);

/* The slot of a CPU's memory that a thread uses: while it is preempted in a program, others run there. */
static __always_inline u32 thread_slot(void) { return (u32)bpf_get_current_pid_tgid() % THREAD_SLOTS; }

/* A program with a backup leaves its thread in a slot of the CPU, and the backup removes it. If the backup
 * finds another thread there, the program did not run, because a task is preempted in it: that is counted. */
static __always_inline void note_run(u32 pair, bool backup) {
    u32 thread = bpf_get_current_pid_tgid(), slot = pair * THREAD_SLOTS + thread_slot();
    u32 *ran = first_ran.lookup(&slot);
    u64 *count = stood_in.lookup(&pair);
    if (!ran || !count)
        return;
    if (!backup)
        *ran = thread;
    else if (*ran == thread)
        *ran = 0;
    else
        ++*count;
}

struct file_identity {
    u64 ino;
    u32 dev;
    u32 generation;
};

static __always_inline u64 read_u64(u64 address) {
    u64 value = 0;
    bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
    return value;
}

static __always_inline u32 read_u32(u64 address) {
    u32 value = 0;
    bpf_probe_read_kernel(&value, sizeof(value), (void *)address);
    return value;
}

static __always_inline u64 read_user_u64(u64 address) {
    u64 value = 0;
    read_user(&value, sizeof(value), (void *)address);
    return value;
}

static __always_inline u32 role_of(u32 pid) {
    u32 *role = roles.lookup(&pid);
    return role ? *role : 0;
}

/* Whether a daemon is known to serve a superblock that no target has used. */
static __always_inline bool serves_others(u32 pid) {
    u32 *device = daemon_devices.lookup(&pid);
    return device && !devices.lookup(device);
}

/* The state of a thread of a traced process, created when first needed; NULL if the map is full. */
static __always_inline struct thread *thread_of(u32 pid, u32 tid, u32 role) {
    struct thread *thread = threads.lookup(&tid);
    if (thread)
        return thread;
    u32 zero = 0;
    struct thread *blank = blank_thread.lookup(&zero);
    if (!blank)
        return 0;
    threads.update(&tid, blank);
    thread = threads.lookup(&tid);
    if (!thread) {
        count_loss(EVENT_TASK, LOSS_MAP_FULL);
        return 0;
    }
    thread->pid = pid; /* not in the blank: another program may run in between */
    thread->tid = tid;
    thread->role = role;
    struct history *past = history.lookup(&zero);
    if (past)
        past->untraced = 0; /* it may be the one that runs here */
    return thread;
}

static __always_inline struct thread *current_thread(void) {
    u32 tid = bpf_get_current_pid_tgid();
    return threads.lookup(&tid);
}

/* The innermost file operation in progress on a thread. */
static __always_inline struct operation *innermost_operation(struct thread *thread) {
    if (thread->fault.start_ns)
        return &thread->fault;
    if (thread->operation.start_ns)
        return &thread->operation;
    return 0;
}

static __always_inline void identify(u64 inode, struct file_identity *identity) {
    identity->ino = read_u64(inode + OFFSET_INODE_I_INO);
    identity->generation = read_u32(inode + OFFSET_INODE_I_GENERATION);
    identity->dev = read_u32(read_u64(inode + OFFSET_INODE_I_SB) + OFFSET_SUPER_BLOCK_S_DEV);
}

static __always_inline bool is_fuse(u64 superblock) {
    return read_u64(superblock + OFFSET_SUPER_BLOCK_S_MAGIC) == FUSE_SUPER_MAGIC;
}

/* Whether operations on the inode are recorded: all on FUSE, and with --all-files on every regular file. */
static __always_inline bool inode_is_traced(u64 inode, u64 superblock) {
#ifdef ALL_FILES
    if ((read_u32(inode + OFFSET_INODE_I_MODE) & MODE_TYPE) == MODE_REGULAR)
        return true;
#endif
    return is_fuse(superblock);
}

/* From now on all requests to a superblock are recorded, whichever task makes them. */
static __always_inline void note_device(u32 device) {
    u32 seen = 1;
    if (!devices.lookup(&device) && devices.update(&device, &seen))
        count_loss(EVENT_REQUEST_QUEUED, LOSS_MAP_FULL);
}

/* Stores the inode in the operation. Returns whether its superblock is traced. */
static __always_inline bool attach_inode(struct operation *operation, u64 inode) {
    u64 superblock = read_u64(inode + OFFSET_INODE_I_SB);
    if (!superblock || !inode_is_traced(inode, superblock))
        return false;
    operation->ino = read_u64(inode + OFFSET_INODE_I_INO);
    operation->generation = read_u32(inode + OFFSET_INODE_I_GENERATION);
    operation->dev = read_u32(superblock + OFFSET_SUPER_BLOCK_S_DEV);
    operation->flags |= OPERATION_KNOWN_FILE | OPERATION_TRACED_FILE;
    if (is_fuse(superblock))
        operation->flags |= OPERATION_FUSE;
    note_device(operation->dev);
    return true;
}

#ifdef OFFSET_FUSE_FILE_PASSTHROUGH
struct backed_file {
    struct file_identity file;   /* on FUSE */
    struct file_identity backing; /* the one that it is read from, without its daemon */
};
BPF_TABLE("lru_hash", u64, struct backed_file, backed, 16384); /* by the address of the backing inode */

static __always_inline bool is_same_file(struct file_identity *one, struct file_identity *other) {
    return one->ino == other->ino && one->dev == other->dev && one->generation == other->generation;
}

/* With FUSE passthrough an open file is read without the daemon, and its pages belong to the backing file:
 * notes that, and which file it is. */
static __always_inline void note_backing(struct operation *operation, u64 file) {
    if (!(operation->flags & OPERATION_FUSE))
        return;
    u64 backing = read_u64(read_u64(file + OFFSET_FILE_PRIVATE_DATA) + OFFSET_FUSE_FILE_PASSTHROUGH);
    u64 own = read_u64(file + OFFSET_FILE_F_INODE);
    if (!backing || (read_u32(own + OFFSET_INODE_I_MODE) & MODE_TYPE) != MODE_REGULAR)
        return;
    operation->flags |= OPERATION_PASSTHROUGH;
    struct backed_file now = {.file = {operation->ino, operation->dev, operation->generation}};
    u64 inode = read_u64(backing + OFFSET_FILE_F_INODE);
    identify(inode, &now.backing);
    struct backed_file *entry = backed.lookup(&inode);
    if (!entry || !is_same_file(&entry->file, &now.file) || !is_same_file(&entry->backing, &now.backing))
        backed.update(&inode, &now);
}

static __always_inline bool attach_backed(struct operation *operation, u64 inode) {
    struct backed_file *entry = backed.lookup(&inode);
    struct file_identity now = {};
    if (!entry)
        return false;
    identify(inode, &now);
    if (!is_same_file(&entry->backing, &now))
        return false; /* another file's inode is now at this address */
    operation->ino = entry->file.ino;
    operation->dev = entry->file.dev;
    operation->generation = entry->file.generation;
    operation->flags |= OPERATION_KNOWN_FILE | OPERATION_TRACED_FILE | OPERATION_FUSE | OPERATION_PASSTHROUGH;
    return true;
}
#else
static __always_inline void note_backing(struct operation *operation, u64 file) {}
static __always_inline bool attach_backed(struct operation *operation, u64 inode) { return false; }
#endif

/* Stores the file that an inode's pages belong to: with passthrough, the one on FUSE. */
static __always_inline bool attach_mapped(struct operation *operation, u64 inode) {
    if (is_fuse(read_u64(inode + OFFSET_INODE_I_SB)))
        return attach_inode(operation, inode);
    return attach_backed(operation, inode) || attach_inode(operation, inode);
}

/* Pages of a folio. A large one has its order in the low byte of the second page's flags: commit ebc1baf5c9b4
 * ("mm: free up a word in the first tail page") (in v6.6). */
static __always_inline u32 folio_pages(u64 folio) {
#if defined(OFFSET_FOLIO_FLAGS) && defined(OFFSET_FOLIO_FLAGS_1) && defined(FOLIO_HEAD_BIT)
    if ((read_u64(folio + OFFSET_FOLIO_FLAGS) >> FOLIO_HEAD_BIT) & 1)
        return 1 << (read_u64(folio + OFFSET_FOLIO_FLAGS_1) & 0x1f);
#endif
    return 1;
}
