// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Target and daemon tasks: fork, exec, exit, on and off the CPU, and which task woke which. */

#define LONG_SLEEP_NS 1000000

BPF_PERCPU_ARRAY(interrupts, u32, 4); /* INTERRUPT_* -> 1 while this CPU is in one */
BPF_PERCPU_ARRAY(task_scratch, struct task, THREAD_SLOTS);

#define HISTORY 32 /* tasks that are looked back upon; a power of two */
struct ran {
    u64 until_ns; /* since when the one before left */
    u64 task;     /* struct task_struct * */
    u64 pid_tid;  /* 0: the CPU was idle */
};
struct history {
    u64 count;
    struct ran ran[HISTORY]; /* what ran on this CPU last */
};
BPF_PERCPU_ARRAY(history, struct history, 1);

enum interrupt { INTERRUPT_SOFT, INTERRUPT_DEVICE, INTERRUPT_TIMER, INTERRUPT_CALL };

static __always_inline int set_interrupt(u32 kind, u32 value) {
    interrupts.update(&kind, &value);
    if (value)
        count_hit(EVENT_INTERRUPT);
    return 0;
}

static __always_inline bool in_interrupt(void) {
    u32 inside = 0;
    NO_UNROLL
    for (u32 kind = 0; kind <= INTERRUPT_CALL; kind++) {
        u32 key = kind, *value = interrupts.lookup(&key);
        if (value)
            inside |= *value;
    }
    return inside;
}

static __always_inline void begin_blocked(struct thread *thread, u16 state) {
    struct blocked *off = &thread->blocked;
    off->start_ns = bpf_ktime_get_ns();
    off->woken_ns = off->end_ns = off->unique = 0;
    off->dev = off->waker_pid = off->waker_tid = 0;
    off->pid = thread->pid;
    off->tid = thread->tid;
    off->state = state;
    off->flags = 0;
}

/* Whether a quota of its cgroup, or of one above, keeps a task off its CPU. */
static __always_inline bool is_throttled(u64 task) {
#if defined(OFFSET_TASK_STRUCT_SE_CFS_RQ) && defined(OFFSET_CFS_RQ_THROTTLE_COUNT)
    return (s32)read_u32(read_u64(task + OFFSET_TASK_STRUCT_SE_CFS_RQ) + OFFSET_CFS_RQ_THROTTLE_COUNT) > 0;
#else
    return false;
#endif
}

/* Whether it waits for a local disk: in_iowait is set inside a file operation that no daemon serves. */
static __always_inline bool waits_for_io(struct thread *thread) {
#ifdef OFFSET_TASK_STRUCT_IN_IOWAIT
    struct operation *operation = innermost_operation(thread);
    if (!operation || (operation->flags & (OPERATION_FUSE | OPERATION_PASSTHROUGH)) == OPERATION_FUSE)
        return false;
    return (read_u32(bpf_get_current_task() + OFFSET_TASK_STRUCT_IN_IOWAIT) >> OFFSET_IN_IOWAIT_BIT) & 1;
#else
    return false;
#endif
}

/* A wake may come after a thread has decided to sleep and before it leaves the CPU. It counts unless a later one
 * comes. */
static __always_inline void take_early_wake(struct thread *thread) {
    struct blocked *off = &thread->blocked, *early = &thread->early;
    if (!early->woken_ns)
        return;
    off->woken_ns = off->start_ns;
    off->unique = early->unique;
    off->dev = early->dev;
    off->waker_pid = early->waker_pid;
    off->waker_tid = early->waker_tid;
    off->flags |= early->flags | BLOCKED_EARLY;
    early->woken_ns = 0;
}

/* A thread has finished its piece of an answer: it uses a socket, or sleeps. */
static __always_inline void end_work(struct thread *thread, u64 now) {
    if (!thread->work.start_ns)
        return;
    thread->work.end_ns = now;
    emit_work(&thread->work);
    thread->work.start_ns = 0;
}

static __always_inline void begin_round(struct thread *thread) {
    thread->served_fds = 0;
    thread->round++;
}

static __always_inline bool is_writing(struct thread *thread) {
    return thread->role == ROLE_DAEMON && thread->syscall_number && thread->syscall_number <= CLASS_DAEMON_WRITEV;
}

