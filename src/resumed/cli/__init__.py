"""The command `resumed`: parses arguments, prints results, returns exit codes. Other packages do the work."""

import os


def main() -> None:
    """Run the command line. Imports happen inside, so that Ctrl-C during them ends the process quietly."""
    try:
        from resumed.cli.app import main as run  # noqa: PLC0415 - see above
    except KeyboardInterrupt:
        os._exit(130)
    run()
