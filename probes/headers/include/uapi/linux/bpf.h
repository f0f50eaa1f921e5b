// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* bcc carries its own copy of the BPF interface. */
