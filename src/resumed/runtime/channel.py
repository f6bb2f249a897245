"""Owns the worker's end of the line to its control process, and dying with it."""

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable
from threading import Lock, Thread

from resumed.workers.protocol import FromWorker, ToWorker, decode_for_worker, encode

_PR_SET_PDEATHSIG = 1


class Channel:
    """A line of messages over a socket that was inherited; when the other end is gone, so is this process."""

    def __init__(self, descriptor: int) -> None:
        """Take over the inherited socket."""
        self._socket = socket.socket(fileno=descriptor)
        self._lines = self._socket.makefile("rb")
        self._guard = Lock()
        os.register_at_fork(after_in_child=self._let_go)

    def receive(self) -> ToWorker:
        """Wait for the next message; ends the process when the control process is gone.

        One that closes with a message of ours unread resets the line, and one that dies in a message cuts it short.
        """
        try:
            return decode_for_worker(self._lines.readline())
        except (OSError, ValueError):
            os._exit(0)

    def end(self, code: int) -> None:
        """End the process without another word, once a message that another thread is sending has been sent."""
        self._guard.acquire(timeout=1)
        os._exit(code)

    def _let_go(self) -> None:
        """In a forked child: never speak as the worker, nor keep its line open when it is gone."""
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, self._socket.fileno())
        os.close(nowhere)
        self._guard = Lock()

    def send(self, message: FromWorker) -> None:
        """Send a message from any thread; ends the process when the control process is gone."""
        try:
            with self._guard:
                self._socket.sendall(encode(message))
        except OSError:
            os._exit(0)

    def listen(self, deliver: Callable[[ToWorker], None]) -> None:
        """Hand every message to `deliver` from a thread of its own, which no blocked event loop can hold up."""
        Thread(target=self._listen, args=(deliver,), name="resumed-channel", daemon=True).start()

    def _listen(self, deliver: Callable[[ToWorker], None]) -> None:
        while True:
            message = self.receive()
            try:
                deliver(message)
            except RuntimeError:
                os._exit(0)  # there is no loop any more to deliver to


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
