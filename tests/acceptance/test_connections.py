"""A database that gives fewer connections than there is work: back-pressure, at nobody's charge."""

import uuid

import psycopg
import pytest
from psycopg import sql

from support.bench import Bench
from support.databases import in_database
from support.undisturbed import final_state, undisturbed
from support.waiting import eventually

THREADS = 30
LIMIT = 5


@pytest.fixture
def limited(bench: Bench) -> str:
    """Give a connection string whose role may have five sessions at once."""
    name = f"limited_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(bench.dsn, autocommit=True) as connection:
        role = sql.Identifier(name)
        connection.execute(sql.SQL("create role {} login connection limit {}").format(role, sql.Literal(LIMIT)))
        for schema in ("public", "resumed"):
            place = sql.Identifier(schema)
            connection.execute(sql.SQL("grant all on schema {} to {}").format(place, role))
            connection.execute(sql.SQL("grant all on all tables in schema {} to {}").format(place, role))
            connection.execute(sql.SQL("grant all on all sequences in schema {} to {}").format(place, role))
    fields = psycopg.conninfo.conninfo_to_dict(bench.dsn)
    return in_database(bench.dsn, str(fields["dbname"])).replace("postgres@", f"{name}@", 1)


def test_too_few_connections_slow_the_work_down_and_charge_nobody(bench: Bench, limited: str) -> None:
    bench.crashed_application(THREADS, "alinear", ends=THREADS, ZOO_DELAY="0.3")
    settings = {"RESUMED_DATABASE_URL": limited, "RESUMED_CONCURRENCY": "16", "ZOO_DELAY": "0.1"}
    daemon = bench.daemon(["alinear"], **settings).until_ready()
    eventually(lambda: bench.all_closed(THREADS), 120)
    assert bench.rows("select from resumed.attempts where charged") == []
    for number in range(THREADS):
        assert final_state(bench.dsn, f"alinear_{number}") == undisturbed("alinear")
    refused = len(daemon.lines("attempt.postponed"))
    print(f"{THREADS} threads over {LIMIT} connections; {refused} times there was none")
    assert refused > 0
    assert daemon.process.poll() is None
    assert daemon.terminate() == 0


def test_attempts_that_share_a_session_need_no_connection_each(bench: Bench, limited: str) -> None:
    """Sixteen at once over five connections, of which the control process has four."""
    bench.crashed_application(THREADS, "alinear", ends=THREADS, ZOO_DELAY="0.3")
    settings = {"RESUMED_DATABASE_URL": limited, "RESUMED_CONCURRENCY": "16", "RESUMED_SESSIONS": "1"}
    daemon = bench.daemon(["alinear"], **settings, ZOO_DELAY="1").until_ready()
    eventually(lambda: bench.open_attempts() == 16)
    eventually(lambda: bench.all_closed(THREADS))
    assert bench.rows("select outcome from resumed.attempts") == [{"outcome": "finished"}] * THREADS
    for number in range(THREADS):
        assert final_state(bench.dsn, f"alinear_{number}") == undisturbed("alinear")
    assert daemon.lines("attempt.postponed") == []
    assert daemon.terminate() == 0
