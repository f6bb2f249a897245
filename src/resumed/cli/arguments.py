"""Owns reading what a person gives: thread ids, reasons, who acts. Raises SettingsError for what cannot be stored."""

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
    """Give text back that Postgres can hold; `what` names it in the sentence that refuses any other."""
    if "\0" in text:
        message = f"{what} cannot hold a NUL character: Postgres stores none"
        raise SettingsError(message)
    try:
        text.encode()
    except UnicodeEncodeError:
        message = f"{what} must be UTF-8 text"
        raise SettingsError(message) from None
    return text


def thread_argument(given: str) -> str:
    """Read a thread id as it was given, `-` from stdin."""
    return require_storable(sys.stdin.readline().rstrip("\n") if given == "-" else given, "a thread id")


def thread_arguments(given: Sequence[str]) -> list[str]:
    """Read thread ids as they were given, each once; `-` reads them from stdin, one a line."""
    found = [one for name in given for one in (_lines() if name == "-" else [name])]
    if not found:
        message = "no thread was named: give thread ids, or - and one a line on stdin"
        raise SettingsError(message)
    return list(dict.fromkeys(require_storable(one, "a thread id") for one in found))


def _lines() -> list[str]:
    return [line.rstrip("\r\n") for line in sys.stdin if line.strip()]


def workflow_argument(given: str | None) -> str:
    """Read the name of a workflow, empty where none was given; an empty one was most likely meant to be something."""
    if given is not None and not given.strip():
        message = "the workflow's name is empty: leave it out where every workflow is meant"
        raise SettingsError(message)
    return require_storable(given or "", "a workflow's name")


def duration_option(given: str, option: str) -> timedelta:
    """Read a length of time such as `7d`; `option` names it in the sentence that refuses any other."""
    try:
        return durations.parse_duration(given)
    except ValueError as error:
        raise SettingsError(f"{option}: {error}") from None


def reason_option(given: str) -> str:
    """Read why somebody acts, cut to a length that can be read."""
    said = require_storable(given, "a reason").strip()
    if not said:
        message = "the reason is empty: say why, for whoever finds it later"
        raise SettingsError(message)
    return said[:LONGEST_REASON]


def current_actor() -> str:
    """Say who acts: what `--actor` names, else user and host of the operating system."""
    if GLOBALS.actor is None:
        return f"{_user()}@{socket.gethostname()}"
    said = require_storable(GLOBALS.actor, "an actor").strip()
    if not said:
        message = "the actor is empty: name somebody, or leave --actor out"
        raise SettingsError(message)
    return said[:_LONGEST_ACTOR]


def _user() -> str:
    """A container's user may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