/* Since when a thread that is off the CPU could run; 0 if it sleeps. */
static __always_inline u64 runnable_since(struct blocked *off) {
    return off->state == BLOCKED_PREEMPTED ? off->start_ns : off->woken_ns;
}

/* A thread runs again: the time that it waited for a CPU was not work. */
static __always_inline void note_delay(struct thread *thread) {
    struct blocked *off = &thread->blocked;
    u64 since = runnable_since(off);
    if (!since)
        return;
    u64 delay = off->end_ns - since;
    if (!thread->work.start_ns) {
        thread->late_ns += delay;
        return;
    }
    thread->work.off_ns += delay;
    if (is_writing(thread))
        thread->work.write_ns -= delay; /* the call's whole time is added at its end */
}

/* Notes a task that leaves this CPU. While tasks are switched, it is still the current one. */
static __always_inline void note_ran(u64 task, u64 now) {
    u32 zero = 0;
    struct history *past = history.lookup(&zero);
    if (!past)
        return;
    struct ran *last = &past->ran[past->count++ & (HISTORY - 1)];
    last->until_ns = now;
    last->task = task;
    last->pid_tid = bpf_get_current_pid_tgid();
}

/* Which task ran longest on this CPU since a time, of the last ones; NULL if none did. */
static __always_inline struct ran *longest_since(struct history *past, u64 since) {
    struct ran *longest = 0;
    u64 most = 0;
    NO_UNROLL
    for (u32 back = 1; back < HISTORY; back++) {
        KEEP_BOUND(back);
        struct ran *ran = &past->ran[(past->count - back) & (HISTORY - 1)];
        u64 from = past->ran[(past->count - back - 1) & (HISTORY - 1)].until_ns;
        if (ran->until_ns <= since)
            break;
        u64 length = ran->until_ns - (from > since ? from : since);
        if (length > most) {
            most = length;
            longest = ran;
        }
    }
    return longest;
}

/* Who had the CPU that a thread waited for: it is about to run. */
static __always_inline void note_cpu_wait(struct thread *thread, u64 now) {
    u64 since = runnable_since(&thread->blocked);
    if (!since || now < since + CPU_WAIT_LEAST_NS || (thread->role == ROLE_DAEMON && serves_others(thread->pid)))
        return;
    u32 zero = 0;
    struct history *past = history.lookup(&zero);
    struct ran *ran = past ? longest_since(past, since) : 0;
    if (!ran)
        return;
    struct cpu_wait wait = {.start_ns = since, .end_ns = now, .pid = thread->pid, .tid = thread->tid};
    wait.ran_pid = ran->pid_tid >> 32;
    wait.ran_tid = ran->pid_tid;
    wait.throttled = (thread->blocked.flags & BLOCKED_THROTTLED) != 0;
    if (read_u32(ran->task + OFFSET_TASK_STRUCT_PID) == wait.ran_tid) /* it may have ended since */
        bpf_probe_read_kernel(wait.ran_name, sizeof(wait.ran_name), (void *)(ran->task + OFFSET_TASK_STRUCT_COMM));
    emit_cpu_wait(&wait);
}

/* The freezer of cgroups v2 puts its tasks to sleep like others, and marks them until they run: commit 76f969e8948d
 * ("cgroup: cgroup v2 freezer") (in v5.2). Only long sleeps are looked at. */
static __always_inline void note_freezer(struct blocked *off, u64 task, u64 now) {
#ifdef OFFSET_TASK_STRUCT_FROZEN
    if (off->state == BLOCKED_SLEEP && now - off->start_ns > LONG_SLEEP_NS)
        if ((read_u32(task + OFFSET_TASK_STRUCT_FROZEN) >> OFFSET_FROZEN_BIT) & 1)
            off->state = BLOCKED_STOPPED;
#endif
}

static __always_inline void end_blocked(struct thread *thread, u64 now) {
    count_hit(EVENT_OFF_CPU);
    thread->blocked.end_ns = now;
    note_delay(thread);
    if (thread->role != ROLE_DAEMON || !serves_others(thread->pid))
        emit_blocked(&thread->blocked);
    thread->blocked.start_ns = thread->early.woken_ns = 0;
}

