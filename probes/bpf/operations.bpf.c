// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* File operations of target threads: system calls and page faults, page-cache hits aggregated. */

#define MAP_LOCKED_FLAG 0x2000
#define MAP_POPULATE_FLAG 0x8000
#define ADVICE_WILLNEED 3
#define ADVICE_POPULATE_READ 22
#define ADVICE_POPULATE_WRITE 23
#define FAULT_SYSCALL 65535
#define ASYNCHRONOUS_READ_SYSCALL 65534
#define MAX_VECTORS 64
#define ERROR_NO_ENTRY 2
#define WORKING_DIRECTORY (-100) /* AT_FDCWD */
#define FAULT_INTERRUPTED (-4)
#define PAGE_UNITS (1 << (PAGE_BITS - 12)) /* pages are counted in units of 4 KiB on every machine */

BPF_ARRAY(syscall_classes, u32, 512); /* number -> CLASS_* of a target | CLASS_* of a daemon << 8 */
BPF_HASH(touches, struct touch_key, struct touch, 131072);

static __always_inline u32 classes_of(u32 number) {
    u32 *classes = syscall_classes.lookup(&number);
    return classes ? *classes : 0;
}

/* The class of a system call for a thread of this role: 0 if it does not matter. */
static __always_inline u32 class_for(u32 role, u32 classes) {
    return role == ROLE_DAEMON ? classes >> 8 : classes & 0xff;
}

static __always_inline struct touch *touch_of(struct operation *operation, u64 offset) {
    struct touch_key key = {
        .ino = operation->ino,
        .bucket = bpf_ktime_get_ns() / TOUCH_BUCKET_NS,
        .dev = operation->dev,
        .generation = operation->generation,
        .granule = offset / TOUCH_GRANULE_BYTES,
    };
    struct touch blank = {};
    struct touch *touch = touches.lookup_or_try_init(&key, &blank);
    if (!touch)
        count_loss(EVENT_TOUCH, LOSS_MAP_FULL);
    return touch;
}

/* Counts the bytes that a read supplied in the granules that they belong to. A longer read is recorded as an
 * operation, and spread when the tables are made. */
static __always_inline void touch_read(struct operation *operation) {
    u64 offset = operation->offset, left = operation->result;
    if (left > LONG_READ_BYTES)
        return;
    NO_UNROLL
    for (int index = 0; index < LONG_READ_BYTES / TOUCH_GRANULE_BYTES + 1 && left; index++) {
        u64 here = TOUCH_GRANULE_BYTES - offset % TOUCH_GRANULE_BYTES;
        if (here > left)
            here = left;
        struct touch *touch = touch_of(operation, offset);
        if (touch)
            __sync_fetch_and_add(&touch->bytes_read, here);
        offset += here;
        left -= here;
    }
}

/* Keeps the compiler from moving memory accesses across it. */
#define IN_ORDER() asm volatile("" ::: "memory")

static __always_inline void emit_run(struct thread *thread) {
    if (!thread->hit.count && !thread->hit.empty)
        return;
    emit_hit(&thread->hit);
    thread->hit.count = thread->hit.empty = 0;
}

/* A program may be preempted while it changes the run: switch_out() must not flush it then. */
static __always_inline void flush_hits(struct thread *thread) {
    thread->adding = 1;
    IN_ORDER();
    emit_run(thread);
    IN_ORDER();
    thread->adding = 0;
}

static __always_inline bool continues_run(struct hit *run, struct operation *operation) {
    return (run->count || run->empty) && run->ino == operation->ino && run->dev == operation->dev &&
           run->generation == operation->generation && run->kind == operation->kind &&
           operation->end_ns - run->start_ns <= HIT_RUN_NS;
}

static __always_inline void begin_run(struct thread *thread, struct operation *operation) {
    struct hit *run = &thread->hit;
    emit_run(thread);
    run->start_ns = operation->start_ns;
    run->ino = operation->ino;
    run->dev = operation->dev;
    run->generation = operation->generation;
    run->pid = operation->pid;
    run->tid = operation->tid;
    run->kind = operation->kind;
    run->bytes = run->ns = run->max_ns = 0;
}

static __always_inline void count_supplied(struct hit *run, struct operation *operation) {
    u64 took = operation->end_ns - operation->start_ns;
    run->count++;
    run->ns += took;
    if (operation->kind != KIND_FAULT)
        run->bytes += operation->result;
    if (took > run->max_ns)
        run->max_ns = took;
}

