"""What a person gives on the command line: what is taken, and what is refused before any database is asked."""

import io
import socket
from collections.abc import Callable
from typing import Any

import pytest

from resumed.cli import arguments, contain, pause
from resumed.cli.context import GLOBALS
from resumed.errors import SettingsError


@pytest.fixture(autouse=True)
def _nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GLOBALS, "actor", None)


@pytest.mark.parametrize(
    "command",
    [
        lambda: contain.release(None),
        lambda: contain.release(["a"], everything=True),
        lambda: contain.release(["a"], workflow="orders"),
        lambda: contain.release(None, workflow="orders", everything=True),
        lambda: contain.release(None, workflow=" "),
        lambda: contain.release(["-"]),
        lambda: contain.cancel(["a"], "  "),
        lambda: contain.cancel(["a"], "x\0y"),
        lambda: contain.cancel(["a\0"], "x"),
        lambda: contain.cancel(["a\udc80"], "x"),
        lambda: contain.quarantine(["a"], "\udc80"),
        lambda: pause.pause("x", ""),
        lambda: pause.pause("", "orders"),
        lambda: pause.pause("x", "or\0ders"),
        lambda: pause.unpause(" "),
    ],
)
def test_what_cannot_be_meant_or_stored_is_refused(monkeypatch: pytest.MonkeyPatch, command: Callable[[], Any]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("\n \n"))
    with pytest.raises(SettingsError):
        command()


def test_threads_are_read_each_once_from_stdin_too_without_empty_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("b\r\n\n with spaces \na\nb"))
    assert arguments.thread_arguments(["a", "-", "c"]) == ["a", "b", " with spaces ", "c"]


def test_reasons_and_actors_are_cut_to_what_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert arguments.reason_option("  because of\nthat ") == "because of\nthat"
    assert arguments.reason_option("x" * 5000) == "x" * 1000
    monkeypatch.setattr(GLOBALS, "actor", "a" * 5000)
    assert arguments.current_actor() == "a" * 200
    for wrong in ("", " ", "a\0", "\udc80"):
        monkeypatch.setattr(GLOBALS, "actor", wrong)
        with pytest.raises(SettingsError):
            arguments.current_actor()


def test_who_acts_is_the_user_of_this_host_even_where_the_user_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    host = socket.gethostname()
    monkeypatch.setenv("LOGNAME", "ada")
    assert arguments.current_actor() == f"ada@{host}"
    monkeypatch.setattr("os.getuid", lambda: 54321)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    assert arguments.current_actor() == f"54321@{host}"
