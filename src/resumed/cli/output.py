"""Formats results: one JSON document, or a table that fits the terminal. Decides nothing about their content."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_json(answer: Mapping[str, Any]) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Print rows under their columns, or the sentence `empty` if there are none."""
    if not rows:
        print_line(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(escape_text(cell)) for cell in row))
    console = Console(soft_wrap=False) if sys.stdout.isatty() else Console(width=200, no_color=True)
    console.print(table)


def print_line(text: str) -> None:
    """Print one line on stdout."""
    sys.stdout.write(text + "\n")


def escape_text(value: object, longest: int = 200) -> str:
    """Return the value as text with control characters escaped, cut to `longest` characters."""
    text = "" if value is None else str(value)
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def format_bytes(number: float) -> str:
    """Write a number of bytes in the unit that people read."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:  # noqa: PLR2004 - bytes
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def format_time(instant: datetime | None, now: datetime | None = None) -> str:
    """Return an instant relative to now on a terminal, else as ISO 8601; "" for None."""
    if instant is None:
        return ""
    if not sys.stdout.isatty():
        return instant.isoformat()
    away = instant - (now or datetime.now(UTC))
    length = abs(away)
    sizes = (("d", timedelta(days=1)), ("h", timedelta(hours=1)), ("min", timedelta(minutes=1)))
    number = next((f"{length // size} {unit}" for unit, size in sizes if length >= size), f"{length.seconds} s")
    return f"in {number}" if away > timedelta(0) else f"{number} ago"
