"""Every query is one that Postgres takes; those of a sweep read by index however many threads there have been."""

import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from importlib import resources
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from psycopg import sql

from resumed.judge.checkpoint_id import first_at, made_at, plausible_span
from resumed.judge.verdict import CONTROL_CHANNELS
from resumed.store import checkpoints
from resumed.store.connection import Session, Target, open_session
from resumed.store.sql_files import load_sql, sql_modules
from support.databases import in_database

THREADS = 50_000
CHECKPOINTS = 4
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
EVERY = timedelta(seconds=12)
PAGE_ROWS = 5000
LOOK_ROWS = 1000
WATCHED = {"checkpoints", "checkpoint_writes", "checkpoint_blobs", "cases", "attempts"}
UTILITY = {("schema", "build_index"), ("schema", "drop_index"), ("retention", "snapshot")}
SECTIONS = [(module, name) for module in sql_modules() for name in load_sql(module)]
NULL_TASK = "00000000-0000-0000-0000-000000000000"

FILL = f"""
create function pg_temp.uuid6(made timestamptz, n bigint) returns text language sql immutable as $$
    select substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-6' || substr(h, 13, 3) || '-8'
        || lpad(to_hex(n % 4096), 3, '0') || '-' || lpad(to_hex(n), 12, '0')
    from (select lpad(to_hex((extract(epoch from made) * 1000000)::bigint * 10 + 122192928000000000), 15, '0')) x (h)
$$;
insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata)
select 'orders-' || t, case when t % 10 = 0 and s = {CHECKPOINTS - 1} then 'child:1' else '' end,
    pg_temp.uuid6(at, n), case when s > 0 then pg_temp.uuid6(at - interval '1 second', n - 1) end, 'msgpack',
    jsonb_build_object('v', 4, 'id', n, 'updated_channels', array['branch:to:pack', 'total'],
        'channel_versions', jsonb_build_object('total', s, 'branch:to:pack', s), 'channel_values', '{{}}'::jsonb),
    jsonb_build_object('source', 'loop', 'step', s, 'workflow', 'orders', 'version', '1')
from (
    select t, s, t::bigint * {CHECKPOINTS} + s as n,
        timestamptz '{NOW.isoformat()}' - t * interval '{EVERY.total_seconds()} seconds' + s * interval '1 second' as at
    from generate_series(1, {THREADS}) t, generate_series(0, {CHECKPOINTS - 1}) s
) made;
insert into checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob)
select thread_id, checkpoint_ns, checkpoint_id, 'task-1', 0, 'total', 'msgpack', sha512(thread_id::bytea)
from checkpoints
union all select thread_id, checkpoint_ns, checkpoint_id, 'task-1', -1, '__error__', 'msgpack', '\\x01'::bytea
from checkpoints where (metadata ->> 'step')::int = {CHECKPOINTS - 1} and thread_id like '%5';
insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint, metadata)
select 'odd-' || t, '', case when t % 2 = 0 then 'zz-' else '0' end || t, '{{}}', '{{}}' from generate_series(1, 50) t;
insert into resumed.cases (thread_id, workflow, version, verdict, reason, state, head, fingerprint, last_activity_at,
    first_seen_at, due_at, next_look_at)
select 'orders-' || t, 'orders', '1', case when t % 20 > 2 then 'finished' else 'stopped' end, 'x',
    case when t % 20 > 2 then 'closed' when t % 20 = 2 then 'due' when t % 20 = 1 then 'backoff' else 'held' end,
    'head', 'rows', now(), now() - t * interval '1 second',
    case when t % 20 in (1, 2) then now() + (t - 1000) * interval '1 hour' end,
    case when t % 20 = 0 then timestamptz '{NOW.isoformat()}' + t * interval '1 second' end
from generate_series(1, 20000) t;
insert into resumed.attempts (thread_id, attempt, workflow, version, worker, started_at, finished_at, outcome, before)
select 'orders-' || t, 1, 'orders', '1', 'host', now(), now(), 'finished', 'head' from generate_series(1, 20000) t
union all select 'orders-' || t, 2, 'orders', '1', 'host', now(), null, null, 'head' from generate_series(1, 20) t;
analyze;
"""


