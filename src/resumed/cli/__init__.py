"""The command `resumed`: arguments in, sentences and exit codes out. What is done, others do."""

import os


def main() -> None:
    """Run the command line. What it needs is imported here, so that Ctrl-C ends it quietly from the first moment."""
    try:
        from resumed.cli.app import main as run  # noqa: PLC0415 - see above
    except KeyboardInterrupt:
        os._exit(130)
    run()
