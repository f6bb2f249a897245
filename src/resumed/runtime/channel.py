"""The worker's end of the connection to its control process; the worker dies with it."""

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
    """Messages over an inherited socket; when the other end is gone, this process ends."""

    def __init__(self, descriptor: int) -> None:
        """Use the inherited socket of this descriptor."""
        self._socket = socket.socket(fileno=descriptor)
        self._lines = self._socket.makefile("rb")
        self._send_lock = Lock()
        os.register_at_fork(after_in_child=self._detach_in_child)

    def receive(self) -> ToWorker:
        """Wait for the next message; ends the process when the control process is gone.

        A control process that closes with an unread message resets the connection; one that dies while it sends cuts
        a message short.
        """
        try:
            return decode_for_worker(self._lines.readline())
        except (OSError, ValueError):
            os._exit(0)

    def end(self, code: int) -> None:
        """End the process once a message that another thread is sending has been sent."""
        self._send_lock.acquire(timeout=1)
        os._exit(code)

    def _detach_in_child(self) -> None:
        """In a forked child: never send as the worker, nor keep its connection open when it is gone."""
        devnull = os.open(os.devnull, os.O_RDWR)
        os.dup2(devnull, self._socket.fileno())
        os.close(devnull)
        self._send_lock = Lock()

    def send(self, message: FromWorker) -> None:
        """Send a message from any thread; ends the process when the control process is gone."""
        try:
            with self._send_lock:
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
                os._exit(0)  # the loop to deliver to is closed


def die_with_parent(parent: int) -> None:
    """On Linux, have the kernel kill this process when the process `parent` dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def leave_signals_to_parent() -> None:
    """Ignore signals to the whole process group: the control process decides what they mean."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
