// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* The unit in which bcc gets the size of a ring (probes/events.py), whatever the machine's pages. */
#define PAGE_SIZE 4096
