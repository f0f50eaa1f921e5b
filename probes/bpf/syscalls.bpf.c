/* The two programs on every system call: they leave early for whoever is not traced. */

int on_syscall_entry(struct bpf_raw_tracepoint_args *ctx) {
    u32 number = ctx->args[1];
    u32 *classes = syscall_classes.lookup(&number);
    if (!classes || !*classes)
        return 0;
    u64 task = bpf_get_current_pid_tgid();
    u32 role = role_of(task >> 32);
    u32 class = role == ROLE_DAEMON ? *classes >> 8 : *classes & 0xff;
    if (!role || !class)
        return 0;
    struct thread *thread = thread_of(task >> 32, task, role);
    if (!thread)
        return 0;
    thread->role = role; /* a target that serves a file system has become a daemon */
    if (role == ROLE_DAEMON)
        begin_daemon_syscall(thread, class, ctx->args[0]);
    else
        begin_syscall(thread, class, number, ctx->args[0]);
    return 0;
}

int on_syscall_exit(struct bpf_raw_tracepoint_args *ctx) {
    struct thread *thread = current_thread();
    if (!thread)
        return 0;
    if (thread->role == ROLE_DAEMON) {
        end_daemon_syscall(thread, ctx->args[0], ctx->args[1]);
    } else if (thread->operation.start_ns) {
        count_hit(EVENT_SYSTEM_CALL);
        end_syscall(thread, ctx->args[1]);
    }
    return 0;
}
