"""`resumed.backlog`: what one more replica could help with, kind by kind of row, and bounded whatever there is."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from psycopg import sql

from resumed.judge.circuit_breaker import WINDOW, RecentAttempt, is_open
from resumed.judge.workflow_match import LIVE_FOR
from resumed.model import PolicyLimits, Registration
from resumed.store import cases
from resumed.store.cases import ClaimRequest
from resumed.store.connection import Target, open_session

MINUTE = timedelta(minutes=1)
NUMBERS = PolicyLimits(MINUTE, MINUTE, 5, 50, MINUTE, MINUTE, MINUTE, 4)
BOUND = 10_000
MORE = 12_000
NOTHING = {"load": 0, "due": 0, "submitted": 0, "inflight": 0}
CASE: dict[str, Any] = {
    "workflow": "orders", "version": "1", "verdict": "stopped", "reason": "x", "state": "due", "head": "head",
    "fingerprint": "", "last_activity_at": datetime(2026, 1, 1, tzinfo=UTC),
    "first_seen_at": datetime(2026, 1, 1, tzinfo=UTC), "due_at": datetime(2026, 1, 1, tzinfo=UTC),
}  # fmt: skip
RUN: dict[str, Any] = {"workflow": "orders", "version": "1", "state": "submitted", "submitted": True, "owner": "us"}
ATTEMPT: dict[str, Any] = {
    "attempt": 1, "workflow": "orders", "version": "1", "worker": "us", "before": "head",
    "started_at": datetime(2026, 1, 1, tzinfo=UTC),
}  # fmt: skip
LATER = datetime(2100, 1, 1, tzinfo=UTC)


class Rows:
    """A database of ours, and rows put into it as other processes would have left them."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        self._last = 0

    def put(self, table: str, **columns: Any) -> None:
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        places = sql.SQL(", ").join([sql.Placeholder()] * len(columns))
        statement = sql.SQL("insert into resumed.{} ({}) values ({})").format(sql.Identifier(table), names, places)
        self.connection.execute(statement, list(columns.values()))

    def case(self, **columns: Any) -> None:
        self.put("cases", **{**CASE, "thread_id": self.thread(), **columns})

    def run(self, **columns: Any) -> None:
        self.put("runs", **{**RUN, "run_id": self.thread(), "thread_id": self.thread(), **columns})

    def attempt(self, **columns: Any) -> None:
        self.put("attempts", **{**ATTEMPT, "thread_id": self.thread(), **columns})

    def thread(self) -> str:
        self._last += 1
        return f"t{self._last}"

    def live(self, name: str = "orders", version: str = "1", *accepts: str, age: timedelta | None = None) -> None:
        numbers = {field: getattr(NUMBERS, field) for field in PolicyLimits.__dataclass_fields__}
        seen_at = datetime.now(UTC) - (age or timedelta())
        row = {"name": name, "version": version, "accepts": list(accepts), "triggers": [], "seen_at": seen_at}
        self.put("workflows", **row, **numbers)

    def pause(self, workflow: str, *, paused: bool = True) -> None:
        now = datetime.now(UTC)
        self.put("pauses", workflow=workflow, paused=paused, actor="we", reason="x", since=now)

    def backlog(self) -> dict[str, int]:
        cursor = self.connection.execute("select * from resumed.backlog")
        names = [column.name for column in cursor.description or ()]
        [row] = cursor.fetchall()
        return dict(zip(names, row, strict=True))

    def read_for_it(self) -> dict[str, int]:
        """How many rows of each table are read for one answer; under `in sequence`, not by an index."""
        with self.connection.transaction():
            before = self._read_so_far()  # what was read a moment ago may not have been reported yet
            self.backlog()
            return {name: count - before[name] for name, count in self._read_so_far().items()}

    def _read_so_far(self) -> dict[str, int]:
        cursor = self.connection.execute(
            "select relname, coalesce(idx_tup_fetch, 0) + seq_tup_read, seq_tup_read from pg_stat_xact_user_tables"
            " where schemaname = 'resumed'"
        )
        read = cursor.fetchall()
        in_sequence = {f"{name} in sequence": count for name, _, count in read}
        return {name: count for name, count, _ in read} | in_sequence


@pytest.fixture
def rows(shared_database: str) -> Iterator[Rows]:
    with psycopg.connect(shared_database, autocommit=True) as connection:
        connection.execute("truncate resumed.cases, resumed.runs, resumed.attempts, resumed.workflows, resumed.pauses")
        yield Rows(connection)


