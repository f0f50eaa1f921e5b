// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Reads on FUSE that are not system calls of their own: io_uring's, in whichever thread does them, and those of
 * io_submit(2). The function that serves all reads adds nothing within a read system call, unless the kernel
 * has skipped the programs at the call's entry or at its end. */

#ifdef PREEMPTIBLE_TRACEPOINTS
#define IO_WORKER 0x10 /* include/linux/sched.h: PF_IO_WORKER */

/* BPF_FUNC_get_current_task_btf, BPF_FUNC_task_pt_regs: a bcc older than the kernel does not declare them.
 * Commits 3ca1032ab7ab ("bpf: Implement get_current_task_btf and RET_PTR_TO_BTF_ID") (in v5.11) and dd6e10fbd9fb
 * ("bpf: Add bpf_task_pt_regs() helper") (in v5.15). */
static void *(*current_task)(void) = (void *)158;
static void *(*registers_of)(void *task) = (void *)175;

/* The system call's entry was missed: opens the read that the thread's registers ask for, if it is of this file. */
static __always_inline bool begin_unseen_syscall(struct thread *thread, u64 file) {
    if (read_u32(bpf_get_current_task() + OFFSET_TASK_STRUCT_FLAGS) & IO_WORKER)
        return false; /* an io_uring worker has the registers of the thread that created it */
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

/* Keeps the result of a read, in case the end of its system call is missed. A splice may take several reads. */
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

static __always_inline int begin_asynchronous_read(u64 request, u64 iterator, bool backup) {
    struct thread *thread = current_thread();
    if (!thread || thread->role != ROLE_TARGET)
        return 0;
    struct operation *operation = &thread->operation;
    bool stale = !backup && operation->start_ns && operation->syscall == ASYNCHRONOUS_READ_SYSCALL;
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
