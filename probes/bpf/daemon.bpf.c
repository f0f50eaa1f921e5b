/* Inside the daemon: calls of the client's functions by uprobes, and what its system calls tell. */

#define MAX_DEPTH 8
#define AF_INET 2
#define AF_INET6 10
#define GET_WORD 0x20544547 /* "GET " */
#define FUSE_HEADER_BYTES 40
#define MAX_OPCODE 4200

struct name_buffer {
    u8 bytes[256 + 128];
};

BPF_HASH(calls, u64, struct call, 8192);          /* tid << 8 | depth -> call not yet returned */
BPF_HASH(downloads, u64, struct download, 8192);  /* pid << 32 | fd -> the connection's last download */
BPF_PERCPU_ARRAY(download_scratch, struct download, 1);
BPF_PERCPU_ARRAY(name_scratch, struct name_buffer, 1);
BPF_PERCPU_ARRAY(cache_scratch, struct cache_file, 1);

static __always_inline struct thread *daemon_thread(void) {
    u64 task = bpf_get_current_pid_tgid();
    u32 pid = task >> 32;
    if (role_of(pid) != ROLE_DAEMON)
        begin_daemon(pid);
    struct thread *thread = thread_of(pid, task, ROLE_DAEMON);
    if (thread)
        thread->role = ROLE_DAEMON;
    return thread;
}

static __always_inline u64 frame_key(struct thread *thread, u32 depth) {
    return (u64)thread->tid << 8 | depth;
}

static __always_inline void inherit(struct call *call, struct thread *thread) {
    u64 key = frame_key(thread, thread->depth - 1);
    struct call *parent = thread->depth ? calls.lookup(&key) : 0;
    if (!parent)
        return;
    call->parent_start_ns = parent->start_ns;
    call->parent_function = parent->function;
    call->unique = parent->unique;
}

/* What a function's arguments tell: the request, the inode and range, or the object. */
static __always_inline void read_call_arguments(struct call *call, struct pt_regs *ctx) {
    u32 function = call->function;
    if (function >= FN_FETCHER_FETCH) {
        if (function != FN_DOWNLOADMANAGER_FETCH)
            bpf_probe_read_user(call->object, sizeof(call->object), (void *)ctx->FUNCTION_ARGUMENT_2);
        return;
    }
    call->unique = read_user_u64(ctx->FUNCTION_ARGUMENT_1 + 8); /* fuse_req_t: its second word */
    call->ino = ctx->FUNCTION_ARGUMENT_2;
    if (function == FN_CVMFS_READ) {
        call->size = ctx->FUNCTION_ARGUMENT_3;
        call->offset = ctx->FUNCTION_ARGUMENT_4;
    }
}

static __always_inline int enter_call(struct pt_regs *ctx, u32 function) {
    struct thread *thread = daemon_thread();
    if (!thread || !function || serves_others(thread->pid))
        return 0;
    count_hit(EVENT_DAEMON_CALL);
    struct call call = {.start_ns = bpf_ktime_get_ns(), .function = function};
    call.pid = thread->pid;
    call.tid = thread->tid;
    inherit(&call, thread);
    read_call_arguments(&call, ctx);
    u64 key = frame_key(thread, thread->depth);
    if (thread->depth >= MAX_DEPTH || calls.update(&key, &call))
        count_loss(EVENT_DAEMON_CALL, LOSS_MAP_FULL);
    thread->depth++;
    return 0;
}

static __always_inline int leave_call(struct pt_regs *ctx, u32 function) {
    struct thread *thread = current_thread();
    if (!thread || !thread->depth)
        return 0; /* entered before recording */
    thread->depth--;
    u64 key = frame_key(thread, thread->depth);
    struct call *call = calls.lookup(&key);
    if (!call)
        return 0; /* its entry was counted as lost */
    if (call->function != function) {
        count_loss(EVENT_DAEMON_CALL, LOSS_UNMATCHED_END);
        return 0;
    }
    call->end_ns = bpf_ktime_get_ns();
    call->result = ctx->FUNCTION_RESULT;
    emit_call(call);
    calls.delete(&key);
    return 0;
}