def test_of_an_empty_database_it_is_one_row_of_noughts(rows: Rows) -> None:
    assert rows.backlog() == NOTHING


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"state": "backoff"},
        {"version": None},
        {"version": "0"},
        {"claimed_until": LATER, "claimed_by": "us"},  # an attempt is about to begin
        {"cancelled_head": "an earlier head"},
        {"refused_by": ["2"], "spent_by": ["3"]},  # versions that are not there
        {"verdict": "failed", "attempts": 3},
    ],
    ids=lambda columns: ",".join(columns) or "plain",
)
def test_a_due_case_counts_that_a_live_version_takes(rows: Rows, columns: dict[str, Any]) -> None:
    rows.live("orders", "1", "0")
    rows.case(**columns)
    assert rows.backlog() == {**NOTHING, "load": 1, "due": 1}


@pytest.mark.parametrize(
    "columns",
    [
        {"due_at": LATER, "state": "backoff"},
        {"state": "running"},
        {"state": "held", "verdict": "waiting"},
        {"state": "quarantined"},
        {"state": "closed", "verdict": "finished"},
        {"suspect": True},
        {"cancelled_head": "head"},
        {"cancel_pending": True},
        {"version": "9"},
        {"workflow": "invoices"},
        {"workflow": None},
        {"refused_by": ["1"]},
        {"spent_by": ["1"]},
    ],
    ids=",".join,
)
def test_a_case_does_not_count_that_no_other_replica_could_take(rows: Rows, columns: dict[str, Any]) -> None:
    rows.live("orders", "1", "0")
    rows.case(**columns)
    assert rows.backlog() == NOTHING


def test_code_without_a_version_takes_any_and_a_case_counts_once_however_many_take_it(rows: Rows) -> None:
    rows.live("orders", "")
    rows.live("orders", "1", "2")
    rows.live("orders", "2", "1")
    for version in ("1", "2", "3", None):
        rows.case(version=version)
        rows.run(version=version)
    assert rows.backlog() == {**NOTHING, "load": 8, "due": 4, "submitted": 4}


def test_what_one_version_refused_counts_for_another_that_is_live(rows: Rows) -> None:
    rows.live("orders", "1")
    rows.live("orders", "2", "1")
    rows.case(refused_by=["1"])
    rows.case(refused_by=["1"], spent_by=["2"])
    assert rows.backlog()["due"] == 1


@pytest.mark.parametrize("columns", [{}, {"version": None}, {"version": "0"}], ids=["own", "none", "accepted"])
def test_a_submitted_run_counts_until_it_has_a_case(rows: Rows, columns: dict[str, Any]) -> None:
    rows.live("orders", "1", "0")
    rows.run(thread_id="its", **columns)
    assert rows.backlog() == {**NOTHING, "load": 1, "submitted": 1}
    rows.case(thread_id="its", **columns)
    assert rows.backlog() == {**NOTHING, "load": 1, "due": 1}
    rows.connection.execute("update resumed.cases set state = 'closed', due_at = null")
    assert rows.backlog()["submitted"] == 1


@pytest.mark.parametrize(
    "columns",
    [
        {"state": "open", "submitted": False},  # an application is running it
        {"state": "taken"},
        {"state": "finished", "ended_at": LATER},
        {"version": "9"},
        {"workflow": "invoices"},
    ],
    ids=",".join,
)
def test_a_run_does_not_count_that_waits_for_no_replica_or_for_other_code(rows: Rows, columns: dict[str, Any]) -> None:
    rows.live("orders", "1")
    rows.run(**columns)
    assert rows.backlog() == NOTHING


def test_an_attempt_counts_as_long_as_it_is_open_whatever_becomes_of_its_workflow(rows: Rows) -> None:
    rows.attempt(workflow="gone")
    rows.attempt(finished_at=LATER, outcome="finished")
    rows.pause("")
    assert rows.backlog() == {**NOTHING, "load": 1, "inflight": 1}


@pytest.mark.parametrize(("paused", "counted"), [("", 0), ("orders", 0), ("invoices", 2)])
def test_nothing_counts_of_what_is_paused(rows: Rows, paused: str, counted: int) -> None:
    rows.live()
    rows.case()
    rows.run()
    rows.pause(paused)
    assert rows.backlog()["load"] == counted
    rows.connection.execute("update resumed.pauses set paused = false")
    assert rows.backlog()["load"] == 2


@pytest.mark.parametrize(("age", "counted"), [(LIVE_FOR * 0.5, 2), (LIVE_FOR + MINUTE, 0)])
def test_a_version_counts_as_long_as_the_judge_calls_it_live(rows: Rows, age: timedelta, counted: int) -> None:
    rows.live(age=age)
    rows.case()
    rows.run()
    assert rows.backlog()["load"] == counted


