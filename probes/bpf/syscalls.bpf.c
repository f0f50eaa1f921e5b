/* The two programs on every system call: they leave early for whoever is not traced. */

static __always_inline bool is_compat(u64 registers) {
#if defined(OFFSET_COMPAT_REGISTER)
    return read_u64(registers + OFFSET_COMPAT_REGISTER) & COMPAT_MASK;
#elif defined(OFFSET_TASK_STRUCT_STATUS)
    return read_u32(bpf_get_current_task() + OFFSET_TASK_STRUCT_STATUS) & COMPAT_MASK;
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
    if (is_compat(ctx->args[0]))
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

#ifdef PREEMPTIBLE_PROGRAMS
/* Whether a target's call, now at its end, should be in progress: it reads, maps or advises on a traced file. */
static __always_inline bool began_unseen(struct thread *thread, u32 class, u64 registers) {
    struct arguments with = arguments_of(registers);
    if (!class || class > CLASS_FADVISE || kind_of(class, &with) == KIND_NONE)
        return false;
    struct operation as = {};
    s32 descriptor = descriptor_of(class, &with);
    return descriptor >= 0 && attach_descriptor(&as, descriptor);
}

/* Counts what both pairs missed: the end of the call that seems to be in progress, or the entry of this one. */
static __always_inline void count_unseen(struct thread *thread, u64 registers) {
    u32 number = read_u64(registers + OFFSET_SYSCALL_NUMBER);
    u32 *classes = syscall_classes.lookup(&number);
    bool serves = thread->role == ROLE_DAEMON;
    u32 class = !classes ? 0 : serves ? *classes >> 8 : *classes & 0xff;
    if (in_syscall(thread)) {
        if (serves ? class == thread->syscall_number : number == thread->operation.syscall)
            return;
        count_loss(EVENT_SYSTEM_CALL, LOSS_UNMATCHED_START);
        thread->syscall_number = thread->operation.start_ns = 0;
    }
    if (!serves && began_unseen(thread, class, registers))
        count_loss(EVENT_SYSTEM_CALL, LOSS_UNMATCHED_END);
}
#else
static __always_inline void count_unseen(struct thread *thread, u64 registers) {}
#endif

static __always_inline int leave_syscall(struct bpf_raw_tracepoint_args *ctx, bool again) {
    struct thread *thread = current_thread();
    if (!thread || (again && !in_syscall(thread)))
        return 0;
    count_unseen(thread, ctx->args[0]);
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
#if MAY_ON_SYSCALL_ENTRY_AGAIN
int on_syscall_entry_again(struct bpf_raw_tracepoint_args *ctx) { return enter_syscall(ctx, true); }
#endif
#if MAY_ON_SYSCALL_EXIT_AGAIN
int on_syscall_exit_again(struct bpf_raw_tracepoint_args *ctx) { return leave_syscall(ctx, true); }
#endif
