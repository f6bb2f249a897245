"""What tools do to the world: one line in a file for each time that a tool really ran."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

LOG = "AGENTS_LOG"


@dataclass(frozen=True)
class Effect:
    """One run of a tool by a process, for a call of this id."""

    tool: str
    call: str
    thread: str
    process: int


def note(tool: str, call: str, thread: str) -> None:
    """Append a line; nothing is noted where no file is named."""
    path = os.environ.get(LOG)
    if path is None:
        return
    line = json.dumps(asdict(Effect(tool, call, thread, os.getpid())))
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


def noted(path: Path) -> list[Effect]:
    return [Effect(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []
