"""Owns the form in which control process and worker talk: one JSON object a line; nothing in it is executed."""

import json
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from resumed.model import Attempt, Judgement, Outcome, PolicyLimits, PruneStrategy, Registration

Message = dict[str, Any]
_INSTANTS = ("started_at", "finished_at")


def encode(message: Message) -> bytes:
    """Write a message as one line."""
    return json.dumps(message, default=_plain).encode() + b"\n"


def decode(line: bytes) -> Message:
    """Read a message; raises ValueError for a line that is none."""
    message = json.loads(line)
    if not isinstance(message, dict) or "kind" not in message:
        complaint = "not a message"
        raise ValueError(complaint)
    return message


def attempt_from_wire(message: Message) -> Attempt:
    """Read an attempt out of a message's `attempt`."""
    fields = dict(message["attempt"])
    instants = {name: datetime.fromisoformat(fields[name]) if fields[name] else None for name in _INSTANTS}
    outcome = Outcome(fields["outcome"]) if fields["outcome"] else None
    return Attempt(**{**fields, **instants, "outcome": outcome})


def numbers_to_wire(numbers: PolicyLimits) -> Message:
    """Write a policy's numbers; durations travel as seconds."""
    return {
        name: value.total_seconds() if isinstance(value, timedelta) else value
        for name, value in asdict(numbers).items()
    }


def numbers_from_wire(fields: Message) -> PolicyLimits:
    """Read a policy's numbers."""
    kinds = PolicyLimits.__annotations__
    read: Message = {
        name: timedelta(seconds=value) if kinds[name] is timedelta else value for name, value in fields.items()
    }
    return PolicyLimits(**read)


def registration_from_wire(fields: Message, seen_at: datetime) -> Registration:
    """Read what a hello says of one workflow; the instant is the reader's."""
    return Registration(
        name=fields["name"],
        version=fields["version"],
        accepts=tuple(fields["accepts"]),
        triggers=tuple(fields["triggers"]),
        numbers=numbers_from_wire(fields["numbers"]),
        seen_at=seen_at,
        isolate=fields["isolate"],
        retention=PruneStrategy(fields["retention"]) if fields["retention"] is not None else None,
        retain=timedelta(seconds=fields["retain"]) if fields["retain"] is not None else None,
    )


def started(attempt: Attempt) -> Message:
    """Say that an attempt began."""
    return {"kind": "started", "attempt": asdict(attempt)}


def finished(attempt: Attempt, last_sign_at: datetime | None) -> Message:
    """Say that an attempt was closed; `last_sign_at` is the thread's last sign of life before it stopped."""
    return {"kind": "finished", "attempt": asdict(attempt), "last_sign_at": last_sign_at}


def refused(thread_id: str, workflow: str, judgement: Judgement) -> Message:
    """Say that a preflight would not resume a thread."""
    fields = {"verdict": judgement.verdict.value, "reason": judgement.reason}
    return {"kind": "refused", "thread_id": thread_id, "workflow": workflow, **fields}


def quarantined(thread_id: str, workflow: str, reason: str) -> Message:
    """Say that an attempt was a thread's last before somebody releases it."""
    return {"kind": "quarantined", "thread_id": thread_id, "workflow": workflow, "reason": reason}


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case _:
            raise TypeError(type(value).__name__)
