"""Owns the intervals that no operator sets: how long the product waits before it asks again, gives up or kills.

One set a process: the control process sends its own to its workers in their plan. Only our tests have others.
"""

import os
from dataclasses import dataclass, fields
from datetime import timedelta

from resumed.durations import parse_duration
from resumed.errors import SettingsError

VARIABLE = "RESUMED_TEST_TIMINGS"


@dataclass(frozen=True, slots=True)
class Timings:
    """The intervals, each with what waits for it.

    worker_silence: a worker that says nothing is asked for a sign of life, and killed after three.
    stuck_grace: the neighbours of a node that cannot be stopped may drain.
    closing: a dismissed worker may close what its factories opened.
    stop_grace: a run that is cancelled may end.
    thread_grace: a node's thread may end after its run was stopped.
    state_load: a thread's state may load, where the timeout of an attempt is shorter.
    entry_deadline: an entry point may be imported; first_answers: the first answers of all factories.
    trial_dwell: the longest that a suspected registration is watched.
    retry_load: a registration that failed is tried again, the first time.
    idle_isolation: an isolation worker without work is kept; isolation_turn: before another workflow has its turn.
    probation: a worker that dies sooner after its start counts as one that its registrations killed.
    between_probes: probes of a workflow whose circuit is open.
    busy_delay: a thread whose lock is held elsewhere is looked at again.
    counts_hold: the gauges of the whole database are told after a count, if no other one follows.
    clock_delay: a thread is looked at again where this host's clock was wrong.
    trace_close: the collector may take the last spans, when the process ends.
    webhook_interval: requests to the webhook are apart; webhook_timeout: one of them may take.
    """

    worker_silence: timedelta = timedelta(seconds=10)
    stuck_grace: timedelta = timedelta(seconds=10)
    closing: timedelta = timedelta(seconds=5)
    stop_grace: timedelta = timedelta(seconds=5)
    thread_grace: timedelta = timedelta(seconds=5)
    state_load: timedelta = timedelta(seconds=20)
    entry_deadline: timedelta = timedelta(seconds=20)
    first_answers: timedelta = timedelta(seconds=22)
    trial_dwell: timedelta = timedelta(seconds=60)
    retry_load: timedelta = timedelta(seconds=15)
    idle_isolation: timedelta = timedelta(seconds=60)
    isolation_turn: timedelta = timedelta(seconds=30)
    probation: timedelta = timedelta(seconds=60)
    between_probes: timedelta = timedelta(seconds=10)
    busy_delay: timedelta = timedelta(seconds=5)
    counts_hold: timedelta = timedelta(seconds=15)
    clock_delay: timedelta = timedelta(seconds=30)
    trace_close: timedelta = timedelta(seconds=3)
    webhook_interval: timedelta = timedelta(seconds=60)
    webhook_timeout: timedelta = timedelta(seconds=10)


_IN_USE = [Timings()]


def current() -> Timings:
    """Return the intervals of this process."""
    return _IN_USE[-1]


def use(timings: Timings) -> None:
    """Make these the intervals of this process."""
    _IN_USE[-1] = timings


def from_environment() -> Timings:
    """Read `RESUMED_TEST_TIMINGS`, as `closing=1s,stuck_grace=2s`; the product's own intervals where it is not set.

    Raises SettingsError for what is no interval of ours, or is not positive.
    """
    written = os.environ.get(VARIABLE, "")
    return Timings(**dict(_pair(part) for part in written.split(",") if part))


def _pair(part: str) -> tuple[str, timedelta]:
    name, _, value = part.partition("=")
    if name not in {field.name for field in fields(Timings)}:
        raise SettingsError(f"{VARIABLE}: there is no interval {name!r}: see resumed/timings.py")
    try:
        length = parse_duration(value)
    except ValueError as error:
        raise SettingsError(f"{VARIABLE}: {name}: {error}") from None
    if not length:
        raise SettingsError(f"{VARIABLE}: {name} must be longer than 0s")
    return name, length
