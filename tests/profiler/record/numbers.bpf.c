// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Numbers the getppid calls of one process, in a ring; counts those that found it full. */
BPF_ARRAY(wanted, u32, 1);
BPF_ARRAY(counts, u64, 2);
BPF_HASH(pairs, u64, u32, 5);
BPF_RINGBUF_OUTPUT(number_ring, RING_PAGES);

int on_enter(struct bpf_raw_tracepoint_args *ctx) {
    u32 first = 0, second = 1, pid = bpf_get_current_pid_tgid() >> 32;
    u32 *pid_wanted = wanted.lookup(&first);
    u64 *seen = counts.lookup(&first), *lost = counts.lookup(&second);
    if (!pid_wanted || !seen || !lost || *pid_wanted != pid || ctx->args[1] != SYSTEM_CALL)
        return 0;
    struct number number = {.serial = *seen, .twice = 2 * *seen, .pid = pid, .reserved = 0};
    ++*seen;
    if (number_ring.ringbuf_output(&number, sizeof(number), BPF_RB_NO_WAKEUP))
        ++*lost;
    return 0;
}
