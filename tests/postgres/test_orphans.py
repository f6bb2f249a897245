"""What an attempt that nobody finished costs its thread: by the policy of the version that made it, and of no other."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from postgres.case_writes import start
from postgres.test_sweep import MINUTE, NOW, NUMBERS, RULES, case, saved
from resumed.daemon.recovery import Closer, close_orphan
from resumed.daemon.sweep import run_sweep
from resumed.model import Attempt, Case, PolicyLimits, Registration, State
from resumed.operations.assess import SweepContext
from resumed.store import workflow_versions
from resumed.store.connection import Session, Target, open_session

STRICT = replace(NUMBERS, max_attempts=1, max_total_attempts=1)
PATIENT = replace(NUMBERS, max_attempts=500, max_total_attempts=500)
ALONE = Closer("test", ours=True, alone=True)


@pytest.fixture
async def session(database: str) -> AsyncIterator[Session]:
    async with open_session(Target(database)) as it:
        await it.execute("select resumed.lock_key('x')")
        yield it


def version(name: str, numbers: PolicyLimits, *accepts: str) -> Registration:
    return Registration("orders", name, accepts, (), numbers, NOW)


async def left_open(session: Session, by: str, known: list[Registration], **metadata: Any) -> Attempt:
    """Leave an attempt of this version open on a thread that has had fifty."""
    await workflow_versions.announce_versions(session, known)
    await saved(session, "orders_1", NOW - 10 * MINUTE, **metadata)
    await run_sweep(session, RULES, NOW)
    await session.execute("update resumed.cases set attempts = 50, state = 'running'")
    found = await case(session, "orders_1")
    assert found is not None
    blank = Attempt(
        thread_id="orders_1", attempt=0, workflow="orders", version=by, worker="test-1", started_at=NOW,
        finished_at=None, outcome=None, advanced=False, before=found.head, after=None,
        error_type=None, error_at=None, error=None,
    )  # fmt: skip
    return await start(session, blank)


async def closed(session: Session, attempt: Attempt, known: list[Registration]) -> Case:
    sweep_context = SweepContext(NOW + timedelta(seconds=1), tuple(known), RULES)
    orphan = await close_orphan(session, sweep_context, attempt, ALONE)
    found = await case(session, "orders_1")
    assert orphan is not None
    assert found is not None
    assert orphan.quarantine_reason == found.quarantine_reason
    return found


@pytest.mark.parametrize("first", [0, 1])
async def test_a_thread_is_not_given_up_by_the_policy_of_another_version(session: Session, first: int) -> None:
    versions = [version("1", STRICT), version("2", PATIENT)]
    known = [versions[first], versions[1 - first]]
    attempt = await left_open(session, "2", known, version="2")
    found = await closed(session, attempt, known)
    assert (found.state, found.spent_by) == (State.BACKOFF, ())


@pytest.mark.parametrize("first", [0, 1])
async def test_a_thread_is_given_up_by_the_policy_of_the_version_that_tried_it(session: Session, first: int) -> None:
    versions = [version("1", STRICT), version("2", PATIENT, "1")]
    known = [versions[first], versions[1 - first]]
    attempt = await left_open(session, "1", known, version="1")
    found = await closed(session, attempt, known)
    assert found.spent_by == ("1",)
    assert found.state is State.QUARANTINED


async def test_where_that_version_is_forgotten_the_one_that_takes_the_thread_decides(session: Session) -> None:
    known = [version("1", STRICT), version("3", PATIENT, "2")]
    attempt = await left_open(session, "2", known, version="2")
    assert (await closed(session, attempt, known)).state is State.BACKOFF


async def test_where_no_version_takes_the_thread_the_settings_decide(session: Session) -> None:
    known = [version("1", STRICT)]
    attempt = await left_open(session, "2", [*known, version("2", PATIENT)], version="2")
    found = await closed(session, attempt, [replace(known[0], seen_at=NOW - timedelta(hours=1))])
    assert found.quarantine_reason != "1 charged attempts in a row made no progress"
