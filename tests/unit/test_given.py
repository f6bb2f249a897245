"""What a person gives on the command line: what is taken, and what is refused before any database is asked."""

import io
import socket
from collections.abc import Callable
from typing import Any

import pytest

from resumed.cli import containing, given, pausing
from resumed.cli.context import GLOBALS
from resumed.errors import SettingsError


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GLOBALS, "actor", None)


@pytest.mark.parametrize(
    "command",
    [
        lambda: containing.release(None),
        lambda: containing.release(["a"], everything=True),
        lambda: containing.release(["a"], workflow="orders"),
        lambda: containing.release(None, workflow="orders", everything=True),
        lambda: containing.release(None, workflow=" "),
        lambda: containing.release(["-"]),
        lambda: containing.cancel(["a"], "  "),
        lambda: containing.cancel(["a"], "x\0y"),
        lambda: containing.cancel(["a\0"], "x"),
        lambda: containing.cancel(["a\udc80"], "x"),
        lambda: containing.quarantine(["a"], "\udc80"),
        lambda: pausing.pause("x", ""),
        lambda: pausing.pause("", "orders"),
        lambda: pausing.pause("x", "or\0ders"),
        lambda: pausing.unpause(" "),
    ],
)
def test_what_cannot_be_meant_or_stored_is_refused(monkeypatch: pytest.MonkeyPatch, command: Callable[[], Any]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n \n"))
    with pytest.raises(SettingsError):
        command()


def test_threads_are_read_each_once_from_stdin_too_without_empty_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("b\r\n\n with spaces \na\nb"))
    assert given.thread_arguments(["a", "-", "c"]) == ["a", "b", " with spaces ", "c"]


def test_reasons_and_actors_are_cut_to_what_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert given.reason("  because of\nthat ") == "because of\nthat"
    assert given.reason("x" * 5000) == "x" * 1000
    monkeypatch.setattr(GLOBALS, "actor", "a" * 5000)
    assert given.actor() == "a" * 200
    for wrong in ("", " ", "a\0", "\udc80"):
        monkeypatch.setattr(GLOBALS, "actor", wrong)
        with pytest.raises(SettingsError):
            given.actor()


def test_who_acts_is_the_user_of_this_host_even_where_the_user_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    host = socket.gethostname()
    monkeypatch.setenv("LOGNAME", "ada")
    assert given.actor() == f"ada@{host}"
    monkeypatch.setattr("os.getuid", lambda: 54321)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    assert given.actor() == f"54321@{host}"