def test_the_circuit_is_open_for_the_view_when_it_is_for_the_judge(rows: Rows) -> None:
    dice, seen = random.Random(5), set[bool]()
    rows.live()
    rows.case()
    for _ in range(60):
        rows.connection.execute("truncate resumed.attempts")
        many, threads, share = dice.randint(0, WINDOW + 8), dice.randint(1, WINDOW), dice.choice([0.3, 0.5, 0.6, 0.9])
        ended = []
        for number in range(many):
            charged, thread_id = dice.random() < share, f"thread {dice.randrange(threads)}"
            finished_at = datetime(2026, 1, 1, tzinfo=UTC) + number * MINUTE
            rows.attempt(
                thread_id=thread_id, attempt=number, charged=charged, finished_at=finished_at,
                outcome="failed" if charged else dice.choice(["finished", "waiting"]),
            )  # fmt: skip
            ended.append(RecentAttempt(thread_id, charged, finished_at))
            rows.attempt(finished_at=finished_at, outcome="drained")  # tells nothing of the workflow
        is_open_now = is_open(ended[::-1])
        seen.add(is_open_now)
        assert rows.backlog()["due"] == (0 if is_open_now else 1), ended
    assert seen == {True, False}


async def test_due_is_what_the_live_versions_could_claim_between_them(rows: Rows, shared_database: str) -> None:
    dice = random.Random(7)
    versions = ["", "1", "2", "3"]
    for _ in range(25):
        rows.connection.execute("truncate resumed.cases, resumed.workflows")
        live = {
            (name, version): Registration(
                name, version, tuple(dice.sample(versions[1:], dice.randint(0, 2))), (), NUMBERS, datetime.now(UTC)
            )
            for name, version in dice.sample([(name, version) for name in ("a", "b") for version in versions], 3)
        }
        for one in live.values():
            rows.live(one.name, one.version, *one.accepts)
        for _ in range(12):
            rows.case(
                workflow=dice.choice(["a", "b", "c"]), version=dice.choice([None, "1", "2", "3"]),
                state=dice.choice(["due", "backoff", "held"]), due_at=dice.choice([CASE["due_at"], LATER]),
                refused_by=dice.sample(versions, dice.randint(0, 2)),
                spent_by=dice.sample(versions, dice.randint(0, 1)),
                cancelled_head=dice.choice([None, "head"]), suspect=dice.random() < 0.2,
            )  # fmt: skip
        due = rows.backlog()["due"]
        async with open_session(Target(shared_database)) as session:
            claims = [await cases.claim(session, [ClaimRequest(one, 99)], "us", 99) for one in live.values()]
        assert due == sum(map(len, claims))


FULL = f"""
insert into resumed.cases (thread_id, workflow, version, verdict, reason, state, head, fingerprint, last_activity_at,
    first_seen_at, due_at, suspect)
select kind || t, 'orders', kind, 'stopped', 'x', 'due', 'head', 'rows', now(), now(),
    now() - t * interval '1 second', false
from (values ('1', {3 * BOUND}), ('nobody has', {MORE}), ('refused', 2000)) kinds (kind, many),
    generate_series(1, many) t;
update resumed.cases set refused_by = '{{1}}' where version = 'refused';
insert into resumed.runs (run_id, thread_id, workflow, version, state, submitted, owner, begun_at)
select '1' || t, '1' || t, 'orders', '1', 'submitted', true, 'us', now() - interval '1 hour'
from generate_series(1, {MORE}) t
union all select 'new' || t, 'new' || t, 'orders', '1', 'submitted', true, 'us', now() from generate_series(1, 5) t;
insert into resumed.runs (run_id, thread_id, workflow, version, state, owner)
select 'open' || t, 'open' || t, 'orders', '1', 'open', 'us' from generate_series(1, {MORE}) t;
insert into resumed.attempts (thread_id, attempt, workflow, version, worker, started_at, finished_at, outcome, before)
select 'orders-' || t, 1, 'orders', '1', 'us', now(), case when t > 20 then now() - t * interval '1 second' end,
    case when t > 20 then 'finished' end, 'head'
from generate_series(1, {MORE}) t;
analyze resumed.cases, resumed.runs, resumed.attempts;
"""


def test_however_much_there_is_it_reads_by_index_and_no_more_than_its_bounds(rows: Rows) -> None:
    rows.live("orders", "1", "refused")
    rows.connection.execute(FULL)
    assert rows.backlog() == {"load": BOUND, "due": BOUND, "submitted": 5, "inflight": 20}
    read = rows.read_for_it()
    # Of cases: what is taken, what was refused, and one for each submitted run that is looked at.
    most = {"cases": 2 * BOUND + 2000 + 100, "runs": BOUND + 100, "attempts": 100}
    assert {name: read[name] for name in most if not 0 < read[name] <= most[name]} == {}
    assert {name: count for name in most if (count := read[f"{name} in sequence"])} == {}


def test_what_the_scaled_object_asks_is_answered_by_one_number(rows: Rows) -> None:
    path = Path(__file__).parents[2] / "deploy" / "kubernetes" / "autoscaled" / "keda" / "scaledobject.yaml"
    [trigger] = yaml.safe_load(path.read_text())["spec"]["triggers"]
    rows.attempt()
    assert rows.connection.execute(trigger["metadata"]["query"]).fetchall() == [(1,)]
