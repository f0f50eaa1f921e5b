// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Calls of the CUDA driver by target threads, by uprobes on its exported functions. Launches are counted at their
 * entries; other calls are recorded whole, and the outermost one if they are nested. */

#ifdef GPU_CALLS
#define PROT_EXEC_FLAG 4
#define WORD_LIBCUDA 0x2e6164756362696cULL /* "libcuda." */
#define WORD_SO 0x6f73                     /* "so" */

BPF_HASH(gpu_calls, u32, struct gpu_call, 16384);         /* thread -> its call that has not returned */
BPF_HASH(gpu_launches, u64, struct gpu_launches, 65536);  /* tid << 8 | function -> its last launches */
BPF_ARRAY(blank_gpu_call, struct gpu_call, 1);
BPF_ARRAY(blank_gpu_launches, struct gpu_launches, 1);

static __always_inline bool is_target(void) { return role_of(bpf_get_current_pid_tgid() >> 32) == ROLE_TARGET; }

/* Where the caller's stack ends: the same at the entry of a function and at its return. */
static __always_inline u64 stack_of_caller(struct pt_regs *ctx, bool returned) {
    return ctx->STACK_POINTER + (returned ? 0 : RETURN_ADDRESS_BYTES);
}

/* Whether a function was entered inside the call in progress on its thread: its stack lies below. A call that is
 * not, although none has returned, was left without a return: by longjmp(3), say. */
static __always_inline bool is_nested(struct gpu_call *outer, struct pt_regs *ctx) {
    return outer && stack_of_caller(ctx, false) <= outer->stack;
}

/* The verifier accepts no computed offset into the registers: all are read before one is chosen. */
static __always_inline u64 argument(struct pt_regs *ctx, u32 number) {
    u64 second = ctx->FUNCTION_ARGUMENT_2, third = ctx->FUNCTION_ARGUMENT_3, fourth = ctx->FUNCTION_ARGUMENT_4;
    asm volatile("" : "+r"(second), "+r"(third), "+r"(fourth));
    return number == 2 ? second : number == 3 ? third : number == 4 ? fourth : 0;
}

/* The thread's call, blank. It is filled where it is kept, not on the stack: see uprobes.bpf.c. NULL if there is no
 * room. */
static __always_inline struct gpu_call *new_gpu_call(u32 tid) {
    u32 zero = 0;
    struct gpu_call *blank = blank_gpu_call.lookup(&zero);
    if (!blank || gpu_calls.update(&tid, blank))
        return 0;
    return gpu_calls.lookup(&tid);
}

/* The number has the function in its low byte; above it which argument is the number of bytes, if one is. */
static __always_inline int enter_gpu_call(struct pt_regs *ctx, u32 number) {
    u64 task = bpf_get_current_pid_tgid();
    u32 tid = task;
    if (!number || !is_target())
        return 0;
    struct gpu_call *outer = gpu_calls.lookup(&tid);
    if (is_nested(outer, ctx))
        return 0;
    if (outer)
        count_loss(EVENT_GPU_CALL, LOSS_UNMATCHED_START);
    count_hit(EVENT_GPU_CALL);
    struct gpu_call *call = new_gpu_call(tid);
    if (!call) {
        count_loss(EVENT_GPU_CALL, LOSS_MAP_FULL);
        return 0;
    }
    call->start_ns = bpf_ktime_get_ns();
    call->function = number & 0xff;
    call->bytes = argument(ctx, number >> 8);
    call->stack = stack_of_caller(ctx, false);
    call->pid = task >> 32;
    call->tid = tid;
    return 0;
}

static __always_inline int leave_gpu_call(struct pt_regs *ctx) {
    u32 tid = bpf_get_current_pid_tgid();
    struct gpu_call *call = gpu_calls.lookup(&tid);
    if (!call || stack_of_caller(ctx, true) < call->stack)
        return 0; /* entered before recording, by no target, or nested */
    call->end_ns = bpf_ktime_get_ns();
    call->result = (s32)ctx->FUNCTION_RESULT;
    emit_gpu_call(call);
    gpu_calls.delete(&tid);
    return 0;
}

static __always_inline void begin_launches(u64 key, u64 task, u64 now) {
    u32 zero = 0;
    struct gpu_launches *blank = blank_gpu_launches.lookup(&zero), *first;
    if (!blank || gpu_launches.update(&key, blank) || !(first = gpu_launches.lookup(&key))) {
        count_loss(EVENT_GPU_LAUNCH, LOSS_MAP_FULL);
        return;
    }
    first->first_ns = first->last_ns = now;
    first->count = 1;
    first->pid = task >> 32;
    first->tid = task;
    first->function = key & 0xff;
}

static __always_inline int count_launch(struct pt_regs *ctx, u32 number) {
    u64 task = bpf_get_current_pid_tgid(), now = bpf_ktime_get_ns();
    u32 tid = task;
    if (!number || !is_target() || is_nested(gpu_calls.lookup(&tid), ctx))
        return 0;
    count_hit(EVENT_GPU_LAUNCH);
    u64 key = (u64)tid << 8 | (number & 0xff);
    struct gpu_launches *last = gpu_launches.lookup(&key);
    if (last && last->first_ns / GPU_SPAN_NS == now / GPU_SPAN_NS) {
        last->last_ns = now;
        last->count++;
        return 0;
    }
    if (last)
        emit_gpu_launches(last);
    begin_launches(key, task, now);
    return 0;
}

/* A thread ends: nothing will report what it has begun. */
static __always_inline void end_gpu_thread(void) {
    u32 tid = bpf_get_current_pid_tgid();
    struct gpu_call *call = gpu_calls.lookup(&tid);
    if (call) {
        emit_gpu_call(call);
        gpu_calls.delete(&tid);
    }
    NO_UNROLL
    for (u32 function = 1; function <= GPU_LAST_COUNTED; function++) {
        u64 key = (u64)tid << 8 | function;
        struct gpu_launches *last = gpu_launches.lookup(&key);
        if (last) {
            emit_gpu_launches(last);
            gpu_launches.delete(&key);
        }
        KEEP_BOUND(function);
    }
}

static __always_inline bool maps_code(u64 protection) { return protection & PROT_EXEC_FLAG; }

/* A target maps code. If it is the driver's, wakes the recorder, which probes it unless it has already. */
static __always_inline void note_code(u64 file) {
    if (!file)
        return;
    u64 dentry = read_u64(file + OFFSET_FILE_F_PATH_DENTRY), name = read_u64(dentry + OFFSET_DENTRY_D_NAME_NAME);
    if (read_u64(name) != WORD_LIBCUDA || (u16)read_u32(name + sizeof(u64)) != WORD_SO)
        return;
    u64 task = bpf_get_current_pid_tgid();
    struct gpu_library library = {.time_ns = bpf_ktime_get_ns(), .pid = task >> 32, .tid = task};
    if (gpu_library_ring.ringbuf_output(&library, sizeof(library), BPF_RB_FORCE_WAKEUP))
        count_loss(EVENT_GPU_CALL, LOSS_RING_FULL);
}

int on_gpu_call(struct pt_regs *ctx) { return enter_gpu_call(ctx, called_function(ctx)); }
int on_gpu_return(struct pt_regs *ctx) {
    called_function(ctx); /* where it was left by thread, it is removed */
    return leave_gpu_call(ctx);
}
int on_gpu_launch(struct pt_regs *ctx) { return count_launch(ctx, called_function(ctx)); }
#else
static __always_inline void end_gpu_thread(void) {}
static __always_inline bool maps_code(u64 protection) { return false; }
static __always_inline void note_code(u64 file) {}
#endif
