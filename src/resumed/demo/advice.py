"""What `demo --keep` prints: where everything is and what to try with it, until Ctrl-C."""

import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

from resumed.demo.example import THREADS
from resumed.demo.replica import Command, Replica
from resumed.demo.screen import Screen

_POLL_INTERVAL = 0.5
_TEXT = """
Everything is still running. In another terminal, first:

    . {variables}

Inspect it:
    {resumed} threads                      open cases; the approvals wait for a person
    {resumed} show approvals_04            verdict and evidence, checkpoints, attempts
    curl http://127.0.0.1:{port}/metrics    also /livez and /readyz
    {application} answer --dsn "$RESUMED_DATABASE_URL" approvals_04 yes

Kill a daemon in mid-work; another one takes over:
    {resumed} run &
    {application} run --dsn "$RESUMED_DATABASE_URL" --first {first} & sleep 3; kill -9 $!
    sleep 5; kill -9 {pid}

Break a node; its threads are attempted again and end in quarantine:
    touch "$EXAMPLE_BREAK"
    {application} run --dsn "$RESUMED_DATABASE_URL" --threads 8 --first {second}
    {resumed} threads --state quarantined

Mend it and release one:
    rm "$EXAMPLE_BREAK"
    {resumed} resume --force orders_{second}

Database  {dsn}
Daemon    http://127.0.0.1:{port}, process {pid}, its log in {log}

Ctrl-C stops everything and removes {folder}"""


def wait(screen: Screen, command: Command, replica: Replica) -> None:
    """Print what is running and what to try, and keep it running until Ctrl-C.

    Ctrl-C is recorded, not raised: raised while a process is being polled it would leave a lock of `subprocess` held.
    """
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        screen.say(_format_advice(command, replica))
        while not received and not replica.job.ended:
            time.sleep(_POLL_INTERVAL)
        if not received:
            screen.say("The daemon has ended: start another with `resumed run`, threads that stop now wait for one.")
        while not received:
            time.sleep(_POLL_INTERVAL)
    finally:
        signal.signal(signal.SIGINT, before)


def _format_advice(command: Command, replica: Replica) -> str:
    return _TEXT.format(
        variables=shlex.quote(str(_write_variables(command))),
        resumed=_shell_command("resumed"),
        application=_shell_command("resumed-example", "resumed_example"),
        port=replica.port,
        pid=replica.pid,
        first=THREADS + 1,
        second=2 * THREADS + 1,  # an order: every fourth thread, beginning with the first
        dsn=command.example.dsn,
        log=replica.job.log,
        folder=command.sandbox.folder,
    )


def _write_variables(command: Command) -> Path:
    """Write the demo's settings into a file that a shell can source, and return its path."""
    path = command.sandbox.folder / "settings.sh"
    settings = {**command.settings, **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}}
    path.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()))
    return path


def _shell_command(name: str, module: str | None = None) -> str:
    """Return a command as a shell of the same user finds it; `python -m` if it is not installed."""
    beside = Path(sys.executable).with_name(name)
    if beside.exists():
        return name if shutil.which(name) == str(beside) else shlex.quote(str(beside))
    return name if module is None else f"{shlex.quote(sys.executable)} -m {module}"
