"""Owns what `--keep` says: where everything is, and what to try with it. It ends at Ctrl-C."""

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

_PAUSE = 0.5
_TEXT = """
Everything is still running. In another terminal, first:

    . {variables}

Look around:
    {resumed} threads                      open cases: the approvals wait for a person
    {resumed} show approvals_04            verdict and evidence, checkpoints, attempts
    curl http://127.0.0.1:{port}/metrics    also /livez and /readyz
    {application} answer --dsn "$RESUMED_DATABASE_URL" approvals_04 yes

Kill a daemon in the middle of its work; another one takes over:
    {resumed} run &
    {application} run --dsn "$RESUMED_DATABASE_URL" --first {first} & sleep 3; kill -9 $!
    sleep 5; kill -9 {pid}

Break a node; its threads are tried again, and end in quarantine:
    touch "$EXAMPLE_BREAK"
    {application} run --dsn "$RESUMED_DATABASE_URL" --threads 8 --first {second}
    {resumed} threads --state quarantined

Mend it, and release one:
    rm "$EXAMPLE_BREAK"
    {resumed} resume --force orders_{second}

Database  {dsn}
Daemon    http://127.0.0.1:{port}, process {pid}, its log in {log}

Ctrl-C ends everything and removes {folder}"""


def wait(screen: Screen, command: Command, replica: Replica) -> None:
    """Say what is there and what to try, and leave it all running until Ctrl-C.

    Ctrl-C is noted, not raised: in the middle of asking after a process it would leave a lock of `subprocess` held.
    """
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))
    try:
        screen.say(_text(command, replica))
        while not heard and not replica.job.ended:
            time.sleep(_PAUSE)
        if not heard:
            screen.say("The daemon has ended; threads that stop now wait for another one.")
        while not heard:
            time.sleep(_PAUSE)
    finally:
        signal.signal(signal.SIGINT, before)


def _text(command: Command, replica: Replica) -> str:
    return _TEXT.format(
        variables=shlex.quote(str(_variables(command))),
        resumed=_spelt("resumed"),
        application=_spelt("resumed-example", "resumed_example"),
        port=replica.port,
        pid=replica.pid,
        first=THREADS + 1,
        second=2 * THREADS + 1,  # an order, as every fourth from the first on
        dsn=command.example.dsn,
        log=replica.job.log,
        folder=command.household.folder,
    )


def _variables(command: Command) -> Path:
    """Write the settings of the demo into a file for a shell."""
    path = command.household.folder / "settings.sh"
    settings = {**command.settings, **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}}
    path.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()))
    return path


def _spelt(name: str, module: str | None = None) -> str:
    """Spell a command so that a shell of the same user finds it; a module where it may not be installed as one."""
    beside = Path(sys.executable).with_name(name)
    if beside.exists():
        return name if shutil.which(name) == str(beside) else shlex.quote(str(beside))
    return name if module is None else f"{shlex.quote(sys.executable)} -m {module}"
