// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* Read by bcc's helpers; no program of ours tests a version. */
#ifndef LINUX_VERSION_CODE
#define LINUX_VERSION_CODE 0x060000
#endif
#ifndef KERNEL_VERSION
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#endif
