// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* The registers as the context of a uprobe or a kprobe holds them: the machine's (probes/machines.py). */
#ifndef CVMPROF_PTRACE_H
#define CVMPROF_PTRACE_H
struct pt_regs {
    unsigned long PT_REGS_MEMBERS;
};
#endif
