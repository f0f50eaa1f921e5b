// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* FUSE requests: which thread and operation queued each, and which thread ended it. */

#define REQUEST_ABORTED (-103)
#define KERNEL_THREAD 0x00200000 /* include/linux/sched.h: PF_KTHREAD */
#define REQUEST_NOT_CONNECTED (-107)
#define REQUEST_FOUND_NOTHING (-2)

static __always_inline void read_request(struct request *request, u64 pointer) {
    request->unique = read_u64(pointer + OFFSET_FUSE_REQ_IN_H_UNIQUE);
    request->opcode = read_u32(pointer + OFFSET_FUSE_REQ_IN_H_OPCODE);
    request->node_id = read_u64(pointer + OFFSET_FUSE_REQ_IN_H_NODEID);
    request->requester = read_u32(pointer + OFFSET_FUSE_REQ_IN_H_PID);
    if (request->opcode != FUSE_READ)
        return;
    u64 arguments = read_u64(pointer + OFFSET_FUSE_REQ_ARGS);
    u64 value = read_u64(arguments + OFFSET_FUSE_ARGS_IN_ARGS + OFFSET_FUSE_IN_ARG_VALUE);
    request->handle = read_u64(value); /* struct fuse_read_in: fh, offset, size */
    request->offset = read_u64(value + 8);
    request->size = read_u32(value + 16);
}

#ifdef OFFSET_FUSE_REQ_BEFORE_FM
/* Without type information of a request: it points to a mount, which points to a superblock, which points back
 * to the mount. 0 if this is not a mount. */
static __always_inline u32 device_of_mount(u64 mount) {
    NO_UNROLL
    for (u32 offset = 8; offset <= 24; offset += 8) {
        u64 superblock = read_u64(mount + offset);
        if (read_u64(superblock + OFFSET_SUPER_BLOCK_S_FS_INFO) == mount)
            return read_u32(superblock + OFFSET_SUPER_BLOCK_S_DEV);
        KEEP_BOUND(offset);
    }
    return 0;
}

static __always_inline u32 device_of_request(u64 pointer) {
    u64 mount = read_u64(pointer + OFFSET_FUSE_REQ_BEFORE_FM);
    u32 device = mount ? device_of_mount(mount) : 0;
    return device ? device : device_of_mount(read_u64(pointer + OFFSET_FUSE_REQ_BEFORE_FM + 8));
}
#else
static __always_inline u32 device_of_request(u64 pointer) {
#ifdef OFFSET_FUSE_REQ_CHAN
    u64 connection = read_u64(read_u64(pointer + OFFSET_FUSE_REQ_CHAN) + OFFSET_FUSE_CHAN_CONN);
#else
    u64 connection = read_u64(read_u64(pointer + OFFSET_FUSE_REQ_FM) + OFFSET_FUSE_MOUNT_FC);
#endif
    return read_u32(connection + OFFSET_FUSE_CONN_DEV);
}
#endif

static __always_inline bool device_is_traced(u32 device, struct thread *thread, u32 opcode) {
    if (devices.lookup(&device) || opcode == FUSE_INIT)
        return true;
    if (!thread || thread->role != ROLE_TARGET)
        return false;
    note_device(device);
    return true;
}

static __always_inline int request_queued(u64 pointer, bool backup) {
    if (backup && requests.lookup(&pointer))
        return 0; /* the program before it has recorded the request */
    u64 task = bpf_get_current_pid_tgid();
    struct thread *thread = current_thread();
    struct request request = {.dev = device_of_request(pointer)};
    if (!device_is_traced(request.dev, thread, read_u32(pointer + OFFSET_FUSE_REQ_IN_H_OPCODE)))
        return 0;
    count_hit(EVENT_REQUEST_QUEUED);
    request.queued_ns = bpf_ktime_get_ns();
    request.pid = task >> 32;
    request.tid = task;
    request.background = (read_u64(pointer + OFFSET_FUSE_REQ_FLAGS) >> REQUEST_BACKGROUND_BIT) & 1;
    read_request(&request, pointer);
    if (request.opcode == FUSE_INIT)
        births.update(&request.dev, &request.queued_ns);
    struct operation *operation = thread ? innermost_operation(thread) : 0;
    if (operation && thread->role == ROLE_TARGET) {
        operation->requests++;
        request.op_start_ns = operation->start_ns;
    }
    struct request *dropped = requests.lookup(&pointer);
    if (dropped)
        emit_request(dropped); /* its sender was killed before the daemon took it: such requests have no end */
    if (requests.update(&pointer, &request))
        count_loss(EVENT_REQUEST_QUEUED, LOSS_MAP_FULL);
    return 0;
}

