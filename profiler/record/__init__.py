"""The recorder: the only part that runs as root, and the only one that imports bcc."""
