"""The index on partitioned checkpoints: each partition concurrently, attached by level, resumed after any step."""

from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.postgres import PostgresSaver

from postgres.test_databases import execute, looked_through
from postgres.test_faults import died_in, graph_of
from resumed.model import Outcome
from resumed.store import schema
from resumed.store.connection import Target, open_session
from resumed.store.sql_files import load_sql
from support.attempting import workflow_of

FLAT = [
    (
        "create table checkpoints (like old including defaults, primary key (thread_id, checkpoint_ns, checkpoint_id))"
        " partition by hash (thread_id)"
    ),
    *(f"create table part{n} partition of checkpoints for values with (modulus 3, remainder {n})" for n in range(3)),
]
DEEP = [
    FLAT[0],
    "create schema elsewhere",
    (
        'create table elsewhere."Odd Part" partition of checkpoints for values with (modulus 2, remainder 0)'
        " partition by hash (checkpoint_id)"
    ),
    *(
        f'create table part{n} partition of elsewhere."Odd Part" for values with (modulus 2, remainder {n})'
        for n in range(2)
    ),
    "create table part2 partition of checkpoints for values with (modulus 2, remainder 1)",
]
SHAPES = pytest.mark.parametrize("shape", [FLAT, DEEP], ids=["flat", "deep"])
INDEXES = (
    "select t.relname as table, i.indisvalid as valid, "
    " exists (select from pg_inherits h where h.inhrelid = i.indexrelid) as attached"
    " from pg_index i join pg_class t on t.oid = i.indrelid join pg_class c on c.oid = i.indexrelid"
    " where c.relname like '%checkpoint_id_idx%' order by 1"
)


def partitioned(dsn: str, shape: list[str]) -> None:
    with PostgresSaver.from_conn_string(dsn) as saver:
        saver.setup()
    moved = ["alter table checkpoints rename to old", "alter index checkpoints_pkey rename to old_pkey"]
    execute(dsn, *moved, *shape, "insert into checkpoints select * from old", "drop table old")


def indexes(dsn: str) -> dict[str, tuple[bool, bool]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return {row[0]: (row[1], row[2]) for row in connection.execute(INDEXES.encode())}


def whole(dsn: str) -> bool:
    found = indexes(dsn)
    return {name for name in found if name.startswith("part")} >= {"part0", "part1", "part2"} and all(
        valid and (attached or table == "checkpoints") for table, (valid, attached) in found.items()
    )


async def has_index(dsn: str) -> bool:
    async with open_session(Target(dsn)) as session:
        return await schema.has_index(session)


async def steps(dsn: str) -> list[str]:
    """Take every step as `migrate` would, and give them."""
    taken = []
    async with open_session(Target(dsn)) as session:
        while step := await (await session.execute(load_sql("schema")["next_step"])).fetchone():
            taken.append(step["statement"])
            await session.execute(step["statement"].encode())
    return taken


@SHAPES
async def test_each_partition_gets_its_index_and_a_thread_is_finished(bare_database: str, shape: list[str]) -> None:
    partitioned(bare_database, shape)
    assert not await has_index(bare_database)
    told: list[str] = []
    await schema.migrate(Target(bare_database), tell=told.append)
    assert told[-1].endswith("built")
    assert await has_index(bare_database)
    assert whole(bare_database)
    graph = graph_of("x")
    async with died_in(bare_database, graph) as place:
        await looked_through(bare_database)
        assert await place.attempt(workflow_of("w", graph), "t") == "tried"
        assert (await place.attempts("t"))[-1].outcome is Outcome.FINISHED
    told.clear()
    await schema.migrate(Target(bare_database), tell=told.append)
    assert told[-1].endswith("already there")


@SHAPES
@pytest.mark.parametrize("done", range(12))
async def test_a_build_that_stopped_after_any_step_is_gone_on_with(
    bare_database: str, shape: list[str], done: int
) -> None:
    partitioned(bare_database, shape)
    async with open_session(Target(bare_database)) as session:
        for _ in range(done):
            step = await (await session.execute(load_sql("schema")["next_step"])).fetchone()
            if step is None:
                break
            await session.execute(step["statement"].encode())
    await schema.migrate(Target(bare_database))
    assert await has_index(bare_database)
    assert whole(bare_database)


async def test_what_was_left_half_built_is_dropped_or_built_again(bare_database: str) -> None:
    partitioned(bare_database, FLAT)
    async with open_session(Target(bare_database)) as session:
        for _ in range(2):
            step: Any = await (await session.execute(load_sql("schema")["next_step"])).fetchone()
            await session.execute(step["statement"].encode())
    spoil = "update pg_index set indisvalid = false where indexrelid in (select oid from pg_class where relname {})"
    execute(bare_database, spoil.format("like 'resumed_checkpoint_id_idx_%'"))
    taken = await steps(bare_database)
    assert taken[0].startswith("drop index concurrently")
    assert whole(bare_database)
    execute(
        bare_database,
        spoil.format("= (select min(relname) from pg_class where relname like 'resumed_checkpoint_id_idx_%')"),
    )
    assert not await has_index(bare_database)
    taken = await steps(bare_database)
    assert [one.split(" on ")[0].rsplit(" ", 1)[0] for one in taken] == ["reindex index concurrently"]
    assert await has_index(bare_database)


async def test_a_partition_that_comes_later_has_its_index_from_the_start(bare_database: str) -> None:
    partitioned(bare_database, [FLAT[0], *DEEP[5:]])
    await schema.migrate(Target(bare_database))
    execute(bare_database, "create table later partition of checkpoints for values with (modulus 2, remainder 0)")
    assert await has_index(bare_database)
    assert indexes(bare_database)["later"] == (True, True)


async def test_somebody_elses_index_on_all_of_it_is_used_and_none_added(bare_database: str) -> None:
    partitioned(bare_database, FLAT)
    execute(bare_database, "create index theirs on checkpoints (checkpoint_id, thread_id)")
    before = indexes(bare_database)
    told: list[str] = []
    await schema.migrate(Target(bare_database), tell=told.append)
    assert told[-1].endswith("already there")
    assert indexes(bare_database) == before


async def test_one_partition_without_an_index_counts_as_none(bare_database: str) -> None:
    partitioned(bare_database, FLAT)
    execute(bare_database, "create index on part0 (checkpoint_id)", "create index on part1 (checkpoint_id)")
    assert not await has_index(bare_database)
    await schema.migrate(Target(bare_database))
    assert await has_index(bare_database)
