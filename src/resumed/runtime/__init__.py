"""The worker process: it loads user code and runs attempts. Nothing here runs in the control process."""
