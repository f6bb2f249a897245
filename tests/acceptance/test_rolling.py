"""A rolling deploy and a database that turns read-only: each thread finds who takes it, and nobody gives up."""

from support.bench import Bench
from support.undisturbed import final_state, undisturbed
from support.waiting import eventually

TERMINATE = "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'resumed%'"
OTHERS = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"


def test_old_and_new_replicas_each_finish_what_they_accept_and_condemn_nothing(bench: Bench) -> None:
    bench.crashed_application(3, "linear", "alinear", ends=6, ZOO_DELAY="0.3", ZOO_VERSION="1")
    eventually(lambda: bench.one(OTHERS) == 0)  # a save that was on its way would come under the old name
    for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
        bench.execute(f"update {table} set thread_id = 'old-' || thread_id")
    bench.crashed_application(3, "linear", ends=len(bench.effects("end")) + 3, ZOO_DELAY="0.3", ZOO_VERSION="2")
    new = bench.daemon(["linear = zoo.rolling:new", "renamed = zoo.rolling:before"], RESUMED_MAX_ATTEMPTS="1")
    eventually(lambda: bench.one("select count(*) from resumed.cases where state = 'closed'") == 3)
    eventually(lambda: new.sweeps() >= 5)
    left = bench.rows("select distinct workflow, verdict, state from resumed.cases where state <> 'closed' order by 1")
    assert {(one["verdict"], one["workflow"]) for one in left} == {("incompatible", "linear"), ("unclaimed", None)}
    old = bench.daemon(["linear = zoo.rolling:old", "alinear = zoo.rolling:before"], RESUMED_MAX_ATTEMPTS="1")
    eventually(lambda: bench.all_closed(9))
    attempts = bench.rows("select thread_id, version, outcome from resumed.attempts")
    assert {one["outcome"] for one in attempts} == {"finished"}
    assert [one for one in attempts if (one["version"] == "1") != one["thread_id"].startswith("old-")] == []
    assert final_state(bench.dsn, "linear_0") == undisturbed("linear")
    assert [new.terminate(), old.terminate()] == [0, 0]


def test_a_database_that_turns_read_only_is_waited_for_and_said(bench: Bench) -> None:
    name = bench.one("select current_database()")
    daemon = bench.daemon().until_ready()
    bench.execute(f"alter database {name} set default_transaction_read_only = on")
    bench.execute(TERMINATE)
    eventually(lambda: "read-only" in daemon.lines("readiness.changed")[-1]["reason"])
    bench.crashed_application(2, "linear", ends=2, ZOO_DELAY="0.3", PGOPTIONS="-c default_transaction_read_only=off")
    before = len(daemon.lines("database.failed"))
    eventually(lambda: len(daemon.lines("database.failed")) >= before + 5)
    assert daemon.process.poll() is None
    assert not daemon.lines("readiness.changed")[-1]["ready"]
    assert not bench.rows("select from resumed.attempts")
    with bench.connected() as connection:
        connection.execute("set default_transaction_read_only = off")
        connection.execute(f"alter database {name} reset default_transaction_read_only")
        connection.execute(TERMINATE)
    eventually(lambda: bench.all_closed(2))
    assert {row["outcome"] for row in bench.rows("select outcome from resumed.attempts")} == {"finished"}
    assert daemon.terminate() == 0
