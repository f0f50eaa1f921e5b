/* bcc defines its own bpf_log2. */
