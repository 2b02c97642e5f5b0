"""The command line: one file a command, the checks before a start, and tables for a person."""
