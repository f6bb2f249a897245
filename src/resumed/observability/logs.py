"""Owns how a log line is written: one JSON object on stderr, or a line for people on a terminal.

The words are in `events`. A stderr that is closed or full stops nothing.
"""

import contextlib
import logging
import sys
from typing import Literal

import structlog
from structlog.typing import EventDict, WrappedLogger

from resumed.observability import redaction

Format = Literal["json", "console"]


def configure(form: Format | None = None, level: str = "info") -> None:
    """Send one line an event to stderr; without a form, for people on a terminal and JSON elsewhere.

    What libraries say through `logging` and `warnings` arrives as `library.warned`, from level warning up.
    """
    console = form == "console" or (form is None and sys.stderr.isatty())
    renderers = [_printable, structlog.dev.ConsoleRenderer()] if console else [structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _event_first,
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Libraries(logging.WARNING)], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)


def _event_first(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Put what every line has in front, where people look."""
    front = {key: event.pop(key) for key in ("event", "level", "timestamp")}
    return {**front, **event}


def _printable(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Escape what could move the cursor of a terminal; a thread id may be any text."""
    unsafe = {key: value for key, value in event.items() if isinstance(value, str) and not value.isprintable()}
    return {**event, **{key: value.encode("unicode_escape").decode() for key, value in unsafe.items()}}


class _Libraries(logging.Handler):
    """Passes on what libraries log: one masked line, no traceback."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say it in our form; what cannot be formatted is said unformatted."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's faulty log call must not become our failure
            message = str(record.msg)
        error = redaction.describe_error(record.exc_info[1]) if record.exc_info and record.exc_info[1] else None
        write_event(
            "library.warned",
            "error" if record.levelno >= logging.ERROR else "warning",
            library=record.name,
            message=redaction.redact_message(message),
            error_type=error and error.error_type,
            error_at=error and error.error_at,
        )


def write_event(event: str, level: str = "info", **facts: object) -> None:
    """Write one line about a thing that happened, where it passes the level."""
    with contextlib.suppress(OSError, ValueError):
        getattr(structlog.get_logger(), level)(event, **facts)
