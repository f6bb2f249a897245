"""Reads a file of JSON lines that grows: each line once, by its offset."""

import json
from pathlib import Path
from typing import Any


class GrowingLines:
    """The JSON objects of a log, read as far as it goes; what is no JSON object is left out."""

    def __init__(self, file: Path) -> None:
        self._file, self._offset = file, 0
        self._found: list[dict[str, Any]] = []

    def read(self) -> list[dict[str, Any]]:
        """Return every object that has been written whole so far."""
        if self._file.exists():
            with self._file.open("rb") as log:
                log.seek(self._offset)
                whole = log.read().rpartition(b"\n")[0]
            if whole:
                self._offset += len(whole) + 1
                self._found += [json.loads(line) for line in whole.split(b"\n") if line.startswith(b"{")]
        return self._found
