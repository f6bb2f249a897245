"""Reads the questions and answers of one thread, still serialised: only its own workflow knows how to load them."""

from dataclasses import dataclass

from resumed.judge.verdict import CONTROL_CHANNELS
from resumed.store.connection import Session
from resumed.store.sql_files import load_sql

_SQL = load_sql("interrupts")
_SCHEDULED = "__scheduled__"


@dataclass(frozen=True, slots=True)
class StoredWrite:
    """A question or an answer as it is stored; `order` grows with the transaction that wrote it.

    `left_behind`: its subgraph has saved a later superstep, or a person's edit; `task_path` is LangGraph's.
    """

    checkpoint_ns: str
    checkpoint_id: str
    task_id: str
    channel: str
    type: str
    blob: bytes
    order: int
    output_order: int | None
    failed: bool
    left_behind: bool
    task_path: str


async def interrupt_rows(session: Session, thread_id: str, head: str) -> list[StoredWrite]:
    """Read what was asked and answered on the head and, since the head, in its subgraphs."""
    parameters = {"thread": thread_id, "head": head, "control": [*CONTROL_CHANNELS, _SCHEDULED]}
    return [StoredWrite(**row) async for row in await session.execute(_SQL["rows"], parameters)]
