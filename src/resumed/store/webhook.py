"""Owns the one row of the webhook and the notices that triggers write. It sends nothing.

Who has the row locked gathers notices, makes the message and says that it is about to send it, in one transaction. The
message is then the same at every try, and no other replica sends before that try has ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from resumed.judge.webhook import EXAMPLES, Gathered, NoticeGroup
from resumed.store.connection import Session, one_row
from resumed.store.sql_files import load_sql

_SQL = load_sql("webhook")


@dataclass(frozen=True, slots=True)
class Message:
    """A message that is being sent: its id and body are the same at every try; how many notices it carries."""

    message_id: str
    body: str
    notices: int


@dataclass(frozen=True, slots=True)
class Outbox:
    """The row: what is gathered for the next message, the one that is being sent, how often that failed in a row.

    `open_circuits` are the workflows whose open circuit was told; `is_due`: a request may be made `now`.
    """

    gathered: Gathered
    message: Message | None
    failures: int
    open_circuits: frozenset[str]
    is_due: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class Look:
    """Whether there is anything to gather or to send, whose open circuit was told, which workflows a replica has."""

    has_work: bool
    open_circuits: frozenset[str]
    live: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """How delivery goes: failures in a row, since when, how the last one failed; notices not delivered yet."""

    failures: int
    failing_since: datetime | None
    failure: str | None
    waiting: int


async def renew(session: Session) -> None:
    """Have notices written for another day."""
    await session.execute(_SQL["renew"])


async def look(session: Session) -> Look:
    """Return whether there is anything to do; locks nothing."""
    row = await one_row(session, _SQL["has_work"])
    return Look(row["has_work"], frozenset(row["open_circuits"]), tuple(row["live"]))


async def take(session: Session) -> Outbox | None:
    """Lock the row until the transaction ends, and read it; None where another replica has it."""
    row = await (await session.execute(_SQL["take"])).fetchone()
    if row is None:
        return None
    message = Message(row["message_id"], row["body"], row["message_notices"]) if row["body"] is not None else None
    gathered = Gathered.from_text(row["gathered"])
    return Outbox(gathered, message, row["failures"], frozenset(row["open_circuits"]), row["is_due"], row["now"])


async def gather(session: Session, rows: int) -> list[NoticeGroup]:
    """Take at most `rows` notices out of the table and return them in groups; the caller has locked the row."""
    cursor = await session.execute(_SQL["gather"], {"rows": rows, "threads": EXAMPLES})
    return [NoticeGroup(**{**row, "threads": tuple(row["threads"])}) async for row in cursor]


async def keep(session: Session, outbox: Outbox, lease: timedelta | None) -> None:
    """Write the row; with a lease its message is about to be sent, and nobody sends before that has passed."""
    message = outbox.message
    parameters = {
        "gathered": outbox.gathered.to_text(),
        "gathered_notices": outbox.gathered.notices,
        "message_id": message.message_id if message is not None else None,
        "body": message.body if message is not None else None,
        "message_notices": message.notices if message is not None else 0,
        "open_circuits": sorted(outbox.open_circuits),
        "lease": lease,
    }
    await session.execute(_SQL["keep"], parameters)


async def note_delivered(session: Session, message: Message, pause: timedelta) -> None:
    """Forget a message that was delivered; the next request is made after the pause."""
    await session.execute(_SQL["delivered"], {"message_id": message.message_id, "pause": pause})


async def note_failed(session: Session, message: Message, failure: str, pause: timedelta) -> None:
    """Record that a message could not be delivered; it is sent again after the pause."""
    await session.execute(_SQL["failed"], {"message_id": message.message_id, "failure": failure, "pause": pause})


async def delivery_record(session: Session) -> DeliveryRecord:
    """Read how delivery goes."""
    return DeliveryRecord(**await one_row(session, _SQL["standing"]))


async def missing_rights(session: Session) -> Sequence[str]:
    """Name the tables and functions that this role may not use as sending needs it."""
    return [row["name"] async for row in await session.execute(_SQL["missing_rights"])]
