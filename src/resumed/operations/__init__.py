"""What is done on the database alone: no user code, no worker processes. Commands, daemon and library use it."""
