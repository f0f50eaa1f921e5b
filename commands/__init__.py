"""The commands, one a file. Each imports what is heavy inside its function."""