@pytest.fixture(scope="session")  # once a process: other tests may come between those of this file
def full_database(server_dsn: str, templates: dict[str, str]) -> Iterator[str]:
    """A database with 200 000 checkpoints, 20 000 cases and 20 000 attempts, as the autovacuum leaves it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server_dsn, autocommit=True) as connection:
        both = (sql.Identifier(name), sql.Identifier(templates["ready"]))
        connection.execute(sql.SQL("create database {} template {}").format(*both))
        with psycopg.connect(in_database(server_dsn, name), autocommit=True) as filling:
            filling.execute(FILL)
        yield in_database(server_dsn, name)
        connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
async def full(full_database: str) -> AsyncIterator[Session]:
    async with open_session(Target(full_database)) as session:
        yield session


@pytest.fixture
async def session(database: str) -> AsyncIterator[Session]:
    async with open_session(Target(database)) as it:
        yield it


def _nothing(query: bytes) -> dict[str, None] | list[None]:
    """NULL for each parameter of the query, named or not."""
    named = re.findall(rb"%\((\w+)\)s", query)
    return {name.decode(): None for name in named} if named else [None] * query.count(b"%s")


async def test_postgres_takes_every_query_with_null_arguments(session: Session) -> None:
    refused = {}
    for module, name in sorted(set(SECTIONS) - UTILITY):
        query = load_sql(module)[name]
        try:
            await session.execute(b"explain " + query, _nothing(query))
        except psycopg.Error as error:
            refused[module, name] = str(error)
    assert refused == {}


def test_what_cannot_be_explained_is_listed_and_exists() -> None:
    assert set(SECTIONS) >= UTILITY
    utility = rb"(create|drop) index concurrently|set transaction isolation level"
    assert all(re.match(utility, load_sql(module)[name]) for module, name in UTILITY)


def test_every_file_of_queries_has_sections_and_no_section_is_empty() -> None:
    assert len(sql_modules()) > 5
    for module in sql_modules():
        assert load_sql(module)
        assert all(re.search(rb"^\s*[a-z(]", query, re.MULTILINE) for query in load_sql(module).values()), module


def test_every_fragment_is_included_and_every_include_was_found() -> None:
    folder = resources.files("resumed.store") / "sql"
    written = "".join((folder / f"{module}.sql").read_text(encoding="utf-8") for module in sql_modules())
    assert set(load_sql("fragments")) == set(re.findall(r"-- include: (\w+)", written))
    assert [(module, name) for module, name in SECTIONS if b"-- include" in load_sql(module)[name]] == []


def test_every_parameter_has_a_type_of_its_own() -> None:
    """Without one, Postgres would guess from the value, and guess again when the value is NULL."""
    untyped = [
        (module, name)
        for module, name in SECTIONS
        for query in [re.sub(rb"--.*", b"", load_sql(module)[name])]
        if re.search(rb"%(\(\w+\))?s(?!::)", query)
    ]
    assert untyped == []


def test_no_query_reads_the_values_of_a_checkpoint() -> None:
    """Retention deletes them, asks whether there are any, and measures them as they are stored."""
    naming = {(module, name) for module, name in SECTIONS if b"from checkpoint_blobs" in load_sql(module)[name]}
    assert naming == {("retention", "delete_blobs"), ("retention", "still_there"), ("retention", "size")}
    assert not re.search(rb"\bblob\b", load_sql("retention")["size"].replace(b"pg_column_size(blob)", b""))
    assert [(module, name) for module, name in SECTIONS if b"join checkpoint_blobs" in load_sql(module)[name]] == []


# What a sweep reads


async def _plan(session: Session, module: str, name: str, parameters: Any, *, run: bool = False) -> dict[str, Any]:
    options = b"explain (format json, analyze) " if run else b"explain (format json) "
    row = await (await session.execute(options + load_sql(module)[name], parameters)).fetchone()
    assert row is not None
    plan = next(iter(row.values()))
    return dict((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in _nodes(child))]


def _scanned(plan: dict[str, Any]) -> set[str]:
    """The tables that a plan reads from one end to the other."""
    return {node["Relation Name"] for node in _nodes(plan) if node["Node Type"] == "Seq Scan"} & WATCHED


def _read(plan: dict[str, Any], table: str) -> int:
    """How many rows of the table a plan that was run has touched."""
    touched = 0
    for node in _nodes(plan):
        if node["Node Type"].endswith("Scan") and node.get("Relation Name") == table:
            removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
            touched += (node["Actual Rows"] + removed) * node["Actual Loops"]
    return round(touched)


def _some(count: int) -> list[str]:
    """So many threads, spread over all ages."""
    return [f"orders-{1 + number * 7919 % THREADS}" for number in range(count)]


def _for_heads(threads: Sequence[str]) -> dict[str, Any]:
    return {
        "threads": list(threads), "channels": [*CONTROL_CHANNELS, "__no_writes__", "__scheduled__"], "cancelled": b"x",
    }  # fmt: skip


async def test_the_generated_ids_are_those_that_langgraph_would_have_made(full: Session) -> None:
    cursor = await full.execute("select checkpoint_id from checkpoints where thread_id = 'orders-100' order by 1")
    ids = [row["checkpoint_id"] async for row in cursor]
    assert [made_at(one) for one in ids] == [NOW - 100 * EVERY + timedelta(seconds=number) for number in range(4)]
    row = await (await full.execute("select count(*) as n from checkpoints where thread_id like 'orders%'")).fetchone()
    assert row == {"n": THREADS * CHECKPOINTS}


@pytest.mark.parametrize("back", [timedelta(seconds=35), timedelta(minutes=15), timedelta(days=1), timedelta(days=30)])
async def test_a_page_of_the_window_is_read_by_index(full: Session, back: timedelta) -> None:
    parameters = {"after": first_at(NOW - back), "upper": first_at(NOW), "rows": PAGE_ROWS}
    plan = await _plan(full, "checkpoints", "window_page", parameters, run=True)
    assert _scanned(plan) == set()
    assert 0 < _read(plan, "checkpoints") <= min(PAGE_ROWS + 1, (back // EVERY + 1) * CHECKPOINTS)


@pytest.mark.parametrize("back", [timedelta(seconds=35), timedelta(minutes=15)])
async def test_what_is_new_in_a_page_is_found_by_index(full: Session, back: timedelta) -> None:
    row = await (
        await full.execute("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as horizon")
    ).fetchone()
    assert row is not None
    parameters: dict[str, object] = {"after": first_at(NOW - back), "upper": first_at(NOW), "rows": PAGE_ROWS}
    for number in (1, 2):
        parameters |= {
            f"after_{number}": first_at(NOW - timedelta(hours=number)),
            f"upper_{number}": first_at(NOW),
            f"horizon_{number}": row["horizon"],
        }
    plan = await _plan(full, "checkpoints", "window_news", parameters, run=True)
    assert _scanned(plan) == set()
    assert 0 < _read(plan, "checkpoints") <= min(PAGE_ROWS + 1, (back // EVERY + 1) * CHECKPOINTS)


async def test_threads_whose_ids_tell_no_time_are_found_by_index(full: Session) -> None:
    lowest, highest = plausible_span(NOW)
    parameters = {"lowest": lowest, "highest": highest, "rows": LOOK_ROWS}
    plan = await _plan(full, "checkpoints", "timeless", parameters, run=True)
    assert _scanned(plan) <= {"cases"}  # of a small table of cases, the planner rather makes a hash
    assert _read(plan, "checkpoints") <= 50 * 3
    assert len(await checkpoints.threads_without_time(full, (lowest, highest), LOOK_ROWS)) == 50


@pytest.mark.parametrize("count", [1, 200, LOOK_ROWS, PAGE_ROWS])
async def test_heads_are_read_by_index_and_only_rows_of_their_own_threads(full: Session, count: int) -> None:
    plan = await _plan(full, "checkpoints", "heads", _for_heads(_some(count)), run=True)
    assert _scanned(plan) == set()
    assert _read(plan, "checkpoints") <= count * (2 * CHECKPOINTS + 2)
    assert _read(plan, "checkpoint_writes") <= count * (CHECKPOINTS * 2 + 3)


CASE = {
    "thread_id": "orders-7", "workflow": "orders", "version": "1", "verdict": "stopped", "reason": "x", "state": "due",
    "head": "head", "fingerprint": "rows", "last_activity_at": NOW, "first_seen_at": NOW, "head_seen_at": NOW,
    "changed_at": None, "due_at": NOW, "next_look_at": None, "attempts": 0, "consecutive": 0, "refused_by": "{}",
    "refusal": None, "refusal_reason": None, "spent_by": "{}", "own_head": None, "cancelled_head": None,
    "cancel_pending": False, "pinned": False, "suspect": False, "quarantine_reason": None, "revision": 2,
}  # fmt: skip
HOW = {"claim": "keep", "claimant": None}
CASES = {**{name: [value] * PAGE_ROWS for name, value in CASE.items()}, "thread_id": _some(PAGE_ROWS)}
ATTEMPT = {
    "thread_id": "orders-7", "attempt": 2, "workflow": "orders", "version": "1", "worker": "host", "before": "head",
    "outcome": "finished", "advanced": True, "charged": False, "after": "head", "error_type": None, "error_at": None,
    "error": None, "closed_by": "host",
}  # fmt: skip
RUN = {
    "attempt_workflow": "orders", "attempt_version": "1", "rows_before": None, "run_id": "r", "run_state": "finished",
}  # fmt: skip
ORIGINS = {"threads": _some(16), "attempts": [2] * 16, "before": ["head"] * 16, "after": ["head"] * 16}
CLAIM = {
    "workflows": ["orders"],
    "versions": ["1"],
    "suspects": [False],
    "rooms": [64],
    "acceptors": ["orders"],
    "accepted": ["1"],
    "claimant": "us",
    "due_by": None,
}
BY_INDEX: list[tuple[str, str, dict[str, Any]]] = [
    ("retention", "prunable", {"threads": _some(1000)}),
    ("retention", "old_cases", {"before": NOW, "rows": 1000}),
    ("cases", "of_threads", {"threads": _some(16)}),  # for many, of 20 000, older majors rather read all
    ("cases", "due_looks", {"now": NOW + timedelta(minutes=1), "rows": LOOK_ROWS}),
    ("cases", "due_looks", {"now": NOW + timedelta(days=1), "rows": LOOK_ROWS}),
    ("cases", "answered", {"after": "orders-5", "rows": 500}),
    ("cases", "claim", {**CLAIM, "rows": 1}),
    ("cases", "claim", {**CLAIM, "rows": 16}),
    ("cases", "claim", {**CLAIM, "rows": 64}),
    ("cases", "any_due", {"workflows": ["orders"], "suspects": [True], "due_by": None}),
    ("attempts", "recent", {"workflows": ["orders"], "rows": 20}),
    ("attempts", "open_by_workflow", {"workflows": ["orders"]}),
    ("cases", "release_claims", {"threads": _some(16), "claimant": "us", "due_by": None}),
    ("cases", "postpone", {"thread": "orders-7", "delay": timedelta(seconds=5)}),
    ("cases", "write", {**CASE, **HOW}),
    ("cases", "write_all", {**CASES, **HOW}),
    ("checkpoints", "root_head", {"thread": "orders-7"}),
    ("checkpoints", "history", {"thread": "orders-7", "rows": 50}),
    ("attempts", "begin", {**CASE, **HOW, **ATTEMPT, **RUN}),
    ("attempts", "conclude", {**CASE, **HOW, **ATTEMPT, **RUN}),
    ("attempts", "finish", ATTEMPT),
    ("attempts", "open", {"thread": "orders-7"}),
    ("attempts", "orphans", {"except": _some(16), "rows": 200}),
    ("attempts", "of_thread", {"thread": "orders-7"}),
    ("attempts", "origins", ORIGINS),
    ("locks", "held", {"threads": _some(PAGE_ROWS), "keys": list(range(PAGE_ROWS))}),
    ("statistics", "open_cases", {}),
]


@pytest.mark.parametrize(
    ("module", "name", "parameters"), BY_INDEX, ids=[f"{one[0]}.{one[1]}-{at}" for at, one in enumerate(BY_INDEX)]
)
async def test_no_table_is_read_from_one_end_to_the_other(
    full: Session, module: str, name: str, parameters: dict[str, Any]
) -> None:
    plan = await _plan(full, module, name, parameters)
    assert _scanned(plan) == set()


@pytest.mark.parametrize("age", [timedelta(days=7), timedelta(days=3), timedelta(hours=1)])
async def test_a_page_of_quiet_threads_reads_little_more_than_its_rows(full: Session, age: timedelta) -> None:
    """At the beginning, in the middle and at the end of the table; each thread's own rows are looked at once more."""
    parameters = {"after": first_at(NOW - age), "thread": "", "upper": first_at(NOW), "rows": 2000}
    plan = await _plan(full, "retention", "page", parameters, run=True)
    assert _scanned(plan) == set()
    assert _read(plan, "checkpoints") <= 2000 * 2 + CHECKPOINTS