/* No program saw the thread return to a CPU. It is taken to have run since it was woken. */
static __always_inline void end_unseen(struct thread *thread) {
    if (thread->blocked.start_ns && thread->blocked.woken_ns > thread->blocked.start_ns)
        end_blocked(thread, thread->blocked.woken_ns);
}

static __always_inline void switch_out(struct thread *thread, u64 task, bool preempted, u64 state) {
    end_unseen(thread);
    if (!thread->adding)
        flush_hits(thread);
    if (preempted || !state) {
        begin_blocked(thread, BLOCKED_PREEMPTED);
        if (is_throttled(task))
            thread->blocked.flags |= BLOCKED_THROTTLED;
        return;
    }
    bool deep = state & TASK_UNINTERRUPTIBLE_BIT;
    u16 asleep = deep ? BLOCKED_UNINTERRUPTIBLE : BLOCKED_SLEEP;
    begin_blocked(thread, state & TASK_STOPPED_BITS ? BLOCKED_STOPPED : asleep);
    if (!deep && !is_writing(thread)) {
        end_work(thread, thread->blocked.start_ns);
        begin_round(thread);
        thread->late_ns = 0;
    }
    if (waits_for_io(thread))
        thread->blocked.flags |= BLOCKED_IO;
    take_early_wake(thread);
    if (thread->fault.start_ns)
        thread->fault.flags |= OPERATION_WAITED;
    if (thread->operation.start_ns)
        thread->operation.flags |= OPERATION_WAITED;
}

/* The previous task's state is an argument since commits fa2c3254d7cf ("sched/tracing: Don't re-read p->state when
 * emitting sched_switch event") and 9c2136be0878 ("sched/tracing: Append prev_state to tp args instead") (both in
 * v5.18). */
static __always_inline int task_switch(struct bpf_raw_tracepoint_args *ctx) {
    u64 now = bpf_ktime_get_ns();
    note_ran(ctx->args[1], now);
    struct thread *out = current_thread();
    if (out) {
#ifdef OFFSET_TASK_STRUCT_STATE
        u64 state = read_u32(ctx->args[1] + OFFSET_TASK_STRUCT_STATE);
#else
        u64 state = ctx->args[3];
#endif
        switch_out(out, ctx->args[1], ctx->args[0], state);
    }
    u32 tid = read_u32(ctx->args[2] + OFFSET_TASK_STRUCT_PID);
    struct thread *in = threads.lookup(&tid);
    if (in && in->blocked.start_ns) {
        note_freezer(&in->blocked, ctx->args[2], now);
        note_cpu_wait(in, now);
        end_blocked(in, now);
    }
    return 0;
}

/* Runs in the waker, unless an interrupt wakes the thread. */
static __always_inline void note_waker(struct thread *sleeper, struct blocked *off, u64 task) {
    off->woken_ns = bpf_ktime_get_ns();
    off->unique = 0;
    off->dev = off->waker_pid = off->waker_tid = 0;
    off->flags &= ~(BLOCKED_WAKER_IRQ | BLOCKED_EARLY | BLOCKED_THROTTLED);
    if (is_throttled(task))
        off->flags |= BLOCKED_THROTTLED;
    if (in_interrupt()) {
        off->flags |= BLOCKED_WAKER_IRQ;
        return;
    }
    u64 current = bpf_get_current_pid_tgid();
    off->waker_pid = current >> 32;
    off->waker_tid = current;
    struct thread *waker = current_thread();
    if (!waker || !waker->ending_unique)
        return;
    off->unique = waker->ending_unique;
    off->dev = waker->ending_dev;
    struct operation *operation = innermost_operation(sleeper);
    if (operation)
        operation->flags |= OPERATION_LINKED;
}

static __always_inline int task_waking(u64 task) {
    u32 tid = read_u32(task + OFFSET_TASK_STRUCT_PID);
    struct thread *sleeper = threads.lookup(&tid);
    if (!sleeper)
        return 0;
    struct blocked *off = &sleeper->blocked;
    if (off->start_ns && off->woken_ns && !(off->flags & BLOCKED_EARLY))
        return 0;
    count_hit(EVENT_WAKE);
    if (off->start_ns)
        note_waker(sleeper, off, task);
    else
        note_waker(sleeper, &sleeper->early, task);
    return 0;
}

