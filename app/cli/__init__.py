"""The command line: one module for each command of run.py, listed in command_line.py."""
