// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Forced into every program by bcc's loader. The kernel's own headers are never included: struct offsets
 * come from the running kernel's BTF (probes/btf.py) as macros. */
#ifndef CVMPROF_KCONFIG_H
#define CVMPROF_KCONFIG_H
#define CONFIG_BPF_SYSCALL 1
#include <linux/types.h>
#endif
