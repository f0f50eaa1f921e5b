// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* At which function a uprobe was hit. A few programs serve all functions; each is attached with a number, the
 * link's cookie, or what go_to() left.
 *
 * Programs at uprobes use less than 64 bytes of stack (BPF_PRIV_STACK_MIN_SIZE). From v6.13 the verifier gives a
 * program that uses more a stack in the CPU's memory, bpf_enable_priv_stack() in kernel/bpf/verifier.c, and counts on
 * a kprobe program not to be entered twice on a CPU. At a uprobe nothing prevents that: where the kernel is
 * preemptible, a thread that runs the program overwrites the stack of the one that was preempted in it. */

#ifdef UPROBE_MULTI_TYPE
/* BPF_FUNC_get_attach_cookie, which a bcc older than the kernel does not declare: commit 7adfc6c9b315 ("bpf: Add
 * bpf_get_attach_cookie() BPF helper to access bpf_cookie value") (in v5.15). */
static u64 (*called_function)(void *ctx) = (void *) 174;
#else
BPF_HASH(called, u32, u32, 8192); /* thread -> number that its running program was attached with */
BPF_PROG_ARRAY(call_programs, CALL_PROGRAMS);

/* A generated program for each function stores its number and tail-calls one of those. The number is stored
 * by thread, since another thread may run on this CPU in between. */
static __always_inline int go_to(struct pt_regs *ctx, u32 number, u32 program, u32 event) {
    u32 tid = bpf_get_current_pid_tgid();
    if (called.update(&tid, &number)) {
        count_loss(event, LOSS_MAP_FULL);
        return 0;
    }
    call_programs.call(ctx, program);
    count_loss(event, LOSS_UNREADABLE);
    return 0;
}

static __always_inline u32 called_function(void *ctx) {
    u32 tid = bpf_get_current_pid_tgid(), *stored = called.lookup(&tid), number = 0;
    if (stored) {
        number = *stored;
        called.delete(&tid);
    }
    return number;
}
#endif
