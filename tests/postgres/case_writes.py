"""Writes to cases as a worker makes them: over the case as it is read at this moment, at the database's time."""

from resumed.judge.case import AttemptOutcomeFields, CaseUpdate
from resumed.judge.retry_policy import Tally
from resumed.store import cases
from resumed.store.connection import Session
from resumed.store.watermark import database_clock


async def settle(session: Session, update: CaseUpdate, fields: AttemptOutcomeFields | None = None) -> None:
    known = (await cases.of_threads(session, [update.thread_id])).get(update.thread_id)
    await cases.settle_attempt(session, update, fields, known=known, now=await database_clock(session))


async def begin(session: Session, update: CaseUpdate) -> Tally | None:
    known = (await cases.of_threads(session, [update.thread_id])).get(update.thread_id)
    return await cases.begin_attempt(session, update, known=known, now=await database_clock(session))