#ifdef UPROBE_MULTI_TYPE
/* BPF_FUNC_get_attach_cookie; a bcc older than the kernel does not declare it. */
static u64 (*attach_cookie)(void *ctx) = (void *) 174;

/* One pair of programs serves all functions: the link's cookie names the one that was hit. */
int on_call_entry(struct pt_regs *ctx) { return enter_call(ctx, attach_cookie(ctx)); }
int on_call_exit(struct pt_regs *ctx) { return leave_call(ctx, attach_cookie(ctx)); }
#else
BPF_HASH(called, u32, u32, 8192); /* thread -> function that its running program was attached to */
BPF_PROG_ARRAY(call_programs, 2);

/* A tiny program per function names it and goes to the pair. It is named per thread, since another
 * thread may run on this CPU in between. */
static __always_inline int go_to(struct pt_regs *ctx, u32 function, u32 program) {
    u32 tid = bpf_get_current_pid_tgid();
    if (called.update(&tid, &function)) {
        count_loss(EVENT_DAEMON_CALL, LOSS_MAP_FULL);
        return 0;
    }
    call_programs.call(ctx, program);
    count_loss(EVENT_DAEMON_CALL, LOSS_UNREADABLE);
    return 0;
}

static __always_inline u32 called_function(void) {
    u32 tid = bpf_get_current_pid_tgid(), *function = called.lookup(&tid), found = 0;
    if (function) {
        found = *function;
        called.delete(&tid);
    }
    return found;
}

int on_call_entry(struct pt_regs *ctx) { return enter_call(ctx, called_function()); }
int on_call_exit(struct pt_regs *ctx) { return leave_call(ctx, called_function()); }
#endif

static __always_inline u64 connection_key(struct thread *thread, u32 descriptor) {
    return (u64)thread->pid << 32 | descriptor;
}

static __always_inline void emit_if_sent(struct download *download) {
    if (download->sent_ns && !serves_others(download->pid))
        emit_download(download);
}

static __always_inline void on_connect(struct thread *thread, u64 address) {
    u16 family = 0;
    u32 zero = 0;
    bpf_probe_read_user(&family, sizeof(family), (void *)address);
    struct download *blank = download_scratch.lookup(&zero);
    if (!blank || (family != AF_INET && family != AF_INET6))
        return;
    u64 key = connection_key(thread, thread->syscall_fd);
    struct download *last = downloads.lookup(&key);
    if (last)
        emit_if_sent(last);
    __builtin_memset(blank, 0, sizeof(*blank));
    blank->connect_ns = thread->syscall_start_ns;
    blank->pid = thread->pid;
    blank->tid = thread->tid;
    blank->fd = thread->syscall_fd;
    if (downloads.update(&key, blank))
        count_loss(EVENT_DOWNLOAD, LOSS_MAP_FULL);
}

/* A GET was handed to a socket: the connection's next download begins. */
static __always_inline void on_send(struct thread *thread, u64 buffer) {
    u32 word = 0, zero = 0;
    bpf_probe_read_user(&word, sizeof(word), (void *)buffer);
    struct download *next = download_scratch.lookup(&zero);
    if (word != GET_WORD || !next)
        return;
    count_hit(EVENT_DOWNLOAD);
    u64 key = connection_key(thread, thread->syscall_fd);
    struct download *last = downloads.lookup(&key);
    __builtin_memset(next, 0, sizeof(*next));
    if (last) {
        emit_if_sent(last);
        next->connect_ns = last->connect_ns;
        next->sequence = last->sent_ns ? last->sequence + 1 : 0;
    }
    next->sent_ns = thread->syscall_start_ns;
    next->pid = thread->pid;
    next->tid = thread->tid;
    next->fd = thread->syscall_fd;
    bpf_probe_read_user_str(next->request, sizeof(next->request), (void *)buffer);
    if (downloads.update(&key, next))
        count_loss(EVENT_DOWNLOAD, LOSS_MAP_FULL);
}

