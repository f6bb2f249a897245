"""Owns what a webhook's message says, how it is signed, and when the next request may be made. Pure.

Message and signature follow Standard Webhooks 1.0.0. A message has types, workflows, counts, times and thread ids, and
nothing else: no reasons, no errors, no state.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

CIRCUIT_OPENED = "circuit.opened"
MESSAGE_TYPE = "notices.collected"
EXAMPLES = 10
"""How many threads of a group a message names."""

MOST_GROUPS = 50
_LONGEST_TEXT = 200
_BYTES_OF_EXAMPLES = 12_000
_LONGEST_PAUSE = timedelta(hours=1)
_MOST_DOUBLINGS = 10
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True, slots=True)
class NoticeGroup:
    """The notices of one type and workflow (None: no workflow's), when the first and the last came, some threads."""

    type: str
    workflow: str | None
    notices: int
    first_at: datetime
    last_at: datetime
    threads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gathered:
    """What the next message is made of; `left_out` counts the notices for whose group there was no room."""

    groups: tuple[NoticeGroup, ...] = ()
    left_out: int = 0

    @property
    def notices(self) -> int:
        """Return how many notices that is."""
        return sum(group.notices for group in self.groups) + self.left_out

    def with_groups(self, found: Iterable[NoticeGroup]) -> "Gathered":
        """Return these with others; each type and workflow is one group, with its first threads as examples."""
        groups = {(group.type, group.workflow): group for group in self.groups}
        left_out = self.left_out
        for group in map(_shown_group, found):
            key = group.type, group.workflow
            if key in groups:
                groups[key] = _joined(groups[key], group)
            elif len(groups) < MOST_GROUPS:
                groups[key] = group
            else:
                left_out += group.notices
        return Gathered(tuple(groups.values()), left_out)

    def to_text(self) -> str:
        """Return these in ASCII, as they are kept until the message is made; empty for nothing."""
        if not self.notices:
            return ""
        groups = [
            [one.type, one.workflow, one.notices, one.first_at.isoformat(), one.last_at.isoformat(), one.threads]
            for one in self.groups
        ]
        return json.dumps({"groups": groups, "left_out": self.left_out})

    @classmethod
    def from_text(cls, text: str) -> "Gathered":
        """Read what `to_text` has written."""
        if not text:
            return cls()
        kept = json.loads(text)
        groups = [
            NoticeGroup(
                kind, workflow, count, datetime.fromisoformat(first), datetime.fromisoformat(last), tuple(threads)
            )
            for kind, workflow, count, first, last, threads in kept["groups"]
        ]
        return cls(tuple(groups), kept["left_out"])

    def to_message(self) -> str:
        """Return the body of the message, in ASCII."""
        room, notices = _BYTES_OF_EXAMPLES, []
        for group in sorted(self.groups, key=lambda one: (one.type, one.workflow or "")):
            threads = []
            for thread in group.threads:
                room -= len(json.dumps(thread))
                if room >= 0:
                    threads.append(thread)
            entry: dict[str, object] = {
                "type": group.type,
                "workflow": group.workflow,
                "count": group.notices,
                "first_at": _time_text(group.first_at),
                "last_at": _time_text(group.last_at),
            }
            if group.type.startswith("case."):
                entry |= {"threads": threads, "more": max(group.notices - len(threads), 0)}
            notices.append(entry)
        newest = max(group.last_at for group in self.groups)
        data = {"notices": notices, "left_out": self.left_out}
        message = {"type": MESSAGE_TYPE, "timestamp": _time_text(newest), "data": data}
        return json.dumps(message, separators=(",", ":"))


def sign_message(keys: Sequence[bytes], message_id: str, timestamp: int, body: str) -> str:
    """Return the header `webhook-signature`: one signature for each key, so that a secret can be rotated."""
    signed = f"{message_id}.{timestamp}.{body}".encode()
    digests = [hmac.new(key, signed, hashlib.sha256).digest() for key in keys]
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def pause_after_failure(
    failures: int, draw: float, interval: timedelta, retry_after: timedelta | None = None
) -> timedelta:
    """Return how long to wait after so many failures in a row, at least the interval, at most an hour or a little more.

    It doubles each time, of which `draw` (0 to 1) takes up to a half, and is longer where the receiver asks for that.
    """
    doubled = min(interval * (1 << min(failures - 1, _MOST_DOUBLINGS)), max(_LONGEST_PAUSE, interval))
    asked = min(retry_after or timedelta(0), _LONGEST_PAUSE)
    return max(doubled * (1 - draw / 2), asked, interval)


def known_open(told: Iterable[str], live: Iterable[str], open_now: Iterable[str]) -> frozenset[str]:
    """Return the workflows whose circuit is known to be open; what no notice has said about them is to be sent.

    Of a workflow that no replica has at the moment nothing is known: it stays as it was told.
    """
    return frozenset(open_now) | (frozenset(told) - frozenset(live))


def _joined(first: NoticeGroup, second: NoticeGroup) -> NoticeGroup:
    threads = tuple(dict.fromkeys((*first.threads, *second.threads)))[:EXAMPLES]
    return replace(
        first,
        notices=first.notices + second.notices,
        first_at=min(first.first_at, second.first_at),
        last_at=max(first.last_at, second.last_at),
        threads=threads,
    )


def _shown_group(group: NoticeGroup) -> NoticeGroup:
    workflow = _shown(group.workflow) if group.workflow is not None else None
    return replace(group, workflow=workflow, threads=tuple(map(_shown, group.threads[:EXAMPLES])))


def _shown(text: str) -> str:
    """Return a name or an id as any JSON parser takes it, cut where it is very long."""
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + _ELLIPSIS


def _time_text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