/* A task's number in its own pid namespace, the innermost. */
static __always_inline u32 namespace_number(u64 task) {
    u64 pid = read_u64(task + OFFSET_TASK_STRUCT_THREAD_PID);
    u64 level = read_u32(pid + OFFSET_PID_LEVEL);
    return read_u32(pid + OFFSET_PID_NUMBERS + 16 * level); /* struct upid: nr, ns */
}

static __always_inline struct task *describe_task(u64 task, u16 kind, u16 role) {
    u32 slot = thread_slot();
    struct task *event = task_scratch.lookup(&slot);
    if (!event)
        return 0;
    event->time_ns = bpf_ktime_get_ns();
    event->start_ns = read_u64(task + OFFSET_TASK_STRUCT_START_TIME);
    event->pid = read_u32(task + OFFSET_TASK_STRUCT_TGID);
    event->tid = read_u32(task + OFFSET_TASK_STRUCT_PID);
    event->parent_pid = read_u32(read_u64(task + OFFSET_TASK_STRUCT_REAL_PARENT) + OFFSET_TASK_STRUCT_TGID);
    event->namespace_pid = namespace_number(read_u64(task + OFFSET_TASK_STRUCT_GROUP_LEADER));
    event->namespace_tid = namespace_number(task);
    event->began_ns = 0;
    event->exit_code = 0;
    event->kind = kind;
    event->role = role;
    event->arguments = 0;
    bpf_probe_read_kernel(event->name, sizeof(event->name), (void *)(task + OFFSET_TASK_STRUCT_COMM));
    return event;
}

static __always_inline void report_task(u64 task, u16 kind, u16 role) {
    struct task *event = describe_task(task, kind, role);
    if (!event)
        return;
    count_hit(EVENT_TASK);
    emit_task(event);
}

/* Makes the current process a daemon, because it serves requests or runs client code. */
static __always_inline void begin_daemon(u32 pid) {
    u32 role = ROLE_DAEMON;
    if (roles.update(&pid, &role))
        count_loss(EVENT_TASK, LOSS_MAP_FULL);
    report_task(bpf_get_current_task(), TASK_SEEN, ROLE_DAEMON);
}

/* The signal that crashes a daemon may not be the one that kills it: its watchdog kills it once it has saved the
 * stack. */
static __always_inline void report_crash(u64 task, u32 number) {
    u32 pid = read_u32(task + OFFSET_TASK_STRUCT_TGID);
    if (role_of(pid) != ROLE_DAEMON || serves_others(pid))
        return;
    struct task *event = describe_task(task, TASK_SIGNAL, ROLE_DAEMON);
    if (!event)
        return;
    event->exit_code = number;
    count_hit(EVENT_TASK);
    emit_task(event);
}

/* A signal handler runs before the fault is retried: after it there is another fault. */
static __always_inline int signal_delivered(u64 number) {
    struct thread *thread = current_thread();
    if (thread && thread->role == ROLE_TARGET && number != SIGNAL_KILL)
        close_fault(thread, FAULT_INTERRUPTED);
    return 0;
}

/* A fault that could not be served ends in SIGBUS, without a page-fault event. */
static __always_inline int signal_generated(u64 number, u64 task) {
    if (number < 32 && CRASH_SIGNALS >> number & 1)
        report_crash(task, number);
    if (number != SIGNAL_BUS || task != bpf_get_current_task())
        return 0;
    return end_fault(-5);
}

/* Every task that a traced process creates, io_uring's worker threads included. */
static __always_inline int task_begins(u64 task, bool backup) {
    u32 parent = bpf_get_current_pid_tgid() >> 32;
    u32 role = role_of(parent);
    if (!role)
        return 0;
    u32 pid = read_u32(task + OFFSET_TASK_STRUCT_TGID), tid = read_u32(task + OFFSET_TASK_STRUCT_PID);
    if (backup && threads.lookup(&tid))
        return 0;
    if (pid != parent && roles.update(&pid, &role))
        count_loss(EVENT_TASK, LOSS_MAP_FULL);
    struct thread *thread = thread_of(pid, tid, role);
    if (thread)
        begin_blocked(thread, BLOCKED_PREEMPTED); /* runnable until it runs for the first time */
    report_task(task, TASK_FORK, role);
    return 0;
}

