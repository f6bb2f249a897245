"""Logs, metrics and redaction. No other package writes log lines or counts."""
