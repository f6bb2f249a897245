"""The runbooks, taken apart: their commands, queries and words."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from support.deployment import ROOT

FOLDER = ROOT / "docs" / "runbooks"


@dataclass(frozen=True)
class Page:
    """One runbook."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def text(self) -> str:
        return self.path.read_text()

    def blocks(self, language: str) -> list[str]:
        return re.findall(rf"^```{language}\n(.*?)^```$", self.text, re.MULTILINE | re.DOTALL)

    @property
    def inline(self) -> list[str]:
        """What stands between backticks in a line of text."""
        return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", self.text, flags=re.MULTILINE | re.DOTALL))

    @property
    def queries(self) -> list[str]:
        return [line for block in self.blocks("promql") for line in block.splitlines()]

    @property
    def shell_lines(self) -> list[str]:
        lines = [line for block in self.blocks("sh") for line in block.splitlines()]
        return [*lines, *(words for words in self.inline if words.startswith("resumed "))]

    @property
    def commands(self) -> list[list[str]]:
        """The arguments of each `resumed …` that the page tells to run."""
        found = [shlex.split(part, comments=True) for line in self.shell_lines for part in line.split(" | ")]
        return [words[place + 1 :] for words in found for place, _ in enumerate(words) if _is_ours(words, place)]


def _is_ours(words: list[str], place: int) -> bool:
    before = words[:place]
    begins = all("=" in word for word in before) or before[-1] == "--" or before[-2:-1] == ["exec"]
    return Path(words[place]).name == "resumed" and begins


def pages() -> list[Page]:
    return [Page(path) for path in sorted(FOLDER.glob("*.md"))]