static __always_inline void add_hit(struct thread *thread, struct operation *operation) {
    struct hit *run = &thread->hit;
    thread->adding = 1;
    IN_ORDER();
    if (!continues_run(run, operation))
        begin_run(thread, operation);
    run->end_ns = operation->end_ns;
    if (operation->result || operation->kind == KIND_FAULT)
        count_supplied(run, operation);
    else
        run->empty++; /* at the file's end or of size 0: it asked for no page */
    IN_ORDER();
    thread->adding = 0;
}

static __always_inline bool is_hit(struct operation *operation) {
#ifdef EVERY_READ
    return false;
#else
    return !operation->requests && !(operation->flags & OPERATION_WAITED) && operation->result >= 0 &&
           operation->result <= LONG_READ_BYTES &&
           (operation->kind == KIND_READ || operation->kind == KIND_SPLICE || operation->kind == KIND_FAULT);
#endif
}

/* Open and metadata operations count only if they reached a traced superblock, or may have failed there. */
static __always_inline bool is_recorded(struct operation *operation) {
    if (operation->requests || (operation->flags & OPERATION_LINKED))
        return true;
    if (operation->kind == KIND_METADATA)
        return operation->result < 0 && operation->flags & OPERATION_TRACED_FILE;
    return operation->flags & OPERATION_TRACED_FILE;
}

static __always_inline void close_operation(struct thread *thread, struct operation *operation) {
    if (is_recorded(operation)) {
        if (operation->result > 0 && (operation->kind == KIND_READ || operation->kind == KIND_SPLICE))
            touch_read(operation);
        if (is_hit(operation)) {
            add_hit(thread, operation);
        } else {
            flush_hits(thread);
            emit_operation(operation);
        }
    }
    operation->start_ns = 0;
}

static __always_inline void open_operation(struct thread *thread, struct operation *operation, u8 kind) {
    operation->start_ns = bpf_ktime_get_ns();
    operation->end_ns = 0;
    operation->ino = 0;
    operation->offset = -1;
    operation->size = 0;
    operation->result = 0;
    operation->dev = 0;
    operation->generation = 0;
    operation->pid = thread->pid;
    operation->tid = thread->tid;
    operation->requests = 0;
    operation->kind = kind;
    operation->flags = 0;
}

static __always_inline u64 file_of(u32 descriptor) {
    u64 task = bpf_get_current_task();
    u64 table = read_u64(read_u64(task + OFFSET_TASK_STRUCT_FILES) + OFFSET_FILES_STRUCT_FDT);
    if (descriptor >= read_u32(table + OFFSET_FDTABLE_MAX_FDS))
        return 0;
    return read_u64(read_u64(table + OFFSET_FDTABLE_FD) + 8 * (u64)descriptor);
}

/* Stores the file of a descriptor. Returns it, or 0 if there is none or its superblock is not traced. */
static __always_inline u64 attach_descriptor(struct operation *operation, u32 descriptor) {
    u64 file = file_of(descriptor);
    u64 inode = file ? read_u64(file + OFFSET_FILE_F_INODE) : 0;
    if (!inode || !attach_inode(operation, inode))
        return 0;
    note_backing(operation, file);
    return file;
}

static __always_inline u64 vector_size(u64 vector, u64 count) {
    u64 size = 0;
    KEEP_BOUND(count); /* if the compiler knew that it is below the bound, it would drop the bound */
    NO_UNROLL
    for (u64 index = 0; index < MAX_VECTORS; index++) {
        if (index >= count)
            break;
        size += read_user_u64(vector + 16 * index + 8);
        KEEP_BOUND(index);
    }
    return size;
}

struct arguments {
    u64 a, b, c, d, e, f;
};

static __always_inline struct arguments arguments_of(u64 registers) {
    return (struct arguments){
        .a = read_u64(registers + OFFSET_ARGUMENT_1),
        .b = read_u64(registers + OFFSET_ARGUMENT_2),
        .c = read_u64(registers + OFFSET_ARGUMENT_3),
        .d = read_u64(registers + OFFSET_ARGUMENT_4),
        .e = read_u64(registers + OFFSET_ARGUMENT_5),
        .f = read_u64(registers + OFFSET_ARGUMENT_6),
    };
}

/* The argument that is the descriptor of the file read or advised on; -1 if none is. */
static __always_inline s32 descriptor_of(u32 class, struct arguments *with) {
    if (class == CLASS_SENDFILE)
        return with->b;
    if (class == CLASS_MMAP)
        return with->e;
    return class <= CLASS_FADVISE || class == CLASS_CLOSE ? with->a : -1;
}

