"""Parses arguments: thread ids, workflow names, durations, reasons, the actor. Raises SettingsError with the remedy."""

import getpass
import os
import socket
import sys
from collections.abc import Sequence
from datetime import timedelta

from resumed import durations
from resumed.cli.context import GLOBALS
from resumed.errors import SettingsError

LONGEST_REASON = 1000
_LONGEST_ACTOR = 200


def require_storable(text: str, what: str) -> str:
    """Return the text if Postgres can store it; `what` names it in the error message."""
    if "\0" in text:
        message = f"{what} contains a NUL character, which Postgres cannot store: remove it"
        raise SettingsError(message)
    try:
        text.encode()
    except UnicodeEncodeError:
        message = f"{what} is not valid UTF-8: set the terminal's encoding to UTF-8"
        raise SettingsError(message) from None
    return text


def thread_argument(text: str) -> str:
    """Return the thread id; `-` reads it from stdin."""
    return require_storable(sys.stdin.readline().rstrip("\n") if text == "-" else text, "the thread id")


def thread_arguments(names: Sequence[str]) -> list[str]:
    """Return the thread ids in order, without duplicates; `-` reads one a line from stdin, blank lines skipped."""
    threads: list[str] = []
    for name in names:
        threads += [line.rstrip("\r\n") for line in sys.stdin if line.strip()] if name == "-" else [name]
    if not threads:
        message = "no thread id was given: pass thread ids, or - and one id a line on stdin"
        raise SettingsError(message)
    return list(dict.fromkeys(require_storable(thread, "a thread id") for thread in threads))


def workflow_argument(name: str | None) -> str:
    """Return the workflow's name, or "" for every workflow if none was given; a blank name is refused."""
    if name is not None and not name.strip():
        message = "the workflow's name is empty: pass a name, or omit it to address every workflow"
        raise SettingsError(message)
    return require_storable(name or "", "the workflow's name")


def duration_option(text: str, option: str) -> timedelta:
    """Parse a duration such as `7d`; `option` names it in the error message."""
    try:
        return durations.parse_duration(text)
    except ValueError as error:
        raise SettingsError(f"{option}: {error}") from None


def length_option(text: str, option: str) -> timedelta:
    """Parse a duration that must be longer than nothing; `option` names it in the error message."""
    length = duration_option(text, option)
    if not length:
        message = f"{option} must be longer than 0s: write one such as 7d"
        raise SettingsError(message)
    return length


def reason_option(text: str) -> str:
    """Return the reason, cut to `LONGEST_REASON` characters."""
    reason = require_storable(text, "the reason").strip()
    if not reason:
        message = "the reason is empty: write one after --reason, for readers of the audit"
        raise SettingsError(message)
    return reason[:LONGEST_REASON]


def current_actor() -> str:
    """Return the actor for the audit: `--actor`, else user@host of the operating system."""
    if GLOBALS.actor is None:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = str(os.getuid())  # a container's user may have no name
        return f"{user}@{socket.gethostname()}"
    actor = require_storable(GLOBALS.actor, "the actor").strip()
    if not actor:
        message = "the actor is empty: write a name after --actor, or omit the option"
        raise SettingsError(message)
    return actor[:_LONGEST_ACTOR]
