// SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
/* bcc defines its own bpf_log2. */
