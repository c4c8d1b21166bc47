"""The further commands of run.py."""
