"""Sends notices to the webhook: gathers what triggers have written, sends one message at a time, each until it arrives.

Replicas share one row of the database. Who locks it for a moment makes the message, says when the next request may be
made at the earliest, and only then sends: no two send at once, and a message whose sender died is sent again under the
same id. A failing receiver delays nothing else.
"""

import random
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import version

from resumed import timings
from resumed.config import webhook as address
from resumed.config.settings import Settings
from resumed.daemon.control_session import ControlSession
from resumed.daemon.webhook_request import WebhookClient
from resumed.errors import DatabaseError
from resumed.judge.circuit_breaker import is_open
from resumed.judge.webhook import (
    CIRCUIT_OPENED,
    Gathered,
    NoticeGroup,
    known_open,
    pause_after_failure,
    sign_message,
)
from resumed.observability.events import Events
from resumed.store import attempts, webhook
from resumed.store.connection import PostgresError, Session, Target
from resumed.store.webhook import Look, Message, Outbox

GATHERED_ROWS = 10_000


@dataclass(slots=True)
class WebhookTask:
    """Sends the notices of the whole database to one receiver; `dry_run`: of circuits nothing is told."""

    client: WebhookClient
    keys: tuple[bytes, ...] = field(repr=False)
    session: ControlSession
    events: Events
    dry_run: bool = False
    _gone: bool = False
    _last_failure: str | None = None

    async def ask_for_notices(self) -> None:
        """Have notices written from now on."""
        await self._surviving(self._renew)

    async def run_once(self) -> None:
        """Send what may be sent now. Whatever fails is reported and tried again; nothing here blocks readiness."""
        if not self._gone:
            await self._surviving(self._run_round)

    async def close(self) -> None:
        """Close the session."""
        await self.session.close()

    async def _surviving(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except (DatabaseError, PostgresError, OSError, TimeoutError) as error:
            self._report(f"the database failed: {type(error).__name__}", counts=False)
        except Exception as error:  # noqa: BLE001 - an error of ours must not end the rounds, nor hide
            self.events.round_failed("webhook", error)

    async def _renew(self) -> None:
        async with self.session.session() as session:
            await webhook.renew(session)

    async def _run_round(self) -> None:
        await self._renew()
        async with self.session.session() as session:
            prepared = await self._prepare(session)
        if prepared is not None:
            await self._send(*prepared)

    async def _prepare(self, session: Session) -> tuple[Message, int] | None:
        """Gather notices; return the message that is to be sent now, and how often it has failed in a row."""
        look = await webhook.look(session)
        told = look.open_circuits if self.dry_run else await _circuits_after(session, look)
        if not look.has_work and told == look.open_circuits:
            return None
        async with session.transaction():
            outbox = await webhook.take(session)
            if outbox is None:
                return None
            if outbox.open_circuits != look.open_circuits:  # another replica has looked since
                told = outbox.open_circuits
            return await _gather(session, outbox, told)

    async def _send(self, message: Message, failures: int) -> None:
        limit, interval = timings.current().webhook_timeout, timings.current().webhook_interval
        answer = await self.client.post(self._headers(message), message.body, limit)
        failure = answer.failure
        if failure is None:
            await self._record(lambda session: webhook.note_delivered(session, message, interval))
            self._note_success(failures)
            return
        self._gone = answer.gone
        self._report(failure, counts=True)
        draw = random.random()  # noqa: S311 - jitter, no secret
        pause = pause_after_failure(failures + 1, draw, interval, answer.retry_after)
        await self._record(lambda session: webhook.note_failed(session, message, failure, pause))

    async def _record(self, write: Callable[[Session], Awaitable[None]]) -> None:
        """Write what became of a request; again where the session was lost during it, or it would be made again."""
        try:
            async with self.session.session() as session:
                await write(session)
        except (PostgresError, OSError):
            async with self.session.session() as session:
                await write(session)

    def _headers(self, message: Message) -> dict[str, str]:
        timestamp = int(time.time())
        return {
            "Content-Type": "application/json",
            "User-Agent": f"resumed/{version('resumed')}",
            "Connection": "close",
            "webhook-id": message.message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign_message(self.keys, message.message_id, timestamp, message.body),
        }

    def _note_success(self, failures: int) -> None:
        if failures or self._last_failure is not None:
            self.events.webhook_recovered(failures)
        self._last_failure = None

    def _report(self, failure: str, *, counts: bool) -> None:
        """Count a failure, and log it where the one before was of another kind."""
        self.events.webhook_failed(failure, counts=counts, first=failure != self._last_failure)
        self._last_failure = failure


async def _circuits_after(session: Session, look: Look) -> frozenset[str]:
    """Return the workflows whose circuit is to count as told as open, by the last attempts of all replicas."""
    records = await attempts.circuit_records(session, look.live)
    open_now = [name for name, record in records.items() if is_open(record.ended)]
    return known_open(look.open_circuits, look.live, open_now)


async def _gather(session: Session, outbox: Outbox, told: frozenset[str]) -> tuple[Message, int] | None:
    """Gather notices under the row's lock, make a message of them where none is being sent, and claim the next try."""
    found = await webhook.gather(session, GATHERED_ROWS)
    opened = sorted(told - outbox.open_circuits)
    found += [NoticeGroup(CIRCUIT_OPENED, name, 1, outbox.now, outbox.now) for name in opened]
    gathered, message = outbox.gathered.with_groups(found), outbox.message
    if outbox.is_due and message is None and gathered.notices:
        message = Message(f"msg_{uuid.uuid4().hex}", gathered.to_message(), gathered.notices)
        gathered = Gathered()
    is_sent = outbox.is_due and message is not None
    lease = timings.current().webhook_interval + timings.current().webhook_timeout if is_sent else None
    kept = replace(outbox, gathered=gathered, message=message, open_circuits=told)
    await webhook.keep(session, kept, lease)
    return (message, outbox.failures) if message is not None and is_sent else None


def webhook_task(settings: Settings, target: Target, events: Events) -> WebhookTask | None:
    """Return what sends notices by the settings; None where there is no webhook."""
    if settings.webhook_url is None or settings.webhook_secret is None:
        return None
    session = ControlSession(target, settings.reconnect_grace, "resumed webhook")
    client = WebhookClient(settings.webhook_url.get_secret_value())
    keys = address.signing_keys(settings.webhook_secret.get_secret_value())
    return WebhookTask(client, keys, session, events, dry_run=settings.dry_run)
