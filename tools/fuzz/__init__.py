"""Fuzzing: no input may crash, hang, leak, or raise anything but our own errors."""