async def test_all_errors_of_the_heads_are_found_whatever_their_namespace(full: Session) -> None:
    threads = [f"orders-{number}" for number in range(1, 101)]
    found = await checkpoints.snapshots(full, threads)
    assert {thread for thread, snapshot in found.items() if snapshot.rows} == {
        thread for thread in threads if thread.endswith("5")
    }
    assert {thread for thread, one in found.items() if one.head.newest_id > one.head.checkpoint_id} == {
        thread for thread in threads if thread.endswith("0")
    }


async def test_a_claim_reads_few_cases_when_many_are_due(full: Session) -> None:
    async with full.transaction(force_rollback=True):
        plan = await _plan(full, "cases", "claim", {**CLAIM, "rows": 16, "rooms": [16]}, run=True)
    assert plan["Actual Rows"] == 16
    assert _read(plan, "cases") <= 16 * 2 + 1


async def test_a_claim_reads_few_cases_when_few_are_due_and_many_wait(full: Session) -> None:
    async with full.transaction(force_rollback=True):
        await full.execute("update resumed.cases set claimed_until = 'infinity' where due_at < now() - interval '30 h'")
        plan = await _plan(full, "cases", "claim", {**CLAIM, "rows": 16, "rooms": [16]}, run=True)
    assert plan["Actual Rows"] == 2
    assert _read(plan, "cases") <= 100 + 2 * 2


