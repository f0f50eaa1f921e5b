/* Read by bcc's helpers; no program of ours tests a version. */
#ifndef LINUX_VERSION_CODE
#define LINUX_VERSION_CODE 0x060000
#endif
#ifndef KERNEL_VERSION
#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#endif
