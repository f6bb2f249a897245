"""Runs threads."""