async def test_the_heads_of_long_threads_are_read_without_a_walk_through_those_of_others(session: Session) -> None:
    await session.execute(
        "insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint) select 'long-' || n / 500, '',"
        " '1f0' || lpad(n::text, 5, '0'), '{}' from generate_series(0, 29999) n"
    )
    await session.execute("analyze checkpoints")
    threads = [f"long-{number}" for number in range(10)]
    plan = await _plan(session, "checkpoints", "heads", _for_heads(threads), run=True)
    assert _read(plan, "checkpoints") <= len(threads) * (500 + 1)
    found = await checkpoints.threads_without_run(session, threads)
    assert [found[thread].head.checkpoint_id for thread in threads] == [
        f"1f0{number * 500 + 499:05}" for number in range(10)
    ]


# What a sweep finds


async def test_pages_of_the_window_miss_no_thread_and_end(full: Session) -> None:
    found: set[str] = set()
    ends = [after := first_at(NOW - timedelta(hours=1))]
    while (page := await checkpoints.window_page(full, after, first_at(NOW), 97)).last_id is not None:
        after = page.last_id
        ends.append(after)
        found |= set(page.threads)
    assert all(earlier < later for earlier, later in pairwise(ends))
    assert found == {f"orders-{number}" for number in range(1, 301)}


