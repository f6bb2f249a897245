"""A worker's line to its control process: it ends with it, and a forked child never speaks on it."""

import socket
import subprocess
import sys

import pytest

from resumed.workers.protocol import EntryLoading, Ping, decode_from_worker, encode

DEADLINE = 60
LISTENING = """
import sys, threading
from resumed.runtime.channel import Channel
from resumed.workers.protocol import EntryLoading, Pong
channel = Channel(int(sys.argv[1]))
channel.listen(lambda message: None)
channel.send(Pong())
threading.Event().wait()
"""
FORKING = """
import os, sys
from resumed.runtime.channel import Channel
from resumed.workers.protocol import EntryLoading, Pong
channel = Channel(int(sys.argv[1]))
child = os.fork()
if child == 0:
    try:
        channel.send(EntryLoading("child"))
    finally:
        os._exit(0)
os.waitpid(child, 0)
channel.send(EntryLoading("parent"))
"""


def started(program: str) -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
    """Start a program with one end of a line; nothing but the line tells it that we are gone."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-c", program, str(theirs.fileno())]
        return ours, subprocess.Popen(command, pass_fds=[theirs.fileno()])


@pytest.mark.parametrize("how", ["unread", "read", "in_a_message"])
def test_a_worker_ends_with_its_control_process_however_that_leaves_the_line(how: str) -> None:
    ours, process = started(LISTENING)
    with process:
        try:
            assert ours.recv(1, socket.MSG_PEEK)  # its message has arrived
            if how != "unread":
                ours.recv(4096)
            if how == "in_a_message":
                ours.sendall(encode(Ping())[:5])
            ours.close()
            assert process.wait(DEADLINE) == 0
        finally:
            process.kill()


def test_a_forked_child_never_speaks_as_the_worker() -> None:
    ours, process = started(FORKING)
    with process, ours, ours.makefile("rb") as lines:
        said = [decode_from_worker(line) for line in lines]
        assert process.wait(DEADLINE) == 0
    assert said == [EntryLoading("parent")]
