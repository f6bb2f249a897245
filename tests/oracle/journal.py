"""Owns the database of one test process: the tables of each checkpointer under test, their journal, and the copies."""

import asyncio
import itertools
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from langgraph.checkpoint.postgres import PostgresSaver
from psycopg import conninfo, sql

from resumed.store import schema
from resumed.store.connection import Target

SETUP = (Path(__file__).parent / "journal.sql").read_text()
COPIES, PLAIN = "copies", "plain"
_NUMBERS = itertools.count(1)
_KEPT = ("schema_version", "watermarks")


@dataclass
class Journal:
    """The database; each checkpointer under test has a schema of its own, `source`, whose rows are journalled."""

    dsn: str
    session: "psycopg.Connection[Any]"
    ours: list[str] = field(default_factory=list)

    def new_source(self) -> str:
        name = f"live_{next(_NUMBERS)}"
        self.session.execute("select journal.make_tables(%s, true)", [name])
        return name

    def drop(self, source: str) -> None:
        self.session.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(source)))
        self.session.execute("delete from journal.rows where source = %s", [source])

    def target(self, name: str) -> Target:
        """Lead to the tables of a schema, for sessions that set the search path and for those that do not."""
        return Target(conninfo.make_conninfo(self.dsn, options=f"-csearch_path={name}"), name)

    def position(self, source: str, thread: str) -> int:
        """Name the last transaction that wrote anything of the thread."""
        query = "select coalesce(max(xid), 0) from journal.rows where source = %s and thread_id = %s"
        return int(self.session.execute(query, [source, thread]).fetchone()[0])  # type: ignore[index]

    def transactions(self, source: str, thread: str, after: int, upto: int) -> list[int]:
        query = (
            "select distinct xid from journal.rows where source = %s and thread_id = %s and xid > %s and xid <= %s "
            "order by xid"
        )
        return [row[0] for row in self.session.execute(query, [source, thread, after, upto])]

    def replay(self, source: str, thread: str, upto: int, target: str) -> None:
        """Make `target` hold the thread as it was after transaction `upto`, and forget what we recorded of it."""
        self.session.execute("call journal.replay(%s, %s, %s, %s)", [source, thread, upto, target])
        if target == COPIES:
            for name in self.ours:
                self.session.execute(sql.SQL("delete from resumed.{}").format(sql.Identifier(name)))

    def rows(self, target: str) -> "Rows":
        place = sql.Identifier(target)
        checkpoints = self.session.execute(
            sql.SQL(
                "select checkpoint_ns, checkpoint_id, metadata ->> 'source', metadata ->> 'step' from {}.checkpoints"
            ).format(place)
        ).fetchall()
        writes = self.session.execute(
            sql.SQL("select checkpoint_ns, checkpoint_id, task_id, channel from {}.checkpoint_writes").format(place)
        ).fetchall()
        return Rows(frozenset(checkpoints), frozenset(writes))


@dataclass(frozen=True)
class Rows:
    """The checkpoints and the writes of a copied thread, without values."""

    checkpoints: frozenset[Any]
    writes: frozenset[Any]

    @property
    def head(self) -> str | None:
        roots = [row for row in self.checkpoints if row[0] == "" and not (row[3] == "-2" and row[2] is None)]
        return max((row[1] for row in roots), default=None)

    @property
    def newest_source(self) -> str | None:
        """How the newest checkpoint over all namespaces came to be."""
        return max(self.checkpoints, key=lambda row: row[1])[2] if self.checkpoints else None

    @property
    def edited(self) -> bool:
        """Whether the newest checkpoint of any namespace that still counts was written by an edit or is a fork."""
        newest = {
            ns: max((row for row in self.checkpoints if row[0] == ns), key=lambda row: row[1])
            for ns in {row[0] for row in self.checkpoints}
        }
        head = self.head or ""
        return any(row[2] in ("update", "fork") for ns, row in newest.items() if not ns or row[1] > head)

    def new_since(self, before: "Rows") -> bool:
        """Whether anything has run: a checkpoint, or what a task made."""
        made = {row for row in self.writes - before.writes if not row[3].startswith(("__interrupt__", "__resume__"))}
        return bool(self.checkpoints - before.checkpoints or made)


@contextmanager
def journal_on(server: str) -> Iterator[Journal]:
    """Make a database on the server, with LangGraph's tables, ours and the journal; it goes at the end."""
    name = f"oracle_{os.getpid()}_{uuid.uuid4().hex[:8]}"
    dsn = conninfo.make_conninfo(server, dbname=name)
    with psycopg.connect(server, autocommit=True) as administration:
        administration.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
        with PostgresSaver.from_conn_string(dsn) as saver:
            saver.setup()
        asyncio.run(schema.migrate(Target(dsn)))
        with psycopg.connect(dsn, autocommit=True) as session:
            session.execute(SETUP)
            tables = session.execute(
                "select table_name from information_schema.tables "
                "where table_schema = 'resumed' and table_type = 'BASE TABLE'"
            )
            yield Journal(dsn, session, [row[0] for row in tables if row[0] not in _KEPT])
        administration.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))