async def test_a_page_counts_rows_and_names_threads_once(full: Session) -> None:
    page = await checkpoints.window_page(full, first_at(NOW - 3 * EVERY), first_at(NOW), 100)
    assert page.threads == ("orders-1", "orders-2", "orders-3")
    assert page.rows in (11, 12)


async def test_threads_without_a_time_that_are_on_record_do_not_stand_in_the_way_of_new_ones(session: Session) -> None:
    await session.execute(
        "insert into checkpoints (thread_id, checkpoint_id, checkpoint)"
        " select 'known-' || n, '0-' || lpad(n::text, 5, '0'), '{}' from generate_series(1, 30) n"
    )
    await session.execute(
        "insert into resumed.cases (thread_id, verdict, reason, state, head, fingerprint, last_activity_at,"
        " first_seen_at) select thread_id, 'finished', 'x', 'closed', checkpoint_id, '', now(), now() from checkpoints"
    )
    assert await checkpoints.threads_without_time(session, plausible_span(NOW), 10) == []
    await session.execute(
        "insert into checkpoints (thread_id, checkpoint_id, checkpoint) values ('new', '0-99999', '{}')"
    )
    assert await checkpoints.threads_without_time(session, plausible_span(NOW), 10) == ["new"]


async def test_a_thread_without_a_time_is_found_until_its_newest_head_is_on_record(session: Session) -> None:
    span = plausible_span(NOW)
    add = "insert into checkpoints (thread_id, checkpoint_id, checkpoint) values ('odd', %s, '{}')"
    record = (
        "insert into resumed.cases (thread_id, verdict, reason, state, head, fingerprint, last_activity_at,"
        " first_seen_at) values ('odd', 'stopped', 'x', 'held', %s, '', now(), now())"
        " on conflict (thread_id) do update set head = excluded.head"
    )
    for head in ("zz-1", "zz-2"):
        await session.execute(add, [head])
        assert await checkpoints.threads_without_time(session, span, 10) == ["odd"]
        await session.execute(record, [head])
        assert await checkpoints.threads_without_time(session, span, 10) == []