/* What follows until the thread turns to a socket again is unpacking, verifying and writing this piece. */
static __always_inline void begin_work(struct thread *thread, struct download *download) {
    u64 bit = 1ULL << (thread->syscall_fd & 63);
    if (serves_others(thread->pid))
        return;
    if (thread->served_fds & bit)
        begin_round(thread);
    thread->served_fds |= bit;
    struct work *work = &thread->work;
    work->start_ns = download->last_byte_ns;
    work->sent_ns = download->sent_ns;
    work->end_ns = work->write_ns = work->off_ns = 0;
    work->late_ns = thread->late_ns;
    thread->late_ns = 0;
    work->pid = thread->pid;
    work->tid = thread->tid;
    work->fd = thread->syscall_fd;
    work->round = thread->round;
}

/* Whether a system call ends the work on a piece: every receiving, and sending on a connection. */
static __always_inline bool turns_to_socket(struct thread *thread, u32 class) {
    u64 key = connection_key(thread, thread->syscall_fd);
    return class > CLASS_DAEMON_WRITEV ? class <= CLASS_DAEMON_CONNECT : downloads.lookup(&key) != 0;
}

static __always_inline void on_received(struct thread *thread, s64 bytes) {
    u64 key = connection_key(thread, thread->syscall_fd);
    struct download *download = downloads.lookup(&key);
    if (!download || !download->sent_ns)
        return;
    download->last_byte_ns = bpf_ktime_get_ns();
    download->bytes += bytes;
    begin_work(thread, download);
    if (download->first_byte_ns)
        return;
    download->first_byte_ns = download->last_byte_ns;
    bpf_probe_read_user(download->answer, sizeof(download->answer), (void *)thread->syscall_buffer);
    download->answer[sizeof(download->answer) - 1] = 0;
}

static __always_inline void on_close(struct thread *thread) {
    u64 key = connection_key(thread, thread->syscall_fd);
    struct download *last = downloads.lookup(&key);
    if (!last)
        return;
    emit_if_sent(last);
    downloads.delete(&key);
}

/* A read of /dev/fuse returns a request, whose header holds its own length. */
static __always_inline void on_served(struct thread *thread, s64 bytes) {
    struct { u32 length, opcode; u64 unique; } header = {};
    if (bytes < FUSE_HEADER_BYTES)
        return;
    bpf_probe_read_user(&header, sizeof(header), (void *)thread->syscall_buffer);
    if (header.length != bytes || header.opcode > MAX_OPCODE || !header.opcode || serves_others(thread->pid))
        return;
    count_hit(EVENT_REQUEST_SERVED);
    struct served served = {.time_ns = bpf_ktime_get_ns(), .unique = header.unique};
    served.pid = thread->pid;
    served.tid = thread->tid;
    served.opcode = header.opcode;
    emit_served(&served);
}

/* Copies the end of a name, where the object's hash stands. */
static __always_inline void read_name(u8 *to, u64 from) {
    u32 zero = 0;
    struct name_buffer *buffer = name_scratch.lookup(&zero);
    to[0] = 0;
    if (!buffer)
        return;
    long length = bpf_probe_read_user_str(buffer->bytes, 256, (void *)from);
    u64 start = length > 128 ? length - 128 : 0;
    if (length > 0)
        bpf_probe_read_kernel(to, 128, buffer->bytes + (start & 127));
}

static __always_inline void report_cache_file(struct thread *thread, u8 syscall, u64 path, u64 new_path,
                                              u32 flags, s64 result) {
    u32 zero = 0;
    struct cache_file *event = cache_scratch.lookup(&zero);
    if (!event || serves_others(thread->pid))
        return;
    count_hit(EVENT_CACHE_DIRECTORY);
    event->start_ns = thread->syscall_start_ns;
    event->end_ns = bpf_ktime_get_ns();
    event->result = result;
    event->pid = thread->pid;
    event->tid = thread->tid;
    event->syscall = syscall;
    event->open_flags = flags;
    read_name(event->path, path);
    event->new_path[0] = 0;
    if (new_path)
        read_name(event->new_path, new_path);
    emit_cache_file(event);
}

