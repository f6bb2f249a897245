"""What applications import: locks, checkpointers and runs that the daemon respects."""