async def test_a_control_row_is_described_without_its_value(session: Session) -> None:
    await session.execute(
        "insert into checkpoints (thread_id, checkpoint_id, checkpoint, metadata) values"
        ' (\'t\', \'2\', \'{"updated_channels": ["branch:to:a"]}\', \'{"source": "loop", "step": 1}\')'
    )
    write = (
        "insert into checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, idx, channel, type, blob)"
        " values ('t', '', '2', %s, %s, %s, 'msgpack', %s)"
    )
    await session.execute(write, ["task-1", -1, "__error__", b"\xb0CancelledError()"])
    await session.execute(write, ["task-1", 0, "total", b"\x01"])
    await session.execute(write, ["task-2", -1, "__error__", b"\xb0CancelledError(!"])
    await session.execute(write, ["task-3", 0, "total", b"\x01"])
    await session.execute(write, [NULL_TASK, 0, "branch:to:b", b"\x01"])
    snapshot = (await checkpoints.snapshots(session, ["t", "nobody"]))["t"]
    told = {(one.task_id, one.channel): (one.cancelled, one.has_output) for one in snapshot.rows}
    assert told == {
        ("task-1", "__error__"): (True, True),
        ("task-2", "__error__"): (False, False),
        (NULL_TASK, "branch:to:b"): (False, True),
    }
    assert snapshot.head.null_channels == ("branch:to:b",)
    orders = [one.order for one in sorted(snapshot.rows, key=lambda one: one.task_id)]
    assert orders[1] < orders[2]
    assert orders[0] > orders[2]


async def test_the_newest_id_is_that_of_any_namespace_and_the_head_that_of_the_root(session: Session) -> None:
    add = "insert into checkpoints (thread_id, checkpoint_ns, checkpoint_id, checkpoint) values ('t', %s, %s, '{}')"
    for namespace, checkpoint_id in (("", "1"), ("", "3"), ("child:1", "5"), ("child:1", "2")):
        await session.execute(add, [namespace, checkpoint_id])
    head = (await checkpoints.snapshots(session, ["t"]))["t"].head
    assert (head.checkpoint_id, head.newest_id) == ("3", "5")
    assert await checkpoints.root_head(session, "t") == "3"
    assert await checkpoints.root_head(session, "nobody") is None
