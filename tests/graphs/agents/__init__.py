"""Agents as people build them, with models that decide by what has been said, killed at the calls of their saver."""
