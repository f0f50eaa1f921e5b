// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* The two programs on every system call. They return early for tasks that are not traced. */

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

static __always_inline int enter_syscall(struct bpf_raw_tracepoint_args *ctx, bool backup) {
    u32 number = ctx->args[1], classes = classes_of(number);
    if (!classes)
        return 0;
    u64 task = bpf_get_current_pid_tgid();
    u32 role = role_of(task >> 32), class = class_for(role, classes);
    if (!role || !class || is_compat(ctx->args[0])) /* 32-bit: other numbers, other layouts */
        return 0;
    struct thread *thread = thread_of(task >> 32, task, role);
    if (!thread || (backup && in_syscall(thread) && !has_result(&thread->operation)))
        return 0;
    if (in_syscall(thread))
        settle(thread);
    thread->role = role; /* a target that serves a file system has become a daemon */
    if (role == ROLE_DAEMON)
        begin_daemon_syscall(thread, class, ctx->args[0]);
    else
        begin_syscall(thread, class, number, ctx->args[0]);
    return 0;
}

/* Whether the call that ends here is the one in progress. After exec the registers are the new program's. */
static __always_inline bool is_in_progress(struct thread *thread, u32 number, s64 result) {
    if (thread->role == ROLE_DAEMON)
        return class_for(ROLE_DAEMON, classes_of(number)) == thread->syscall_number;
    if (has_result(&thread->operation) && thread->operation.result != result)
        return false;
    u32 began = thread->operation.syscall;
    return number == began || began == SYSCALL_EXECVE || began == SYSCALL_EXECVEAT;
}

/* Whether the entry of a target's call, now at its end, was missed: it reads, maps or advises on a traced file. */
static __always_inline bool began_unseen(u32 class, u64 registers) {
#ifdef PREEMPTIBLE_TRACEPOINTS
    struct arguments with = arguments_of(registers);
    if (!class || class > CLASS_FADVISE || kind_of(class, &with) == KIND_NONE)
        return false;
    struct operation as = {};
    s32 descriptor = descriptor_of(class, &with);
    return descriptor >= 0 && attach_descriptor(&as, descriptor);
#else
    return false;
#endif
}

/* Closes an operation of another call than the one that ends here. Counts a missed entry. */
static __always_inline void settle_unseen(struct thread *thread, u64 registers, s64 result) {
    u32 number = read_u64(registers + OFFSET_SYSCALL_NUMBER);
    if (in_syscall(thread) && is_in_progress(thread, number, result))
        return;
    if (in_syscall(thread))
        settle(thread);
    if (thread->role == ROLE_TARGET && began_unseen(class_for(ROLE_TARGET, classes_of(number)), registers))
        count_loss(EVENT_SYSTEM_CALL, LOSS_UNMATCHED_END);
}

static __always_inline int leave_syscall(struct bpf_raw_tracepoint_args *ctx, bool backup) {
    struct thread *thread = current_thread();
    if (!thread || (backup && !in_syscall(thread)))
        return 0;
    settle_unseen(thread, ctx->args[0], ctx->args[1]);
    if (thread->role == ROLE_DAEMON) {
        end_daemon_syscall(thread, ctx->args[0], ctx->args[1]);
        return 0;
    }
    close_fault(thread, 0); /* of pages that the call pinned */
    if (thread->operation.start_ns) {
        count_hit(EVENT_SYSTEM_CALL);
        end_syscall(thread, ctx->args[1], ctx->args[0]);
    }
    return 0;
}