static __always_inline u8 kind_of(u32 class, struct arguments *with) {
    if (class <= CLASS_PREADV)
        return KIND_READ;
    if (class <= CLASS_COPY_FILE_RANGE)
        return KIND_SPLICE;
    if (class == CLASS_MMAP)
        return with->d & (MAP_POPULATE_FLAG | MAP_LOCKED_FLAG) ? KIND_POPULATE : KIND_NONE;
    if (class == CLASS_MLOCK)
        return KIND_POPULATE;
    if (class == CLASS_READAHEAD)
        return KIND_ADVISE;
    if (class == CLASS_FADVISE)
        return with->d == ADVICE_WILLNEED ? KIND_ADVISE : KIND_NONE;
    if (class == CLASS_MADVISE && (with->c == ADVICE_POPULATE_READ || with->c == ADVICE_POPULATE_WRITE))
        return KIND_POPULATE;
    if (class == CLASS_MADVISE)
        return with->c == ADVICE_WILLNEED ? KIND_ADVISE : KIND_NONE;
    return class <= CLASS_EXECVEAT ? KIND_OPEN : KIND_METADATA;
}

/* The range that the arguments ask for. The offset is an argument, pointed to, or the file's position. */
static __always_inline void set_range(struct operation *operation, u32 class, struct arguments *with, u64 file) {
    u64 pointer = 0, size = with->c;
    bool given = class == CLASS_PREAD || class == CLASS_PREADV;
    if (class == CLASS_PREADV && with->d == -1ULL)
        given = false; /* preadv2: the file's position */
    if ((class == CLASS_READV || class == CLASS_PREADV) && with->c > MAX_VECTORS)
        return; /* too many to add up: the range remains unknown */
    if (class == CLASS_READV || class == CLASS_PREADV) {
        size = vector_size(with->b, with->c);
    } else if (class == CLASS_SENDFILE) {
        pointer = with->c;
        size = with->d;
    } else if (class == CLASS_SPLICE || class == CLASS_COPY_FILE_RANGE) {
        pointer = with->b;
        size = with->e;
    }
    s64 offset = given ? with->d : pointer ? read_user_u64(pointer) : read_u64(file + OFFSET_FILE_F_POS);
    if (class == CLASS_MMAP) {
        offset = with->f;
        size = with->b;
    } else if (class == CLASS_READAHEAD || class == CLASS_FADVISE) {
        offset = with->b;
    }
    operation->offset = offset;
    operation->size = size;
    operation->flags |= OPERATION_HAS_RANGE;
}

static __always_inline void begin_syscall(struct thread *thread, u32 class, u64 number, u64 registers) {
    struct arguments with = arguments_of(registers);
    u8 kind = kind_of(class, &with);
    if (class == CLASS_MMAP && maps_code(with.c))
        note_code(file_of(with.e));
    if (kind == KIND_NONE)
        return;
    struct operation *operation = &thread->operation;
    open_operation(thread, operation, kind);
    operation->syscall = number;
    s32 descriptor = descriptor_of(class, &with);
    u64 file = descriptor >= 0 ? attach_descriptor(operation, descriptor) : 0;
    if (file && class != CLASS_CLOSE)
        set_range(operation, class, &with, file);
    else if (!file && class <= CLASS_COPY_FILE_RANGE)
        operation->start_ns = 0; /* a read of a file that is not traced */
}

/* Whether the system call returns only because its thread is being killed: the operation never ends then. */
static __always_inline bool is_cut_short(struct operation *operation, s64 result) {
#ifdef OFFSET_TASK_STRUCT_PENDING_SIGNAL
    if (result >= 0)
        return false;
    if (operation->requests || operation->flags & OPERATION_WAITED)
        return read_u64(bpf_get_current_task() + OFFSET_TASK_STRUCT_PENDING_SIGNAL) >> (SIGNAL_KILL - 1) & 1;
#endif
    return false;
}

/* Whether a call failed with an error that concerns a file system. The automounter's is ENOENT, after a sleep in
 * which nothing was asked for. */
static __always_inline bool is_trouble(struct operation *operation) {
    u64 error = -operation->result;
    if (error == ERROR_NO_ENTRY)
        return operation->flags & OPERATION_WAITED && !(operation->requests || operation->flags & OPERATION_LINKED);
    return error < 64 ? TROUBLES_LOW >> error & 1 : error < 128 && TROUBLES_HIGH >> (error - 64) & 1;
}

