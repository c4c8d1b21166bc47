"""Logs, metrics and recent calls."""
