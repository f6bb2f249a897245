"""Owns what is traced: the span of each attempt, built from its closed row, under ids that every replica derives alike.

Knows nothing of OpenTelemetry, which is imported only where traces are on (`otel`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Protocol

from resumed.model import Attempt
from resumed.outcomes import meaning_of
from resumed.rows import AttemptOrigin

MOST_WAITING = 2048
AT_ONCE = 500

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRACE_BYTES, _SPAN_BYTES = 16, 8
Value = str | int | bool
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class SpanIds:
    """The ids of an attempt's span, the root of a trace of its own."""

    trace_id: int
    span_id: int

    def to_fields(self) -> dict[str, str]:
        """Return the ids as a log line has them."""
        return {"trace_id": f"{self.trace_id:032x}", "span_id": f"{self.span_id:016x}"}


@dataclass(frozen=True, slots=True)
class AttemptSpan:
    """One span, ready to be exported.

    `previous` is the previous attempt's span, `application` the trace context that the application's call left; the
    span links to both. `description` is the error's message, where it may be told.
    """

    name: str
    ids: SpanIds
    started_ns: int
    ended_ns: int
    attributes: Mapping[str, Value]
    is_error: bool = False
    description: str | None = None
    previous: SpanIds | None = None
    application: AttemptOrigin | None = None


class SpanExport(Protocol):
    """Takes finished spans and exports them in the background."""

    def emit(self, span: AttemptSpan) -> None:
        """Queue a span; never waits."""

    def close(self) -> None:
        """Export what is queued. May wait for the collector."""


class Traces:
    """The closed attempts of this control process whose spans are still to be exported, at most `MOST_WAITING`."""

    def __init__(self, export: SpanExport, *, log_errors: bool) -> None:
        """Export through `export`; without `log_errors` no span has an error's message."""
        self.export = export
        self._log_errors = log_errors
        self._closed: dict[Key, Attempt] = {}

    def add(self, attempt: Attempt) -> None:
        """Take over an attempt that was closed here; where too many wait, the oldest is exported without links."""
        self._closed[attempt.thread_id, attempt.attempt] = attempt
        if len(self._closed) > MOST_WAITING:
            self.emit(list(self._closed.values())[:1], {})

    def waiting(self) -> list[Attempt]:
        """Return the attempts that have waited longest."""
        return list(self._closed.values())[:AT_ONCE]

    def emit(self, attempts: Sequence[Attempt], origins: Mapping[Key, AttemptOrigin]) -> None:
        """Hand over the spans of waiting attempts, with links to what is known of their origins. In any thread."""
        for attempt in attempts:
            key = attempt.thread_id, attempt.attempt
            if self._closed.pop(key, None) is not None:
                self.export.emit(build_span(attempt, origins.get(key), log_errors=self._log_errors))


def span_ids(thread_id: str, attempt: int, started_at: datetime) -> SpanIds:
    """Return the ids of an attempt's span, the same for any process that closes it.

    The start is a part of the identity: retention lets numbers begin again, and databases share a collector.
    """
    identity = f"{started_at.astimezone(UTC).isoformat(timespec='microseconds')}\n{attempt}\n{thread_id}"
    digest = sha256(identity.encode("utf-8", "backslashreplace")).digest()
    return SpanIds(
        int.from_bytes(digest[:_TRACE_BYTES]) or 1,
        int.from_bytes(digest[_TRACE_BYTES : _TRACE_BYTES + _SPAN_BYTES]) or 1,
    )


def build_span(attempt: Attempt, origin: AttemptOrigin | None, *, log_errors: bool) -> AttemptSpan:
    """Return the span of a closed attempt."""
    is_error = meaning_of(attempt.outcome).error
    previous_at = origin.previous_at if origin is not None else None
    return AttemptSpan(
        name=span_name(attempt),
        ids=span_ids(attempt.thread_id, attempt.attempt, attempt.started_at),
        started_ns=_nanoseconds(attempt.started_at),
        ended_ns=_nanoseconds(max(attempt.finished_at or attempt.started_at, attempt.started_at)),
        attributes=_attributes(attempt, is_error=is_error),
        is_error=is_error,
        description=attempt.error if log_errors and is_error else None,
        previous=span_ids(attempt.thread_id, attempt.attempt - 1, previous_at) if previous_at is not None else None,
        application=origin,
    )


def span_name(attempt: Attempt) -> str:
    """Return the name of an attempt's span: the operation and what it is done to."""
    return f"resume {attempt.workflow}"


def _attributes(attempt: Attempt, *, is_error: bool) -> dict[str, Value]:
    """Return what a span says about an attempt: names, ids and counts, no state and no message."""
    outcome = str(attempt.outcome) if attempt.outcome is not None else None
    found: dict[str, Value | None] = {
        "messaging.system": "resumed",
        "messaging.operation.name": "resume",
        "messaging.operation.type": "process",
        "messaging.destination.name": attempt.workflow,
        "messaging.message.conversation_id": attempt.thread_id,
        "messaging.client.id": attempt.worker,
        "gen_ai.conversation.id": attempt.thread_id,
        "session.id": attempt.thread_id,
        "resumed.workflow": attempt.workflow,
        "resumed.version": attempt.version or None,
        "resumed.attempt": attempt.attempt,
        "resumed.outcome": outcome,
        "resumed.advanced": attempt.advanced,
        "resumed.worker": attempt.worker,
        "resumed.closed_by": attempt.closed_by,
        "resumed.before": attempt.before or None,
        "resumed.after": attempt.after,
        "resumed.error_at": attempt.error_at,
        "error.type": attempt.error_type or (outcome if is_error else None),
    }
    return {name: value for name, value in found.items() if value is not None}


def _nanoseconds(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000
