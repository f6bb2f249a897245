"""The webhook over the whole way: installed daemons, real receivers, and deaths between an answer and its mark."""

import json
import random
from collections.abc import Iterator

import psycopg
import pytest

from acceptance.test_circuit import copy
from support.bench import Bench
from support.daemon import Daemon
from support.receiver import PACE, SECRET, Receiver, receiver
from support.waiting import eventually

STATE = ("hunter2", "fragile node", "RuntimeError", "branch:to", "the person's own words")
PACKED = "update resumed.webhook set next_at = clock_timestamp()"


@pytest.fixture
def receiving() -> Iterator[Receiver]:
    with receiver() as made:
        yield made
        assert made.unverified == []


def threads(receiving: Receiver, kind: str) -> list[str]:
    return sorted(thread for entry in receiving.notices(kind) for thread in entry["threads"])


def failures(daemon: Daemon) -> float:
    return daemon.samples("resumed_webhook_failures_total")[0][1]


def notice(bench: Bench, number: int = 0) -> str:
    """Have something told that costs no attempt; gives the workflow that it is about."""
    name = f"told {number}"
    done = bench.resumed("pause", name, "--reason", "the person's own words")
    assert done.returncode == 0, done.stderr
    return name


def paused(receiving: Receiver) -> list[str]:
    return [entry["workflow"] for entry in receiving.notices("workflow.paused")]


def test_a_quarantine_a_question_an_open_circuit_and_a_pause_each_arrive_once(
    bench: Bench, receiving: Receiver
) -> None:
    broken = bench.folder / "broken"
    broken.touch()
    bench.application(1, "fragile", ZOO_BREAK=str(broken), ZOO_DELAY="0").wait(30)
    copy(bench, 12)
    assert bench.application(1, "asking", ZOO_DELAY="0").wait(30) == 0
    soon = f"{PACE},between_probes=300ms"
    settings = receiving.settings(
        ZOO_BREAK=str(broken), ZOO_DELAY="0", RESUMED_MAX_ATTEMPTS="1", RESUMED_TEST_TIMINGS=soon
    )
    daemons = [bench.daemon(["fragile", "asking"], **settings) for _ in range(2)]
    eventually(lambda: len(threads(receiving, "case.quarantined")) >= 10 and receiving.notices("circuit.opened"))
    eventually(lambda: receiving.notices("case.waiting"))
    notice(bench)
    eventually(lambda: paused(receiving))
    eventually(lambda: bench.one("select count(*) from resumed.cases where state = 'quarantined'") == 12)
    eventually(lambda: sum(entry["count"] for entry in receiving.notices("case.quarantined")) == 12)
    assert [daemon.terminate() for daemon in daemons] == [0, 0]
    assert sum(entry["count"] for entry in receiving.notices("case.quarantined")) == 12
    assert threads(receiving, "case.waiting") == ["asking_0"]
    assert [entry["workflow"] for entry in receiving.notices("circuit.opened")] == ["fragile"]
    assert paused(receiving) == ["told 0"]
    assert len({request.id for request in receiving.requests}) == len(receiving.requests)
    bodies = b"".join(request.body for request in receiving.requests).decode()
    assert [word for word in STATE if word in bodies] == []
    assert {request.path for request in receiving.requests} == {"/hunter2?token=hunter3"}
    log = "".join(daemon.log.read_text() for daemon in daemons)
    assert SECRET not in log
    assert "hunter3" not in log
    assert "setting.ignored" not in log


def test_a_receiver_that_is_away_delays_nothing_else_and_gets_what_it_missed(bench: Bench) -> None:
    with receiver() as away:
        settings = away.settings()
    daemon = bench.daemon(["linear"], **settings).until_ready()
    notice(bench, 1)
    (failed,) = eventually(lambda: daemon.lines("webhook.failed"))
    assert failed["reason"] == "no answer: ConnectionRefusedError"
    bench.crashed_application(2, "linear", ends=2, ZOO_DELAY="0.3")
    eventually(lambda: bench.all_closed(2))
    notice(bench, 2)
    eventually(lambda: failures(daemon) >= 2)
    with receiver(away.port) as back:
        back.answered(500)
        eventually(lambda: back.requests)
        back.answered(200)
        bench.execute(PACKED)
        eventually(lambda: "told 2" in paused(back))
        assert {request.id for request in back.requests if request.notices[0]["workflow"] == "told 1"} == {
            back.requests[0].id
        }
        assert paused(back)[-1] == "told 2"
        assert back.unverified == []
    recovered = eventually(lambda: daemon.lines("webhook.recovered"))
    assert recovered[0]["failures"] == failures(daemon)
    assert [line["reason"] for line in daemon.lines("webhook.failed")] == [failed["reason"], "answered 500"]
    assert daemon.terminate() == 0


