"""Owns the worker's end of the line to its control process, and dying with it."""

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable
from threading import Lock, Thread

from resumed.engine.wire import Message, decode, encode

_PR_SET_PDEATHSIG = 1


class Channel:
    """A line of messages over a socket that was inherited; when the other end is gone, so is this process."""

    def __init__(self, descriptor: int) -> None:
        """Take over the inherited socket."""
        self._socket = socket.socket(fileno=descriptor)
        self._lines = self._socket.makefile("rb")
        self._guard = Lock()

    def receive(self) -> Message:
        """Wait for the next message; ends the process when the control process is gone."""
        line = self._lines.readline()
        if not line:
            os._exit(0)
        return decode(line)

    def send(self, message: Message) -> None:
        """Send a message from any thread; ends the process when the control process is gone."""
        try:
            with self._guard:
                self._socket.sendall(encode(message))
        except OSError:
            os._exit(0)

    def listen(self, deliver: Callable[[Message], None]) -> None:
        """Hand every message to `deliver` from a thread of its own, which no blocked event loop can hold up."""
        Thread(target=self._listen, args=(deliver,), name="resumed-channel", daemon=True).start()

    def _listen(self, deliver: Callable[[Message], None]) -> None:
        while True:
            deliver(self.receive())


def die_with_parent(parent: int) -> None:
    """On Linux, have the kernel kill this process when the process `parent` dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def leave_signals_to_parent() -> None:
    """Have the control process alone decide what a signal to the whole group means."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
