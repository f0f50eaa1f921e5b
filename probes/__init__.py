"""What is observed: event layouts, attach points, facts of one kernel, symbols, BPF programs."""
