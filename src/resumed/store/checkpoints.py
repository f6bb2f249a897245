"""Reads LangGraph's tables: heads, control rows, the window over checkpoint ids. Reads no values, writes nothing."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import DictRow

from resumed.judge.registered_runs import with_registered_run
from resumed.judge.verdict import CONTROL_CHANNELS, ThreadSnapshot
from resumed.rows import ControlRow, Head
from resumed.store import runs
from resumed.store.connection import Cursor, Session
from resumed.store.slices import in_slices
from resumed.store.sql_files import load_sql

_SQL = load_sql("checkpoints")
_CANCELLED = b"\xb0CancelledError()"  # msgpack of repr(CancelledError()), what a stopped server leaves
_QUIET_CHANNELS = ("__no_writes__", "__scheduled__")


@dataclass(frozen=True, slots=True)
class JudgedRange:
    """Checkpoint ids between `after` and `upper` of which all that transactions below `horizon` wrote was judged."""

    after: str
    upper: str
    horizon: int


@dataclass(frozen=True, slots=True)
class WindowPage:
    """One page of the window: its threads, how many rows it had, the last id of it (None: it was empty)."""

    threads: tuple[str, ...]
    rows: int
    last_id: str | None
    is_last: bool


async def window_page(session: Session, after: str, upper: str, rows: int, *, only_ends: bool = False) -> WindowPage:
    """Read the next `rows` checkpoints with `after` < id < `upper`, in the order of their ids.

    `only_ends` leaves out the threads with a newer checkpoint in the window, so that each comes in one page only.
    """
    query = _SQL["window_ends" if only_ends else "window_page"]
    cursor = await session.execute(query, {"after": after, "upper": upper, "rows": rows})
    return _page(await cursor.fetchall(), "ends" if only_ends else None, rows)


def _page(found: Sequence[DictRow], wanted: str | None, rows: int) -> WindowPage:
    """Put a page together from its threads; `wanted` is the column that says which of them are meant, None: all."""
    threads = sorted(row["thread_id"] for row in found if wanted is None or row[wanted])
    count, last_id = sum(row["rows"] for row in found), max((row["last_id"] for row in found), default=None)
    return WindowPage(tuple(threads), count, last_id, is_last=last_id is None or count < rows)


async def window_news(
    session: Session, window: tuple[str, str], rows: int, judged: Sequence[JudgedRange]
) -> WindowPage:
    """Read a page as `window_page` does, without the threads of which nothing is new since these at most two ranges."""
    parameters: dict[str, object] = {"after": window[0], "upper": window[1], "rows": rows}
    for number in (1, 2):
        found = judged[number - 1] if number <= len(judged) else None
        parameters |= {
            f"after_{number}": found and found.after,
            f"upper_{number}": found and found.upper,
            f"horizon_{number}": found and found.horizon,
        }
    return _page(await (await session.execute(_SQL["window_news"], parameters)).fetchall(), "news", rows)


async def window_pages(
    session: Session, window: tuple[str, str], rows: int, *, only_ends: bool = False
) -> AsyncIterator[WindowPage]:
    """Read the window (ids between these two) to its end, page by page, see `window_page`."""
    after, upper = window
    while True:
        page = await window_page(session, after, upper, rows, only_ends=only_ends)
        yield page
        if page.is_last or page.last_id is None:
            return
        after = page.last_id


async def cases_outside(
    session: Session, window: tuple[str, str], beyond: tuple[datetime, str] | None, rows: int
) -> list[tuple[datetime, str]]:
    """Read the next open cases of threads without a checkpoint in the window: quiet since when, and the thread.

    `beyond` is the last one that was read, None at the beginning.
    """
    quiet_since, thread = beyond if beyond is not None else (None, None)
    parameters = {"after": window[0], "upper": window[1], "quiet_since": quiet_since, "thread": thread, "rows": rows}
    cursor = await session.execute(_SQL["cases_outside"], parameters)
    return [(row["last_activity_at"], row["thread_id"]) async for row in cursor]


async def threads_without_time(session: Session, span: tuple[str, str], rows: int | None = None) -> list[str]:
    """Find at most `rows` threads whose ids have no time (below or above `span`) and whose head is not on record."""
    parameters = {"lowest": span[0], "highest": span[1], "rows": rows}
    cursor = await session.execute(_SQL["timeless"], parameters)
    return [row["thread_id"] async for row in cursor]


async def snapshots(session: Session, threads: Sequence[str]) -> dict[str, ThreadSnapshot]:
    """Read the heads of these threads with the control rows of each, and the registered runs that have not ended.

    Threads with neither head nor input are left out.
    """
    found = await threads_without_run(session, threads)
    for thread, run in (await runs.unended_runs(session, threads)).items():
        if (stands := with_registered_run(found.get(thread), run)) is not None:
            found[thread] = stands
    return found


async def threads_without_run(session: Session, threads: Sequence[str]) -> dict[str, ThreadSnapshot]:
    """Read the heads of these threads with the control rows of each, whatever is registered of them."""
    return await fetch_heads(await select_heads(session, threads))


async def select_heads(session: Session, threads: Sequence[str]) -> Cursor:
    """Ask for the heads of these threads and the control rows of each; in a pipeline the answer comes later."""
    channels = [*CONTROL_CHANNELS, *_QUIET_CHANNELS]
    return await session.execute(
        _SQL["heads"], {"threads": list(threads), "channels": channels, "cancelled": _CANCELLED}
    )


async def fetch_heads(cursor: Cursor) -> dict[str, ThreadSnapshot]:
    """Return what `select_heads` has asked for, by thread."""
    found = [_snapshot(row) async for row in in_slices(await cursor.fetchall())]
    return {snapshot.head.thread_id: snapshot for snapshot in found if not snapshot.head.stub}


@dataclass(frozen=True, slots=True)
class Format:
    """The version of a checkpoint's format, as LangGraph wrote it, and whether a low-level `Pregel` made it."""

    thread_id: str
    version: str
    low_level: bool


