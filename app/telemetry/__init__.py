"""Logs, redaction of secrets, metrics and recent calls."""
