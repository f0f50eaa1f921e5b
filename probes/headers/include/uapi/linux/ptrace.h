/* The registers as a uprobe's context holds them: x86-64 (arch/x86/include/uapi/asm/ptrace.h). */
#ifndef CVMPROF_PTRACE_H
#define CVMPROF_PTRACE_H
struct pt_regs {
    unsigned long r15, r14, r13, r12, bp, bx;
    unsigned long r11, r10, r9, r8, ax, cx, dx, si, di;
    unsigned long orig_ax, ip, cs, flags, sp, ss;
};
#endif
