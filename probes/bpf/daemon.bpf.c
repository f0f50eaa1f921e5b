// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Inside the daemon: calls of the client's functions by uprobes, and the daemon's system calls. */

#define MAX_DEPTH 8
#define ANSWER_BYTES sizeof(((struct download *)0)->answer)

struct name_buffer {
    u8 bytes[256 + 128];
};

BPF_HASH(calls, u64, struct call, 8192);          /* tid << 8 | depth -> call not yet returned */
BPF_ARRAY(blank_call, struct call, 1);
BPF_PERCPU_ARRAY(name_scratch, struct name_buffer, THREAD_SLOTS);
BPF_PERCPU_ARRAY(cache_scratch, struct cache_file, THREAD_SLOTS);

static __always_inline struct thread *daemon_thread(void) {
    if (role_of(bpf_get_current_pid_tgid() >> 32) != ROLE_DAEMON)
        begin_daemon(bpf_get_current_pid_tgid() >> 32);
    u64 task = bpf_get_current_pid_tgid(); /* anew: what is kept over a call takes stack */
    struct thread *thread = thread_of(task >> 32, task, ROLE_DAEMON);
    if (thread)
        thread->role = ROLE_DAEMON;
    return thread;
}

static __always_inline u64 frame_key(struct thread *thread, u32 depth) {
    return (u64)thread->tid << 8 | depth;
}

static __always_inline void inherit(struct call *call, struct call *parent) {
    call->parent_start_ns = parent->start_ns;
    call->parent_function = parent->function;
    call->unique = parent->unique;
}

/* From a function's arguments: the request, the inode and range, or the object. */
static __always_inline void read_call_arguments(struct call *call, struct pt_regs *ctx) {
    u32 function = call->function;
    if (function >= FN_FETCHER_FETCH) {
        if (function != FN_DOWNLOADMANAGER_FETCH)
            read_user(call->object, sizeof(call->object), (void *)ctx->FUNCTION_ARGUMENT_2);
        return;
    }
    void *request = (void *)ctx->FUNCTION_ARGUMENT_1; /* fuse_req_t: `unique` is its second word */
    read_user(&call->unique, sizeof(call->unique), request + 8);
    call->ino = ctx->FUNCTION_ARGUMENT_2;
    if (function == FN_CVMFS_READ) {
        call->size = ctx->FUNCTION_ARGUMENT_3;
        call->offset = ctx->FUNCTION_ARGUMENT_4;
    }
}

/* The thread's next frame, blank. It is filled where it is kept, not on the stack: see uprobes.bpf.c. NULL if there is
 * no room. */
static __always_inline struct call *new_frame(struct thread *thread) {
    u32 zero = 0;
    u64 key = frame_key(thread, thread->depth);
    struct call *blank = blank_call.lookup(&zero);
    if (!blank || thread->depth >= MAX_DEPTH || calls.update(&key, blank))
        return 0;
    struct call *call = calls.lookup(&key), *parent = 0;
    key--;
    if (thread->depth)
        parent = calls.lookup(&key);
    if (call && parent)
        inherit(call, parent);
    return call;
}

