// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Target and daemon tasks: fork, exec, exit, on and off the CPU, and which task woke which. */

#define LONG_SLEEP_NS 1000000

BPF_PERCPU_ARRAY(interrupts, u32, 4); /* INTERRUPT_* -> 1 while this CPU is in one */
BPF_PERCPU_ARRAY(task_scratch, struct task, THREAD_SLOTS);

enum interrupt { INTERRUPT_SOFT, INTERRUPT_DEVICE, INTERRUPT_TIMER, INTERRUPT_CALL };

/* Whether a quota of a cgroup, or of one above, keeps its threads off the CPU of a run queue. */
static __always_inline bool queue_is_throttled(u64 cfs_rq) {
#ifdef OFFSET_CFS_RQ_THROTTLE_COUNT
    return (s32)read_u32(cfs_rq + OFFSET_CFS_RQ_THROTTLE_COUNT) > 0;
#else
    return false;
#endif
}

static __always_inline u64 queue_of(u64 task) {
#ifdef OFFSET_TASK_STRUCT_SE_CFS_RQ
    return read_u64(task + OFFSET_TASK_STRUCT_SE_CFS_RQ);
#else
    return 0;
#endif
}

/* Whether a quota keeps a task off its CPU. Since v6.18 quotas stop tasks and mark them, where they stopped run queues
 * before: a task runs on until it would return to its program, and until then waits for its CPU like others. */
static __always_inline bool is_throttled(u64 task) {
#ifdef OFFSET_TASK_STRUCT_THROTTLED
    return read_u32(task + OFFSET_TASK_STRUCT_THROTTLED) & 0xff;
#else
    u64 cfs_rq = queue_of(task);
    return cfs_rq && queue_is_throttled(cfs_rq);
#endif
}

static __always_inline struct throttle *throttle_of(struct history *past, u32 role) {
    return &past->throttles[role & (ROLES - 1)];
}

/* A quota takes a running thread off its CPU, and keeps all others of its cgroup off it too. */
static __always_inline void begin_throttle(struct history *past, u32 role, u64 cfs_rq, u64 now) {
    struct throttle *throttle = throttle_of(past, role);
    if (throttle->cfs_rq == cfs_rq && !throttle->until_ns)
        return;
    throttle->cfs_rq = cfs_rq;
    throttle->from_ns = now;
    throttle->until_ns = 0;
    past->throttled = 1;
}

/* Notes which quotas on this CPU have been refilled. */
static __always_inline void end_throttles(struct history *past, u64 now) {
    u32 left = 0;
    NO_UNROLL
    for (u32 role = 0; role < ROLES; role++) {
        KEEP_BOUND(role);
        struct throttle *throttle = throttle_of(past, role);
        if (!throttle->cfs_rq || throttle->until_ns)
            continue;
        if (queue_is_throttled(throttle->cfs_rq))
            left = 1;
        else
            throttle->until_ns = now;
    }
    past->throttled = left;
}

/* A timer refills quotas, on this CPU or by a call from another. If neither is seen, the next tick is. */
static __always_inline void look_for_refill(void) {
    u32 zero = 0;
    struct history *past = history.lookup(&zero);
    if (past && past->throttled)
        end_throttles(past, bpf_ktime_get_ns());
}