@pytest.mark.parametrize("drips", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_a_receiver_that_hangs_delays_neither_sweeps_nor_attempts_nor_the_end(
    bench: Bench, receiving: Receiver, drips: bool
) -> None:
    receiving.drips = drips
    if not drips:
        receiving.hold.clear()
    slow = "webhook_interval=300ms,webhook_timeout=10m"
    daemon = bench.daemon(["linear"], **receiving.settings(RESUMED_TEST_TIMINGS=slow)).until_ready()
    notice(bench)
    eventually(lambda: receiving.requests)
    sweeps = daemon.sweeps()
    bench.crashed_application(2, "linear", ends=2, ZOO_DELAY="0.3")
    eventually(lambda: bench.all_closed(2))
    eventually(lambda: daemon.sweeps() >= sweeps + 3)
    assert len(receiving.requests) == 1
    assert daemon.terminate() == 0
    assert daemon.lines("webhook.failed") == []


def test_killed_between_the_answer_and_its_mark_the_message_is_sent_again_under_the_same_id(
    bench: Bench, receiving: Receiver
) -> None:
    first = bench.daemon(["linear"], **receiving.settings()).until_ready()
    with psycopg.connect(bench.dsn) as blocker:
        receiving.on_request = lambda _: blocker.execute("select from resumed.webhook for update") and None
        notice(bench)
        waits = "from pg_stat_activity where application_name = 'resumed webhook' and wait_event_type = 'Lock'"
        eventually(lambda: bench.rows(f"select {waits}"))
        first.kill()
        bench.execute(f"select pg_terminate_backend(pid, 10000) {waits}")  # its last words would be heard without it
        receiving.on_request = lambda _: None
        blocker.rollback()
    assert len(receiving.requests) == 1
    second = bench.daemon(["linear"], **receiving.settings())
    eventually(lambda: len(receiving.requests) == 2)
    before, after = receiving.requests
    assert (before.id, before.body) == (after.id, after.body)
    notice(bench, 2)
    eventually(lambda: "told 2" in paused(receiving))
    assert second.terminate() == 0
    assert receiving.requests[-1].id != before.id


@pytest.mark.thorough
def test_whenever_senders_die_all_that_happened_arrives_and_an_id_has_one_body(
    bench: Bench, receiving: Receiver
) -> None:
    chance, settings = random.Random("senders die"), receiving.settings()
    for number in range(8):
        daemon = bench.daemon(["linear"], **settings).until_ready()
        at_once = chance.random() < 0.6
        receiving.on_request = lambda _, doomed=daemon, at_once=at_once: doomed.process.kill() if at_once else None
        before = len(receiving.requests)
        notice(bench, number)
        eventually(lambda before=before: len(receiving.requests) > before)
        daemon.kill()
    receiving.on_request = lambda _: None
    last = bench.daemon(["linear"], **settings).until_ready()
    everything = {f"told {number}" for number in range(8)}
    eventually(lambda: set(paused(receiving)) == everything)
    assert last.terminate() == 0
    bodies = {(request.id, request.body) for request in receiving.requests}
    assert len({number for number, _ in bodies}) == len(bodies)
    assert sum(entry["count"] for _, body in bodies for entry in json.loads(body)["data"]["notices"]) == 8


def test_a_single_sweep_sends_what_it_has_told_and_doctor_says_how_it_goes(bench: Bench, receiving: Receiver) -> None:
    assert bench.application(1, "asking", ZOO_DELAY="0").wait(30) == 0
    receiving.answered(500)
    done = bench.resumed("once", workflows=["asking"], **receiving.settings())
    assert (done.returncode, threads(receiving, "case.waiting")) == (0, ["asking_0"]), done.stderr
    report = bench.resumed("doctor", "--json", workflows=["asking"], **receiving.settings()).stdout
    (found,) = [finding for finding in json.loads(report)["findings"] if finding["check"] == "webhook"]
    assert found["level"] == "warning"
    assert "the last: answered 500; 1 notices wait to be sent" in found["finding"]
    assert "hunter2" not in report


def test_the_address_and_the_secret_are_masked_where_settings_are_shown(bench: Bench, receiving: Receiver) -> None:
    done = bench.resumed("config", **receiving.settings())
    assert done.returncode == 0
    assert "hunter2" not in done.stdout
    assert SECRET not in done.stdout
    refused = bench.resumed("config", RESUMED_WEBHOOK_URL=receiving.url)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "resumed: RESUMED_WEBHOOK_URL needs RESUMED_WEBHOOK_SECRET, set both or neither\n"


def test_without_a_webhook_nothing_is_written_for_one(bench: Bench) -> None:
    assert bench.application(1, "asking", ZOO_DELAY="0").wait(30) == 0
    assert bench.resumed("once", workflows=["asking"]).returncode == 0
    notice(bench)
    assert bench.one("select count(*) from resumed.cases where verdict = 'waiting'") == 1
    assert bench.one("select count(*) from resumed.notices") == 0
