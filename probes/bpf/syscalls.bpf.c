/* The two programs on every system call: they leave early for whoever is not traced. */

#define TASK_COMPAT 2 /* arch/x86/include/asm/thread_info.h: TS_COMPAT */

static __always_inline bool is_compat(void) {
#ifdef OFFSET_TASK_STRUCT_STATUS
    return read_u32(bpf_get_current_task() + OFFSET_TASK_STRUCT_STATUS) & TASK_COMPAT;
#else
    return false;
#endif
}

static __always_inline bool in_syscall(struct thread *thread) {
    return thread->role == ROLE_DAEMON ? thread->syscall_number : thread->operation.start_ns;
}

static __always_inline int enter_syscall(struct bpf_raw_tracepoint_args *ctx, bool again) {
    u32 number = ctx->args[1];
    u32 *classes = syscall_classes.lookup(&number);
    if (!classes || !*classes)
        return 0;
    u64 task = bpf_get_current_pid_tgid();
    u32 role = role_of(task >> 32);
    u32 class = role == ROLE_DAEMON ? *classes >> 8 : *classes & 0xff;
    if (!role || !class)
        return 0;
    if (is_compat())
        return 0; /* 32-bit: other numbers, other layouts */
    struct thread *thread = thread_of(task >> 32, task, role);
    if (!thread || (again && in_syscall(thread)))
        return 0;
    thread->role = role; /* a target that serves a file system has become a daemon */
    if (role == ROLE_DAEMON)
        begin_daemon_syscall(thread, class, ctx->args[0]);
    else
        begin_syscall(thread, class, number, ctx->args[0]);
    return 0;
}

static __always_inline int leave_syscall(struct bpf_raw_tracepoint_args *ctx, bool again) {
    struct thread *thread = current_thread();
    if (!thread || (again && !in_syscall(thread)))
        return 0;
    if (thread->role == ROLE_DAEMON) {
        end_daemon_syscall(thread, ctx->args[0], ctx->args[1]);
        return 0;
    }
    close_fault(thread, 0, 0); /* of pages that the call pinned */
    if (thread->operation.start_ns) {
        count_hit(EVENT_SYSTEM_CALL);
        end_syscall(thread, ctx->args[1]);
    }
    return 0;
}

int on_syscall_entry(struct bpf_raw_tracepoint_args *ctx) { return enter_syscall(ctx, false); }
int on_syscall_exit(struct bpf_raw_tracepoint_args *ctx) { return leave_syscall(ctx, false); }

/* Where these programs can be preempted, the kernel skips them for whoever else makes a system call on the
 * same CPU meanwhile. A second pair, attached behind the first, does then what the first did not. */
int on_syscall_entry_again(struct bpf_raw_tracepoint_args *ctx) { return enter_syscall(ctx, true); }
int on_syscall_exit_again(struct bpf_raw_tracepoint_args *ctx) { return leave_syscall(ctx, true); }