static __always_inline int set_interrupt(u32 kind, u32 value) {
    interrupts.update(&kind, &value);
    if (value)
        count_hit(EVENT_INTERRUPT);
    else if (kind == INTERRUPT_TIMER || kind == INTERRUPT_CALL)
        look_for_refill();
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

/* Notes a task that leaves this CPU: while tasks are switched, it is still the current one. Short runs one after
 * another are one, of the task that ran longest at a time. Returns the task's number. */
static __always_inline u32 note_ran(struct history *past, u64 task, u64 now) {
    struct ran *last = &past->ran[(past->count - 1) & (HISTORY - 1)];
    u64 pid_tid = bpf_get_current_pid_tgid(), length = now - last->until_ns;
    if (length >= CPU_RUN_LEAST_NS || last->longest_ns >= CPU_RUN_LEAST_NS) {
        last = &past->ran[past->count++ & (HISTORY - 1)];
        last->longest_ns = 0;
    }
    last->until_ns = now;
    if (length > last->longest_ns) {
        last->longest_ns = length;
        last->task = task;
        last->pid_tid = pid_tid;
    }
    return pid_tid;
}

/* Adds which process ran: its name and its user, unless the thread has ended since. */
static __always_inline void describe_ran(struct cpu_wait *part, struct ran *ran) {
    part->ran_pid = ran->pid_tid >> 32;
    part->ran_tid = ran->pid_tid;
    if (read_u32(ran->task + OFFSET_TASK_STRUCT_PID) != part->ran_tid)
        return;
#ifdef NAMES_HIDDEN
    if (!role_of(part->ran_pid))
        return;
#endif
    bpf_probe_read_kernel(part->ran_name, sizeof(part->ran_name), (void *)(ran->task + OFFSET_TASK_STRUCT_COMM));
#if defined(OFFSET_TASK_STRUCT_CRED) && defined(OFFSET_CRED_UID)
    part->ran_uid = read_u32(read_u64(ran->task + OFFSET_TASK_STRUCT_CRED) + OFFSET_CRED_UID);
#endif
}

/* Emits a part of a wait, which nothing ran in that could be named if there is a flag. */
static __always_inline void emit_part(struct history *past, u32 flag) {
    struct cpu_wait *part = &past->part;
    part->ran_pid = part->ran_tid = 0;
    part->flags = flag;
    part->ran_uid = CPU_NO_USER;
    __builtin_memset(part->ran_name, 0, sizeof(part->ran_name));
    if (!flag)
        describe_ran(part, &past->ran[past->had & (HISTORY - 1)]);
    emit_cpu_wait(part);
}

/* Divides a wait among those who had this CPU, the last ones first. Runs of one process after another are one part,
 * and so are short runs with what ran after them. What the verifier need not follow is in the map. */
static __always_inline void emit_parts(struct history *past, u64 since, u64 until) {
    past->part.start_ns = past->part.end_ns = until;
    past->had = past->count - 1;
    NO_UNROLL
    for (u32 back = 1; back < HISTORY; back++) {
        KEEP_BOUND(back);
        struct ran *ran = &past->ran[(past->count - back) & (HISTORY - 1)];
        if (ran->until_ns <= since)
            break;
        u64 before = past->ran[(past->count - back - 1) & (HISTORY - 1)].until_ns;
        u64 begin = before > since ? before : since;
        u64 had = past->ran[past->had & (HISTORY - 1)].pid_tid;
        if (ran->pid_tid >> 32 != had >> 32 && ran->until_ns - begin >= CPU_RUN_LEAST_NS) {
            emit_part(past, 0);
            past->part.end_ns = ran->until_ns;
            past->had = past->count - back;
        }
        past->part.start_ns = begin;
    }
    if (past->part.start_ns < past->part.end_ns)
        emit_part(past, 0);
    if (past->part.start_ns <= since)
        return;
    past->part.end_ns = past->part.start_ns;
    past->part.start_ns = since;
    emit_part(past, CPU_WAIT_UNKNOWN);
}

/* Emits for how long a quota kept a thread off this CPU while it waited. Returns when others begin to count. */
static __always_inline u64 emit_throttled(struct history *past, struct thread *thread, u64 task, u64 since, u64 now) {
    bool at_once = thread->blocked.flags & BLOCKED_THROTTLED, known = false;
    struct throttle *last = throttle_of(past, thread->role);
    if (last->cfs_rq && last->cfs_rq == queue_of(task) && last->until_ns > since)
        known = true;
    u64 from = since, until = known ? last->until_ns : now;
#ifndef OFFSET_TASK_STRUCT_THROTTLED
    if (known && !at_once && last->from_ns > since)
        from = last->from_ns;
    at_once |= known;
#endif
    if (!at_once || until <= from)
        return since;
    past->part.start_ns = from;
    past->part.end_ns = until;
    emit_part(past, CPU_WAIT_THROTTLED);
    return from == since ? until : since;
}

/* Who had the CPU that a thread waited for: it is about to run. */
static __always_inline void note_cpu_wait(struct history *past, struct thread *thread, u64 task, u64 now) {
    u64 since = runnable_since(&thread->blocked);
    if (!since || now < since + CPU_WAIT_LEAST_NS || (thread->role == ROLE_DAEMON && serves_others(thread->pid)))
        return;
    past->part.pid = thread->pid;
    past->part.tid = thread->tid;
    since = emit_throttled(past, thread, task, since, now);
    if (since < now)
        emit_parts(past, since, now);
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

/* A thread that could run on leaves the CPU: another goes first, or a quota is used up. */
static __always_inline void be_preempted(struct history *past, struct thread *thread, u64 task) {
    begin_blocked(thread, BLOCKED_PREEMPTED);
    if (!is_throttled(task))
        return;
    thread->blocked.flags |= BLOCKED_THROTTLED;
    begin_throttle(past, thread->role, queue_of(task), thread->blocked.start_ns);
}

static __always_inline void switch_out(struct history *past, struct thread *thread, u64 task, u64 state) {
    end_unseen(thread);
    if (!thread->adding)
        flush_hits(thread);
    if (!state) {
        be_preempted(past, thread, task);
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

/* A task leaves the CPU that was traced when it came, or that nobody looked at then. Its state is an argument since
 * commits fa2c3254d7cf ("sched/tracing: Don't re-read p->state when emitting sched_switch event") and 9c2136be0878
 * ("sched/tracing: Append prev_state to tp args instead") (both in v5.18). */
static __always_inline void task_leaves(struct bpf_raw_tracepoint_args *ctx, struct history *past) {
    struct thread *thread = current_thread();
    if (!thread)
        return;
#ifdef OFFSET_TASK_STRUCT_STATE
    u64 state = read_u32(ctx->args[1] + OFFSET_TASK_STRUCT_STATE);
#else
    u64 state = ctx->args[3];
#endif
    bool preempted = ctx->args[0];
    switch_out(past, thread, ctx->args[1], preempted ? 0 : state);
}

static __always_inline int task_switch(struct bpf_raw_tracepoint_args *ctx) {
    u32 zero = 0;
    struct history *past = history.lookup(&zero);
    if (!past)
        return 0;
    u64 now = bpf_ktime_get_ns();
    u32 leaving = note_ran(past, ctx->args[1], now);
    if (past->throttled)
        end_throttles(past, now);
    if (leaving != past->untraced)
        task_leaves(ctx, past);
    u32 tid = read_u32(ctx->args[2] + OFFSET_TASK_STRUCT_PID);
    struct thread *thread = tid ? threads.lookup(&tid) : 0; /* 0: the CPU gets idle */
    past->untraced = thread ? 0 : tid;
    if (thread && thread->blocked.start_ns) {
        note_freezer(&thread->blocked, ctx->args[2], now);
        note_cpu_wait(past, thread, ctx->args[2], now);
        end_blocked(thread, now);
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
