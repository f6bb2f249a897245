"""The demo's output: a live board on a terminal, plain lines elsewhere. Decides nothing."""

import os
import sys
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from resumed.demo.example import WORKFLOWS
from resumed.demo.tally import Tally, Thread

_PLAIN_WIDTH = 110
_LATEST = 8
_STANDINGS = ("stopped", "failed", "running", "resuming", "finished", "waiting")
_COLOURS = {"finished": "green", "waiting": "yellow", "resuming": "cyan", "stopped": "red", "failed": "red"}
_INDENT = "     "


class Screen:
    """The demo's output, as `with Screen() as screen`."""

    def __init__(self) -> None:
        """Detect whether stdout is a terminal that can redraw."""
        terminal = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.console = Console() if terminal else Console(width=_PLAIN_WIDTH, no_color=True, force_terminal=False)
        self._live: Live | None = Live(console=self.console, auto_refresh=False, transient=True) if terminal else None
        self._latest: deque[str] = deque(maxlen=_LATEST)
        self._steps = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop_live()

    def step(self, title: str) -> None:
        """Begin the next numbered step."""
        self._stop_live()
        self._latest.clear()
        self._steps += 1
        self._print(Text(f"{self._steps:>2}.  {title}", style="bold"))

    def say(self, sentence: str) -> None:
        """Print text that stays on the screen."""
        for line in sentence.splitlines():
            self._print(Text(f"{_INDENT}{line}".rstrip()))

    def show_briefly(self, sentence: str) -> None:
        """Print a sentence that a terminal shows only for a while."""
        self._latest.append(sentence)
        if self._live is None:
            self.say(sentence)

    def board(self, tally: Tally) -> None:
        """Show the current standing of every workflow's threads."""
        if self._live is not None:
            self._draw(Group(_board(tally), Text(), *(Text(f"{_INDENT}{line}", style="dim") for line in self._latest)))

    def progress(self, sentence: str) -> None:
        """Show progress on a terminal; without one do nothing."""
        if self._live is not None:
            self._draw(Text(f"{_INDENT}{sentence}", style="cyan"))

    def table(self, threads: Sequence[Thread]) -> None:
        """Print every thread with its verdict and outcome."""
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
        for column in ("thread", "workflow", "stopped at", "verdict", "outcome"):
            table.add_column(column, overflow="fold")
        table.add_column("how long", justify="right")
        for thread in threads:
            took = "" if thread.seconds is None else f"{thread.seconds:.1f} s"
            end = Text(thread.end, style=_COLOURS.get(thread.outcome or thread.verdict, ""))
            table.add_row(thread.thread_id, thread.workflow, thread.stopped_at or "its end", thread.verdict, end, took)
        self._print(Text())
        self._stop_live()
        self.console.print(table)
        self._print(Text())

    def _print(self, text: Text) -> None:
        self.console.print(text, soft_wrap=True)

    def _draw(self, what: Group | Text) -> None:
        if self._live is not None:
            self._live.start()
            self._live.update(what, refresh=True)

    def _stop_live(self) -> None:
        if self._live is not None and self._live.is_started:
            self._live.stop()


def _board(tally: Tally) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    table.add_column(f"{_INDENT}workflow")
    for standing in _STANDINGS:
        table.add_column(standing, justify="right")
    for workflow in WORKFLOWS:
        counts = tally.counts(workflow)
        cells = (Text(str(counts[standing] or "."), style=_COLOURS.get(standing, "")) for standing in _STANDINGS)
        table.add_row(f"{_INDENT}{workflow}", *cells)
    return table