static __always_inline bool is_client_name(u8 *name) {
    return name[0] == 'c' && name[1] == 'v' && name[2] == 'm' && name[3] == 'f' && name[4] == 's' &&
           name[5] == '2' && !name[6];
}

/* exec by a thread that is not the leader: it continues under the leader's number. */
static __always_inline void follow_renumbering(u32 old_tid, u32 tid) {
    struct thread *old = threads.lookup(&old_tid), *thread = threads.lookup(&tid);
    if (old_tid == tid || !old || !thread)
        return;
    thread->operation = old->operation; /* it keeps the old number, as the requests that it queued do */
    threads.delete(&old_tid);
}

static __always_inline void read_arguments(struct task *event, u64 task) {
    u64 memory = read_u64(task + OFFSET_TASK_STRUCT_MM);
    u64 start = read_u64(memory + OFFSET_MM_STRUCT_ARG_START);
    u64 length = read_u64(memory + OFFSET_MM_STRUCT_ARG_END) - start;
    if (length > sizeof(event->argv))
        length = sizeof(event->argv);
    if (!read_user(event->argv, sizeof(event->argv), (void *)start))
        event->arguments = length; /* the environment follows argv, so a full read is possible */
}

/* Stores the file that a task has begun to execute: for a script, its interpreter. */
static __always_inline void attach_program(struct operation *operation, u64 task) {
    u64 file = read_u64(read_u64(task + OFFSET_TASK_STRUCT_MM) + OFFSET_MM_STRUCT_EXE_FILE);
    u64 inode = file ? read_u64(file + OFFSET_FILE_F_INODE) : 0;
    if (!inode || !attach_inode(operation, inode))
        return;
    note_backing(operation, file);
    report_file(file);
}

static __always_inline int task_executes(u64 task, u32 old_tid) {
    u64 current = bpf_get_current_pid_tgid();
    u32 pid = current >> 32, tid = current, role = role_of(pid);
    struct task *event = describe_task(task, TASK_EXEC, role);
    if (!event)
        return 0;
    if (is_client_name(event->name)) {
        role = ROLE_DAEMON;
        if (roles.update(&pid, &role))
            count_loss(EVENT_TASK, LOSS_MAP_FULL);
    }
    if (!role)
        return 0;
    struct thread *thread = thread_of(pid, tid, role);
    if (thread)
        thread->role = role;
    follow_renumbering(old_tid, tid);
    count_hit(EVENT_TASK);
    event->role = role;
    event->began_ns = thread ? thread->operation.start_ns : 0;
    read_arguments(event, task);
    emit_task(event);
    if (thread && role == ROLE_TARGET)
        attach_program(&thread->operation, task);
    return 0;
}

static __always_inline void abandon(struct operation *operation) {
    if (!operation->start_ns)
        return;
    operation->end_ns = 0;
    operation->flags |= OPERATION_DIED;
    if (is_recorded(operation))
        emit_operation(operation);
}

static __always_inline int task_ends(u64 task, bool backup) {
    struct thread *thread = current_thread();
    u32 role = role_of(bpf_get_current_pid_tgid() >> 32);
    if (!role || (backup && !thread))
        return 0;
    struct task *event = describe_task(task, TASK_EXIT, role);
    if (event) {
        count_hit(EVENT_TASK);
        event->exit_code = read_u32(task + OFFSET_TASK_STRUCT_EXIT_CODE);
        emit_task(event);
    }
    if (role == ROLE_TARGET)
        end_gpu_thread();
    if (!thread)
        return 0;
    end_unseen(thread);
    flush_hits(thread);
    abandon(&thread->fault);
    if (has_result(&thread->operation) && thread->operation.result >= 0)
        settle(thread);
    abandon(&thread->operation);
    u32 tid = bpf_get_current_pid_tgid();
    threads.delete(&tid);
    return 0;
}

static __always_inline int task_freed(u64 task) {
    u32 pid = read_u32(task + OFFSET_TASK_STRUCT_PID);
    threads.delete(&pid); /* a dying daemon's thread may have been entered again after its exit */
    if (pid == read_u32(task + OFFSET_TASK_STRUCT_TGID))
        roles.delete(&pid);
    return 0;
}