async def formats(session: Session, heads: Mapping[str, str]) -> dict[str, Format]:
    """Read the format of each thread's head."""
    parameters = {"threads": list(heads), "heads": list(heads.values())}
    cursor = await session.execute(_SQL["formats"], parameters)
    return {row["thread_id"]: Format(**row) async for row in cursor}


async def root_head(session: Session, thread_id: str) -> str | None:
    """Read the id of the thread's newest root checkpoint."""
    row = await (await session.execute(_SQL["root_head"], {"thread": thread_id})).fetchone()
    return str(row["checkpoint_id"]) if row else None


@dataclass(frozen=True, slots=True)
class Child:
    """The newest checkpoint of a child namespace; `parents` maps the namespaces above it to where they stood then."""

    checkpoint_id: str
    parents: Mapping[str, str]


async def children(session: Session, thread_id: str, head: str) -> dict[str, Child]:
    """Map each child namespace that saved anything since the head to its newest checkpoint."""
    cursor = await session.execute(_SQL["children"], {"thread": thread_id, "head": head})
    return {row["checkpoint_ns"]: Child(row["checkpoint_id"], row["parents"]) async for row in cursor}


async def stateful(session: Session, thread_id: str) -> dict[str, str]:
    """Map the namespace of each subgraph that keeps its own state between runs to its newest checkpoint id."""
    cursor = await session.execute(_SQL["stateful"], {"thread": thread_id})
    return {row["checkpoint_ns"]: row["checkpoint_id"] async for row in cursor}


async def history(session: Session, thread_id: str, rows: int) -> list[dict[str, Any]]:
    """Read the newest `rows` checkpoints of a thread: namespace, id, parent, source and step; no values."""
    cursor = await session.execute(_SQL["history"], {"thread": thread_id, "rows": rows})
    return await cursor.fetchall()


async def metadata(session: Session, thread_id: str, checkpoint_id: str) -> dict[str, Any]:
    """Read what a root checkpoint's call left in metadata; nothing where the checkpoint is gone."""
    parameters = {"thread": thread_id, "checkpoint": checkpoint_id}
    row = await (await session.execute(_SQL["metadata"], parameters)).fetchone()
    return row["metadata"] if row is not None and isinstance(row["metadata"], dict) else {}


def _snapshot(row: DictRow) -> ThreadSnapshot:
    rows = row.pop("control_rows")
    updated = row["updated_channels"]
    head = Head(
        **{
            **row,
            "updated_channels": None if updated is None else tuple(updated),
            "null_channels": tuple(row["null_channels"]),
            "edited_inside": tuple(row["edited_inside"]),
        }
    )
    return ThreadSnapshot(head, tuple(_control_row(head.thread_id, *columns) for columns in rows))


def _control_row(thread_id: str, *columns: Any) -> ControlRow:
    """Build a control row from its columns as the query selects them, all of them texts or None."""
    namespace, checkpoint_id, task_id, channel, order, writer, cancelled, has_output, output_order, task_path = columns
    return ControlRow(
        thread_id=thread_id,
        checkpoint_ns=namespace,
        checkpoint_id=checkpoint_id,
        task_id=task_id,
        channel=channel,
        order=int(order),
        writer=writer,
        cancelled=cancelled == "true",
        has_output=has_output == "true",
        output_order=int(output_order) if output_order is not None else None,
        task_path=task_path,
    )