/* Notes a system call whose result matters; a GET is read here, before the answer can arrive. */
static __always_inline void begin_daemon_syscall(struct thread *thread, u32 class, u64 registers) {
    thread->syscall_start_ns = bpf_ktime_get_ns();
    thread->syscall_number = class;
    thread->syscall_fd = read_u64(registers + OFFSET_ARGUMENT_1);
    thread->syscall_buffer = read_u64(registers + OFFSET_ARGUMENT_2);
    if (class == CLASS_DAEMON_SENDMSG || class == CLASS_DAEMON_RECVMSG) /* msghdr: its first vector */
        thread->syscall_buffer = read_user_u64(read_user_u64(thread->syscall_buffer + 16));
    else if (class == CLASS_DAEMON_WRITEV || class == CLASS_DAEMON_READV)
        thread->syscall_buffer = read_user_u64(thread->syscall_buffer);
    if (thread->work.start_ns && turns_to_socket(thread, class))
        end_work(thread, thread->syscall_start_ns);
    if (class == CLASS_DAEMON_CONNECT)
        on_connect(thread, thread->syscall_buffer);
    else if (class <= CLASS_DAEMON_WRITEV)
        on_send(thread, thread->syscall_buffer);
    else if (class == CLASS_DAEMON_CLOSE)
        on_close(thread);
}

static __always_inline void end_daemon_names(struct thread *thread, u32 class, u64 registers, s64 result) {
    u64 a = read_u64(registers + OFFSET_ARGUMENT_1), b = read_u64(registers + OFFSET_ARGUMENT_2);
    u64 c = read_u64(registers + OFFSET_ARGUMENT_3), d = read_u64(registers + OFFSET_ARGUMENT_4);
    if (class == CLASS_DAEMON_OPEN)
        report_cache_file(thread, CACHE_OPENAT, a, 0, b, result);
    else if (class == CLASS_DAEMON_OPENAT)
        report_cache_file(thread, CACHE_OPENAT, b, 0, c, result);
    else if (class == CLASS_DAEMON_RENAME)
        report_cache_file(thread, CACHE_RENAME, a, b, 0, result);
    else if (class == CLASS_DAEMON_RENAMEAT)
        report_cache_file(thread, CACHE_RENAME, b, d, 0, result);
    else if (class == CLASS_DAEMON_UNLINK)
        report_cache_file(thread, CACHE_UNLINK, a, 0, 0, result);
    else if (class == CLASS_DAEMON_UNLINKAT)
        report_cache_file(thread, CACHE_UNLINK, b, 0, 0, result);
}

/* A system call that was entered before recording: its registers still hold its arguments. */
static __always_inline u32 late_class(struct thread *thread, u64 registers) {
    u32 number = read_u64(registers + OFFSET_SYSCALL_NUMBER);
    u32 *classes = syscall_classes.lookup(&number);
    u32 class = classes ? *classes >> 8 : 0;
    if (class != CLASS_DAEMON_READ && class != CLASS_DAEMON_RECV)
        return 0;
    thread->syscall_fd = read_u64(registers + OFFSET_ARGUMENT_1);
    thread->syscall_buffer = read_u64(registers + OFFSET_ARGUMENT_2);
    return class;
}

static __always_inline void end_daemon_syscall(struct thread *thread, u64 registers, s64 result) {
    u32 class = thread->syscall_number;
    thread->ending_unique = 0; /* leaving the kernel: what it wakes later, it wakes for another reason */
    if (!class)
        class = late_class(thread, registers);
    if (!class)
        return;
    if (class >= CLASS_DAEMON_OPEN)
        end_daemon_names(thread, class, registers, result);
    else if (class >= CLASS_DAEMON_READ && class <= CLASS_DAEMON_RECVMSG && result > 0) {
        if (class == CLASS_DAEMON_READ)
            on_served(thread, result);
        on_received(thread, result);
    } else if (class <= CLASS_DAEMON_WRITEV && thread->work.start_ns)
        thread->work.write_ns += bpf_ktime_get_ns() - thread->syscall_start_ns;
    thread->syscall_number = 0;
}
