"""Reads what a survey needs: threads page by page or a sample of them, their errors' classes, sizes of the tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resumed.store.connection import Session
from resumed.store.sql_files import load_sql

_SQL = load_sql("survey")
_ROW_BYTES = 800  # heap of a checkpoint, for tables that were never analysed
_CHECKPOINTS_PER_THREAD = 8


@dataclass(frozen=True, slots=True)
class Relation:
    """One of LangGraph's tables: its rows as the planner knows them (None: never analysed), its bytes with indexes."""

    name: str
    rows: int | None
    bytes: int
    heap_bytes: int

    @property
    def estimated_rows(self) -> int:
        """Return how many rows it may have."""
        return self.rows if self.rows is not None else self.heap_bytes // _ROW_BYTES


@dataclass(frozen=True, slots=True)
class Span:
    """The oldest and the newest checkpoint of a thread, over all namespaces."""

    oldest: str
    newest: str


async def relations(session: Session) -> list[Relation]:
    """Read rows and sizes of LangGraph's tables; partitions count to their table."""
    return [Relation(**row) async for row in await session.execute(_SQL["relations"])]


async def estimated_threads(session: Session, checkpoints: Relation) -> int:
    """Estimate how many threads there are, from the planner's statistics where there are any."""
    row = await (await session.execute(_SQL["distinct_threads"])).fetchone()
    rows = checkpoints.estimated_rows
    if row is not None and row["share"]:
        return round(rows * float(row["share"]))
    if row is not None and row["number"]:
        return round(float(row["number"]))
    return rows // _CHECKPOINTS_PER_THREAD


async def page(session: Session, after: str | None, threads: int) -> dict[str, Span]:
    """Read the next threads after this id, in the order of their ids; from the beginning where it is None."""
    query = _SQL["first_page"] if after is None else _SQL["page"]
    cursor = await session.execute(query, {"after": after, "threads": threads})
    return {row["thread_id"]: Span(row["oldest"], row["newest"]) async for row in cursor}


async def sample(session: Session, percent: float, threads: int) -> list[str]:
    """Choose about this share of all threads, at most so many, each as likely as any other."""
    cursor = await session.execute(_SQL["sample"], {"percent": percent, "threads": threads})
    return [row["thread_id"] async for row in cursor]


async def ages(session: Session, threads: Sequence[str]) -> dict[str, Span]:
    """Read the oldest and newest checkpoint of these threads."""
    cursor = await session.execute(_SQL["ages"], {"threads": list(threads)})
    return {row["thread_id"]: Span(row["oldest"], row["newest"]) async for row in cursor}


async def raised(session: Session, heads: Mapping[str, str]) -> list[tuple[str, bytes]]:
    """Read the thread of each task of these heads that raised, and the beginning of its serialised error."""
    parameters = {"threads": list(heads), "heads": list(heads.values())}
    cursor = await session.execute(_SQL["errors"], parameters)
    return [(row["thread_id"], bytes(row["said"])) async for row in cursor]