/* Describes the directory that a relative path begins at. */
static __always_inline void describe_base(struct file *base, bool at, s32 descriptor) {
#if defined(OFFSET_TASK_STRUCT_FS) && defined(OFFSET_FS_STRUCT_PWD_DENTRY) && defined(OFFSET_DENTRY_D_INODE)
    struct path_step from = {};
    if (at && descriptor != WORKING_DIRECTORY) {
        u64 file = file_of(descriptor);
        if (file)
            from = path_of(file);
    } else {
        u64 own = read_u64(bpf_get_current_task() + OFFSET_TASK_STRUCT_FS);
        from.dentry = read_u64(own + OFFSET_FS_STRUCT_PWD_DENTRY);
        from.vfsmount = read_u64(own + OFFSET_FS_STRUCT_PWD_MNT);
    }
    u64 inode = from.dentry ? read_u64(from.dentry + OFFSET_DENTRY_D_INODE) : 0;
    if (!inode)
        return;
    struct file_identity identity = {};
    identify(inode, &identity);
    describe_inode(base, inode, &identity);
    walk_up(base, from);
#endif
}

/* Reports the path of a failed call. Whether it lies on a traced file system is decided when the tables are made. */
static __always_inline void report_failure(struct operation *operation, u64 path, bool at, s32 descriptor) {
    u32 slot = thread_slot();
    struct failure *failure = path_scratch.lookup(&slot);
    if (!failure || read_user_string(failure->asked, sizeof(failure->asked), (void *)path) <= 0)
        return;
    failure->time_ns = 0;
    failure->text = failure->mount_text = failure->complete = 0;
    if (failure->asked[0] != '/')
        describe_base((struct file *)failure, at, descriptor);
    read_user_string(failure->asked, sizeof(failure->asked), (void *)path); /* the walk may have written there */
    failure->start_ns = operation->start_ns;
    failure->tid = operation->tid;
    failure->requests = operation->requests;
    operation->flags |= OPERATION_TRACED_FILE;
    emit_failure(failure);
}

/* A call that failed and says so of its file system: its descriptor's file, or the path that it was given. */
static __always_inline void end_in_trouble(struct operation *operation, u64 registers) {
    struct arguments with = arguments_of(registers);
    u32 class = class_for(ROLE_TARGET, classes_of(operation->syscall));
    if (class == CLASS_METADATA)
        attach_descriptor(operation, with.a);
    bool at = class == CLASS_OPENAT || class == CLASS_EXECVEAT || class == CLASS_STATAT;
    if (at || class == CLASS_OPEN || class == CLASS_EXEC || class == CLASS_STAT)
        report_failure(operation, at ? with.b : with.a, at, with.a);
}

static __always_inline void end_syscall(struct thread *thread, s64 result, u64 registers) {
    struct operation *operation = &thread->operation;
    if (is_cut_short(operation, result))
        return; /* task_ends() reports it */
    operation->end_ns = bpf_ktime_get_ns();
    bool executes = operation->syscall == SYSCALL_EXECVE || operation->syscall == SYSCALL_EXECVEAT;
    if (operation->kind == KIND_OPEN && result >= 0 && !executes) {
        u64 file = attach_descriptor(operation, result);
        if (file)
            report_file(file);
    }
    operation->result = operation->kind > KIND_SPLICE && result > 0 ? 0 : result;
    if (result < 0 && operation->kind >= KIND_OPEN && is_trouble(operation))
        end_in_trouble(operation, registers);
    close_operation(thread, operation);
}

/* Whether the end of the system call was missed but the result of its read is known: see note_result(). */
static __always_inline bool has_result(struct operation *operation) {
#ifdef PREEMPTIBLE_TRACEPOINTS
    return operation->start_ns && operation->end_ns;
#else
    return false;
#endif
}

/* Closes an operation that is still marked as in progress but has ended unseen. */
static __always_inline void settle(struct thread *thread) {
    struct operation *operation = &thread->operation;
    bool asynchronous = operation->start_ns && operation->syscall == ASYNCHRONOUS_READ_SYSCALL;
    if (has_result(operation)) {
        count_hit(EVENT_SYSTEM_CALL);
        close_operation(thread, operation);
    } else {
        count_loss(asynchronous ? EVENT_ASYNCHRONOUS_READ : EVENT_SYSTEM_CALL, LOSS_UNMATCHED_START);
    }
    thread->syscall_number = operation->start_ns = 0;
}

