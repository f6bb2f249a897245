"""Registered runs of an application: lock, record, supervision, end."""
