"""The command `resumed`: arguments in, sentences and exit codes out. What is done, others do."""

from resumed.cli.app import main

__all__ = ["main"]
