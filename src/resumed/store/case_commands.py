"""Owns what a person's word writes into a case beside its placement; the caller holds the case's row by `lock`.

A row lock, never the thread's: a person's word must not wait for an application that hangs.
"""

from collections.abc import Sequence

from resumed.store.connection import Session, one_row
from resumed.store.sql_files import load_sql

_SQL = load_sql("case_commands")


async def lock(session: Session, threads: Sequence[str]) -> list[str]:
    """Hold these threads' cases until the transaction ends; names those that have one."""
    return [row["thread_id"] async for row in await session.execute(_SQL["lock"], {"threads": list(threads)})]


async def cancel(session: Session, thread_id: str) -> None:
    """Make the head on record one that is never resumed."""
    await session.execute(_SQL["cancel"], {"thread": thread_id})


async def cancel_running(session: Session, thread_id: str) -> None:
    """Make the head where the open attempt will stop one that is never resumed."""
    await session.execute(_SQL["cancel_running"], {"thread": thread_id})


async def pin(session: Session, thread_id: str) -> None:
    """Keep a case in quarantine until a person takes it out."""
    await session.execute(_SQL["pin"], {"thread": thread_id})


async def release(session: Session, threads: Sequence[str]) -> None:
    """Give these cases back their tries."""
    await session.execute(_SQL["release"], {"threads": list(threads)})


async def in_quarantine(session: Session, workflow: str | None) -> int:
    """Count the cases in quarantine, of one workflow where one is named."""
    return int((await one_row(session, _SQL["in_quarantine"], {"workflow": workflow}))["threads"])


async def quarantine_page(session: Session, workflow: str | None, after: str, rows: int) -> list[str]:
    """Name the next threads in quarantine after this one, in the order of their names."""
    parameters = {"workflow": workflow, "after": after, "rows": rows}
    return [row["thread_id"] async for row in await session.execute(_SQL["quarantine_page"], parameters)]


async def find_stops(session: Session, threads: Sequence[str]) -> dict[str, bool]:
    """Find those of these threads that a person wants no attempt on; the value says whether it was cancelled."""
    cursor = await session.execute(_SQL["stops"], {"threads": list(threads)})
    return {row["thread_id"]: row["cancelled"] async for row in cursor}


async def resolve_cancel(session: Session, thread_id: str, head: str | None) -> None:
    """Make this head the cancelled one where a cancelling waited for the attempt that stopped there."""
    await session.execute(_SQL["resolve_cancel"], {"thread": thread_id, "head": head})