static __always_inline int enter_call(struct pt_regs *ctx, u32 function) {
    struct thread *thread = daemon_thread();
    if (!thread || !function || serves_others(thread->pid))
        return 0;
    count_hit(EVENT_DAEMON_CALL);
    struct call *call = new_frame(thread);
    if (call) {
        call->start_ns = bpf_ktime_get_ns();
        call->function = function;
        call->pid = thread->pid;
        call->tid = thread->tid;
        read_call_arguments(call, ctx);
    } else {
        count_loss(EVENT_DAEMON_CALL, LOSS_MAP_FULL);
    }
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

int on_call_entry(struct pt_regs *ctx) { return enter_call(ctx, called_function(ctx)); }
int on_call_exit(struct pt_regs *ctx) { return leave_call(ctx, called_function(ctx)); }

static __always_inline void emit_if_sent(struct download *download) {
    if (download->sent_ns)
        emit_of(download);
}

static __always_inline void on_connect(struct thread *thread, u64 address) {
    u32 slot = thread_slot();
    struct download *blank = download_scratch.lookup(&slot);
    if (!blank || !describe_connection(blank, thread))
        return;
    u64 key = connection_key(thread, thread->syscall_fd);
    struct download *last = downloads.lookup(&key);
    if (last && last->socket == blank->socket)
        return; /* called again, for the result of the first call */
    if (last)
        emit_if_sent(last);
    blank->connect_ns = thread->syscall_start_ns;
    read_peer(blank, address);
    if (downloads.update(&key, blank))
        count_loss(EVENT_DOWNLOAD, LOSS_MAP_FULL);
}

/* After connect(2), finished or not, this end has its address: the connection is announced. */
static __always_inline void on_connected(struct thread *thread) {
    u64 key = connection_key(thread, thread->syscall_fd), sock = tcp_sock_of(thread->syscall_fd);
    struct download *connection = downloads.lookup(&key);
    if (!connection || !sock || connection->local_port)
        return;
    read_local(connection, sock);
    announce(connection);
}

/* A request, or what precedes the first one, was written to a socket: the connection's next download begins. */
static __always_inline void on_send(struct thread *thread, u64 buffer) {
    u32 slot = thread_slot(), sent = kind_of_message(read_user_u64(buffer));
    struct download *next = download_scratch.lookup(&slot);
    if (!sent || !next || !describe_connection(next, thread))
        return;
    u64 key = connection_key(thread, thread->syscall_fd);
    struct download *last = downloads.lookup(&key);
    if (last && last->socket == next->socket && !carry_on(next, last, sent))
        return;
    if (last)
        emit_if_sent(last);
    announce(next); /* in case it was made before recording, or before a target used the daemon's mount */
    read_message(next, sent, buffer);
    if (sent == SENT_GET || sent == SENT_ENCRYPTED) {
        count_hit(EVENT_DOWNLOAD);
        next->sent_ns = thread->syscall_start_ns;
    }
    if (downloads.update(&key, next))
        count_loss(EVENT_DOWNLOAD, LOSS_MAP_FULL);
}

/* Until the thread uses a socket again it unpacks, verifies and writes this piece. */
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
static __always_inline bool uses_socket(struct thread *thread, u32 class) {
    u64 key = connection_key(thread, thread->syscall_fd);
    return class > CLASS_DAEMON_WRITEV ? class <= CLASS_DAEMON_CONNECT : downloads.lookup(&key) != 0;
}

/* Keeps the beginning of an answer: the first piece, and, since the headers may come alone, what soon follows.
 * A NUL ends it: behind the piece the buffer holds old bytes. */
static __always_inline void keep_answer(struct download *download, u64 before, u64 buffer, u64 bytes) {
    u64 end = before + bytes;
    if (download->flags & DOWNLOAD_TLS || before >= ANSWER_BYTES / 2)
        return;
    if (!before)
        read_user(download->answer, ANSWER_BYTES, (void *)buffer);
    else
        read_user(download->answer + (before & (ANSWER_BYTES / 2 - 1)), ANSWER_BYTES / 2, (void *)buffer);
    if (before && end > before + ANSWER_BYTES / 2)
        end = before + ANSWER_BYTES / 2;
    if (end > ANSWER_BYTES - 1)
        end = ANSWER_BYTES - 1;
    download->answer[end & (ANSWER_BYTES - 1)] = 0;
}

static __always_inline void on_received(struct thread *thread, s64 bytes) {
    u64 key = connection_key(thread, thread->syscall_fd);
    struct download *download = downloads.lookup(&key);
    if (!download || !download->sent_ns)
        return;
    download->last_byte_ns = bpf_ktime_get_ns();
    if (!download->first_byte_ns)
        download->first_byte_ns = download->last_byte_ns;
    keep_answer(download, download->bytes, thread->syscall_buffer, bytes);
    download->bytes += bytes;
    begin_work(thread, download);
}

/* A connection that ends without a request is reported too, unless it was established and not used. */
static __always_inline void on_close(struct thread *thread) {
    u64 key = connection_key(thread, thread->syscall_fd);
    struct download *last = downloads.lookup(&key);
    if (!last)
        return;
    u64 sock = tcp_sock_of(thread->syscall_fd);
    last->closed_ns = thread->syscall_start_ns;
    last->state = sock ? (u8)read_u32(sock + OFFSET_SOCK_STATE) : 0;
    if (last->sent_ns || last->flags & UNSEEN || last->state == TCP_SYN_SENT || last->state == TCP_CLOSE)
        emit_of(last);
    downloads.delete(&key);
}

/* A read of /dev/fuse returns a request, whose header holds its own length. */
static __always_inline void on_served(struct thread *thread, s64 bytes) {
    struct { u32 length, opcode; u64 unique; } header = {};
    if (bytes < FUSE_HEADER_BYTES)
        return;
    read_user(&header, sizeof(header), (void *)thread->syscall_buffer);
    if (header.length != bytes || header.opcode > FUSE_OPCODE_LIMIT || !header.opcode || serves_others(thread->pid))
        return;
    count_hit(EVENT_REQUEST_SERVED);
    struct served served = {.time_ns = bpf_ktime_get_ns(), .unique = header.unique};
    served.pid = thread->pid;
    served.tid = thread->tid;
    served.opcode = header.opcode;
    emit_served(&served);
}

/* Copies the end of a name, which holds the object's hash. */
static __always_inline void read_name(u8 *to, u64 from) {
    u32 slot = thread_slot();
    struct name_buffer *buffer = name_scratch.lookup(&slot);
    to[0] = 0;
    if (!buffer)
        return;
    long length = read_user_string(buffer->bytes, 256, (void *)from);
    u64 start = length > 128 ? length - 128 : 0;
    if (length > 0)
        bpf_probe_read_kernel(to, 128, buffer->bytes + (start & 127));
}

static __always_inline void report_cache_file(struct thread *thread, u8 syscall, u64 path, u64 new_path,
                                              u32 flags, s64 result) {
    u32 slot = thread_slot();
    struct cache_file *event = cache_scratch.lookup(&slot);
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

/* Notes a system call whose result matters. A GET is read here, before the answer can arrive. */
static __always_inline void begin_daemon_syscall(struct thread *thread, u32 class, u64 registers) {
    thread->syscall_start_ns = bpf_ktime_get_ns();
    thread->syscall_number = class;
    thread->syscall_fd = read_u64(registers + OFFSET_ARGUMENT_1);
    thread->syscall_buffer = read_u64(registers + OFFSET_ARGUMENT_2);
    if (class == CLASS_DAEMON_SENDMSG || class == CLASS_DAEMON_RECVMSG) /* msghdr: its first vector */
        thread->syscall_buffer = read_user_u64(read_user_u64(thread->syscall_buffer + 16));
    else if (class == CLASS_DAEMON_WRITEV || class == CLASS_DAEMON_READV)
        thread->syscall_buffer = read_user_u64(thread->syscall_buffer);
    if (thread->work.start_ns && uses_socket(thread, class))
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
    u32 class = class_for(ROLE_DAEMON, classes_of(read_u64(registers + OFFSET_SYSCALL_NUMBER)));
    if (class != CLASS_DAEMON_READ && class != CLASS_DAEMON_RECV)
        return 0;
    thread->syscall_fd = read_u64(registers + OFFSET_ARGUMENT_1);
    thread->syscall_buffer = read_u64(registers + OFFSET_ARGUMENT_2);
    return class;
}

static __always_inline void end_daemon_syscall(struct thread *thread, u64 registers, s64 result) {
    u32 class = thread->syscall_number;
    thread->ending_unique = 0; /* it leaves the kernel: later wakes have another reason */
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
    } else if (class == CLASS_DAEMON_CONNECT)
        on_connected(thread);
    else if (class <= CLASS_DAEMON_WRITEV && thread->work.start_ns)
        thread->work.write_ns += bpf_ktime_get_ns() - thread->syscall_start_ns;
    thread->syscall_number = 0;
}