static __always_inline int begin_fault(struct thread *thread, u64 inode, u64 page) {
    struct operation *around = &thread->operation;
    if (around->start_ns && (around->kind == KIND_POPULATE || around->kind == KIND_ADVISE)) {
        if (!(around->flags & OPERATION_KNOWN_FILE))
            attach_mapped(around, inode);
        return 0; /* it ends with its system call: without user registers it has no end event of its own */
    }
    struct operation *fault = &thread->fault;
    s64 offset = page << PAGE_BITS;
    if (fault->start_ns) {
        if (fault->offset == offset && fault->ino == read_u64(inode + OFFSET_INODE_I_INO))
            return 0; /* VM_FAULT_RETRY: the same address again */
        /* Pages that a system call pins or fills fault without user registers, so they have no end events of
         * their own: together they are one fault, which ends with the call. */
        if (offset + (1 << PAGE_BITS) > fault->offset + (s64)fault->size)
            fault->size = offset + (1 << PAGE_BITS) - fault->offset;
        return 0;
    }
    open_operation(thread, fault, KIND_FAULT);
    fault->syscall = FAULT_SYSCALL;
    fault->offset = offset;
    fault->size = 1 << PAGE_BITS;
    fault->flags |= OPERATION_HAS_RANGE;
    if (!attach_mapped(fault, inode))
        fault->start_ns = 0;
    else
        count_hit(EVENT_PAGE_FAULT);
    return 0;
}

static __always_inline int begin_fault_at(u64 mapping, u64 page) {
    struct thread *thread = current_thread();
    if (!thread || thread->role != ROLE_TARGET)
        return 0;
    return begin_fault(thread, read_u64(mapping + OFFSET_ADDRESS_SPACE_HOST), page);
}

/* At the function's entry: the fault's file and page are in its struct vm_fault. */
static __always_inline int begin_fault_of(u64 fault) {
    struct thread *thread = current_thread();
    if (!thread || thread->role != ROLE_TARGET)
        return 0;
    u64 file = read_u64(read_u64(fault + OFFSET_VM_FAULT_VMA) + OFFSET_VM_AREA_STRUCT_VM_FILE);
    u64 inode = read_u64(read_u64(file + OFFSET_FILE_F_MAPPING) + OFFSET_ADDRESS_SPACE_HOST);
    return begin_fault(thread, inode, read_u64(fault + OFFSET_VM_FAULT_PGOFF));
}

static __always_inline void close_fault(struct thread *thread, s64 result) {
    if (!thread->fault.start_ns)
        return;
    count_hit(EVENT_PAGE_FAULT_END);
    thread->fault.end_ns = bpf_ktime_get_ns();
    thread->fault.result = result;
    close_operation(thread, &thread->fault);
}

static __always_inline int end_fault(s64 result) {
    struct thread *thread = current_thread();
    if (thread)
        close_fault(thread, result);
    return 0;
}

/* Stores the file of a mapping that a target touches at a page. A backup does not repeat what the program before
 * it has just counted. */
static __always_inline bool identify_target_mapping(struct operation *as, u64 mapping, u64 what, bool backup) {
    struct thread *thread = current_thread();
    if (!thread || thread->role != ROLE_TARGET || (backup && thread->touched == what))
        return false;
    thread->touched = what;
    u64 inode = read_u64(mapping + OFFSET_ADDRESS_SPACE_HOST);
    return inode && attach_mapped(as, inode);
}

static __always_inline int page_cache_insertion(u64 folio, bool backup) {
    struct operation as = {};
    if (!identify_target_mapping(&as, read_u64(folio + OFFSET_FOLIO_MAPPING), folio, backup))
        return 0;
    count_hit(EVENT_PAGE_CACHE_INSERTION);
    struct touch *touch = touch_of(&as, read_u64(folio + OFFSET_FOLIO_INDEX) << PAGE_BITS);
    if (touch)
        __sync_fetch_and_add(&touch->pages_inserted, folio_pages(folio) * PAGE_UNITS);
    return 0;
}

static __always_inline int fault_around(u64 mapping, u64 start, u64 end, bool backup) {
    struct operation as = {};
    if (!identify_target_mapping(&as, mapping, mapping ^ start, backup))
        return 0;
    count_hit(EVENT_FAULT_AROUND);
    struct touch *touch = touch_of(&as, start << PAGE_BITS);
    if (touch)
        __sync_fetch_and_add(&touch->pages_mapped, (end - start + 1) * PAGE_UNITS);
    return 0;
}
