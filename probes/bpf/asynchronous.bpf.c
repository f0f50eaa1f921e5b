// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Reads of FUSE that are no system calls of their own: io_uring's, in whichever thread does them, and those of
 * io_submit(2). Within a system call that reads, the function that serves them all tells nothing new, unless
 * the kernel has skipped the programs at the call's entry, or those at its end. */

#ifdef PREEMPTIBLE_TRACEPOINTS
#define IO_WORKER 0x10 /* include/linux/sched.h: PF_IO_WORKER */

/* BPF_FUNC_get_current_task_btf, BPF_FUNC_task_pt_regs: a bcc older than the kernel does not declare them. */
static void *(*current_task)(void) = (void *)158;
static void *(*registers_of)(void *task) = (void *)175;

/* Begins the read that a thread's registers ask for, if it is of this file: its entry was missed. */
static __always_inline bool begin_unseen_syscall(struct thread *thread, u64 file) {
    if (read_u32(bpf_get_current_task() + OFFSET_TASK_STRUCT_FLAGS) & IO_WORKER)
        return false; /* it has the registers of the thread that made it */
    u64 registers = (u64)registers_of(current_task());
    u32 number = read_u64(registers + OFFSET_SYSCALL_NUMBER);
    u32 class = class_for(ROLE_TARGET, classes_of(number));
    if (!class || class > CLASS_COPY_FILE_RANGE || is_compat(registers))
        return false;
    struct arguments with = arguments_of(registers);
    if (file_of(descriptor_of(class, &with)) != file)
        return false;
    begin_syscall(thread, class, number, registers);
    return true;
}

/* What a read gave, should its end be missed. A splice may take several. */
static __always_inline void note_result(struct operation *operation, s64 result) {
    if (operation->kind != KIND_READ)
        return;
    operation->result = result;
    operation->end_ns = bpf_ktime_get_ns();
}
#else
static __always_inline bool begin_unseen_syscall(struct thread *thread, u64 file) { return false; }
static __always_inline void note_result(struct operation *operation, s64 result) {}
#endif

static __always_inline int begin_asynchronous_read(u64 request, u64 iterator, bool again) {
    struct thread *thread = current_thread();
    if (!thread || thread->role != ROLE_TARGET)
        return 0;
    struct operation *operation = &thread->operation;
    bool stale = !again && operation->start_ns && operation->syscall == ASYNCHRONOUS_READ_SYSCALL;
    if (stale || has_result(operation))
        settle(thread);
    u64 file = read_u64(request + OFFSET_KIOCB_KI_FILP);
    if (operation->start_ns || begin_unseen_syscall(thread, file))
        return 0;
    open_operation(thread, operation, KIND_READ);
    operation->syscall = ASYNCHRONOUS_READ_SYSCALL;
    operation->offset = read_u64(request + OFFSET_KIOCB_KI_POS);
    operation->size = read_u64(iterator + OFFSET_IOV_ITER_COUNT);
    operation->flags |= OPERATION_HAS_RANGE;
    if (attach_inode(operation, read_u64(file + OFFSET_FILE_F_INODE)))
        note_backing(operation, file);
    return 0;
}

static __always_inline int end_asynchronous_read(s64 result) {
    struct thread *thread = current_thread();
    if (!thread || thread->role != ROLE_TARGET || !thread->operation.start_ns)
        return 0;
    struct operation *operation = &thread->operation;
    if (operation->syscall != ASYNCHRONOUS_READ_SYSCALL) {
        note_result(operation, result);
        return 0;
    }
    count_hit(EVENT_ASYNCHRONOUS_READ);
    close_fault(thread, 0);
    operation->end_ns = bpf_ktime_get_ns();
    operation->result = result;
    close_operation(thread, operation);
    return 0;
}

#if MAY_ON_ASYNCHRONOUS_READ_KPROBE
int on_asynchronous_read_kprobe(struct pt_regs *ctx) {
    return begin_asynchronous_read(ARGUMENT(ctx, 1), ARGUMENT(ctx, 2), FIRST);
}
#endif
#if MAY_ON_ASYNCHRONOUS_READ_KRETPROBE
int on_asynchronous_read_kretprobe(struct pt_regs *ctx) { return end_asynchronous_read(ctx->FUNCTION_RESULT); }
#endif
#if MAY_ON_ASYNCHRONOUS_READ_FENTRY
int on_asynchronous_read_fentry(u64 *ctx) {
    return IN_PAIR(ON_ASYNCHRONOUS_READ_FENTRY, FIRST, begin_asynchronous_read(ctx[0], ctx[1], FIRST));
}
#endif
#if MAY_ON_ASYNCHRONOUS_READ_FEXIT
int on_asynchronous_read_fexit(u64 *ctx) {
    return IN_PAIR(ON_ASYNCHRONOUS_READ_FEXIT, FIRST, end_asynchronous_read(ctx[2]));
}
#endif
#if MAY_ON_ASYNCHRONOUS_READ_FENTRY_AGAIN
int on_asynchronous_read_fentry_again(u64 *ctx) {
    return IN_PAIR(ON_ASYNCHRONOUS_READ_FENTRY, AGAIN, begin_asynchronous_read(ctx[0], ctx[1], AGAIN));
}
#endif
#if MAY_ON_ASYNCHRONOUS_READ_FEXIT_AGAIN
int on_asynchronous_read_fexit_again(u64 *ctx) {
    return IN_PAIR(ON_ASYNCHRONOUS_READ_FEXIT, AGAIN, end_asynchronous_read(ctx[2]));
}
#endif