static __always_inline void note_served_device(u32 pid, u64 pointer) {
    u32 device = device_of_request(pointer), *served = daemon_devices.lookup(&pid);
    if (!served || *served != device)
        daemon_devices.update(&pid, &device);
}

/* Whether the daemon answered the request: neither did its sender end it, nor did a task abort the connection. */
static __always_inline bool is_answer(struct request *request) {
    bool aborted = request->error == REQUEST_ABORTED || request->error == REQUEST_NOT_CONNECTED;
    return request->end_pid != request->pid && !aborted;
}

/* The thread that ends a request is the daemon's: it answers, or it dies. A descendant of the command that
 * answers requests is a daemon as well. What the thread wakes until it leaves the kernel waited for this
 * request. */
static __always_inline void note_ending(struct request *request) {
    if (read_u32(bpf_get_current_task() + OFFSET_TASK_STRUCT_FLAGS) & KERNEL_THREAD)
        return; /* virtiofs: a kernel worker that does other things too */
    if (role_of(request->end_pid) != ROLE_DAEMON) {
        if (!is_answer(request))
            return;
        begin_daemon(request->end_pid);
    }
    struct thread *thread = thread_of(request->end_pid, request->end_tid, ROLE_DAEMON);
    if (!thread)
        return;
    thread->role = ROLE_DAEMON;
    thread->ending_unique = request->unique;
    thread->ending_dev = request->dev;
}

/* Whether a LOOKUP found nothing. The daemon may answer that without an error, with node 0, which lets the kernel
 * remember it. */
static __always_inline bool found_nothing(struct request *request, u64 pointer) {
    if (request->opcode != FUSE_LOOKUP || request->error)
        return false;
#ifdef OFFSET_FUSE_ARGS_OUT_ARGS
    u64 arguments = read_u64(pointer + OFFSET_FUSE_REQ_ARGS);
    u64 entry = read_u64(arguments + OFFSET_FUSE_ARGS_OUT_ARGS + OFFSET_FUSE_ARG_VALUE);
    return entry && !read_u64(entry); /* struct fuse_entry_out: nodeid */
#else
    return false;
#endif
}

static __always_inline int request_ended(u64 pointer) {
    u64 task = bpf_get_current_pid_tgid();
    struct request *request = requests.lookup(&pointer);
    if (role_of(task >> 32) == ROLE_DAEMON)
        note_served_device(task >> 32, pointer);
    if (!request)
        return 0; /* queued before recording, or on a mount that is not traced */
    count_hit(EVENT_REQUEST_ENDED);
    request->end_ns = bpf_ktime_get_ns();
    request->end_pid = task >> 32;
    request->end_tid = task;
    request->error = read_u32(pointer + OFFSET_FUSE_REQ_OUT_H_ERROR);
    read_request(request, pointer);
    if (found_nothing(request, pointer))
        request->error = REQUEST_FOUND_NOTHING;
    note_ending(request);
    emit_request(request);
    requests.delete(&pointer);
    return 0;
}

/* The function may be called again for a request that it has ended. The tracepoint is not hit then. */
static __always_inline int request_ending(u64 pointer) {
    bool finished = (read_u64(pointer + OFFSET_FUSE_REQ_FLAGS) >> REQUEST_FINISHED_BIT) & 1;
    return finished ? 0 : request_ended(pointer);
}
