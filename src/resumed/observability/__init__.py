"""Logs, metrics and redaction: the only package that writes log lines or counts."""
