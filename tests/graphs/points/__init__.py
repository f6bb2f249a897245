"""Flows of every shape, run by a process that is killed before its k-th call of the checkpointer."""
