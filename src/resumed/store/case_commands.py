"""Owns what an operator's command writes into a case beside its placement; the caller has locked the row by `lock`.

That is a row lock, never the thread's: a command must not wait for an application that hangs.
"""

from collections.abc import Sequence

from resumed.store.connection import Session, one_row
from resumed.store.sql_files import load_sql

_SQL = load_sql("case_commands")


async def lock(session: Session, threads: Sequence[str]) -> list[str]:
    """Lock these threads' cases until the transaction ends; return the threads that have one."""
    return [row["thread_id"] async for row in await session.execute(_SQL["lock"], {"threads": list(threads)})]


async def cancel(session: Session, thread_id: str) -> None:
    """Mark the head on record as cancelled: it is never resumed."""
    await session.execute(_SQL["cancel"], {"thread": thread_id})


async def cancel_running(session: Session, thread_id: str) -> None:
    """Mark the head at which the open attempt will stop as cancelled."""
    await session.execute(_SQL["cancel_running"], {"thread": thread_id})


async def pin(session: Session, thread_id: str) -> None:
    """Keep a case in quarantine until a person releases it."""
    await session.execute(_SQL["pin"], {"thread": thread_id})


async def release(session: Session, threads: Sequence[str]) -> None:
    """Give these cases all their attempts again."""
    await session.execute(_SQL["release"], {"threads": list(threads)})


async def backdate(session: Session, threads: Sequence[str]) -> None:
    """Count these cases as seen when their threads last saved, so that they never expire."""
    await session.execute(_SQL["backdate"], {"threads": list(threads)})


async def count_due(session: Session, workflow: str) -> int:
    """Count the cases of a workflow that are due now, at most a thousand."""
    return int((await one_row(session, _SQL["count_due"], {"workflow": workflow}))["threads"])


async def in_quarantine(session: Session, workflow: str | None) -> int:
    """Count the cases in quarantine; of one workflow unless `workflow` is None."""
    return int((await one_row(session, _SQL["in_quarantine"], {"workflow": workflow}))["threads"])


async def quarantine_page(session: Session, workflow: str | None, after: str, rows: int) -> list[str]:
    """Return the next threads in quarantine after this one, in the order of their ids."""
    parameters = {"workflow": workflow, "after": after, "rows": rows}
    return [row["thread_id"] async for row in await session.execute(_SQL["quarantine_page"], parameters)]


async def find_stops(session: Session, threads: Sequence[str]) -> dict[str, bool]:
    """Map those of these threads that a person has cancelled (True) or quarantined (False)."""
    cursor = await session.execute(_SQL["stops"], {"threads": list(threads)})
    return {row["thread_id"]: row["cancelled"] async for row in cursor}


async def resolve_cancel(session: Session, thread_id: str, head: str | None) -> None:
    """Mark this head as cancelled if the thread was cancelled while the attempt that stopped there was running."""
    await session.execute(_SQL["resolve_cancel"], {"thread": thread_id, "head": head})
