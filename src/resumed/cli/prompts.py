"""What a command does while a person waits or has to agree: it asks, and says how far it is. Decides nothing else."""

import sys
import time

import typer

from resumed.errors import SettingsError

_PROGRESS_INTERVAL = 2.0


def confirm(doing: str, question: str, remedy: str = "say --yes") -> None:
    """Ask before something that is not easily taken back; ends the command where the answer is no.

    Raises SettingsError where nobody can be asked: `doing` says what would be done, `remedy` how to have it done.
    """
    if not sys.stdin.isatty():
        message = f"this {doing}, and nobody can be asked here: {remedy}"
        raise SettingsError(message)
    typer.confirm(question, abort=True, err=True)


class Progress:
    """Says on stderr how far a long command is, every two seconds."""

    def __init__(self) -> None:
        """Begin to count the time."""
        self._reported_at = time.monotonic()

    def report(self, sentence: str) -> None:
        """Say it if it is time to."""
        if time.monotonic() - self._reported_at > _PROGRESS_INTERVAL:
            self._reported_at = time.monotonic()
            typer.echo(f"resumed: {sentence}", err=True)
