"""What tools do to the world: one line in a file for each time that a tool really ran."""

import json
import os
from dataclasses import dataclass

LOG = "AGENTS_LOG"


@dataclass(frozen=True)
class Effect:
    """One run of a tool, or of a model, by a process."""

    kind: str
    name: str
    thread: str
    call: str
    process: int


def note(kind: str, name: str, call: str, thread: str = "") -> None:
    """Append a line; nothing is noted where no file is named, as for the undisturbed runs."""
    path = os.environ.get(LOG)
    if path is None:
        return
    line = json.dumps({"kind": kind, "name": name, "thread": thread, "call": call, "process": os.getpid()})
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


def noted(path: str) -> list[Effect]:
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return [Effect(**json.loads(line)) for line in file]
