"""Owns what follows an attempt: whether it is charged, how long to wait, when to give up. Reads no clock, no dice."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from resumed.judge.case import CasePlacement
from resumed.model import Ending, Outcome, PolicyLimits, State

_CHARGED = frozenset({Outcome.FAILED, Outcome.TIMED_OUT, Outcome.NO_PROGRESS, Outcome.INCOMPATIBLE})
_HOPELESS = frozenset({"GraphRecursionError", "InvalidUpdateError"})
_NOT_THE_THREADS_FAULT = frozenset({Outcome.DRAINED, Outcome.CRASHED})


@dataclass(frozen=True, slots=True)
class Tally:
    """The attempts on a case so far, the one that just ended included in `attempts`, not yet in `consecutive`."""

    attempts: int
    consecutive: int


@dataclass(frozen=True, slots=True)
class RetryInputs:
    """What a decision needs from outside: the time, and one draw from [0, 1) for the jitter.

    `permanent` is why the registration takes the error for one that will not pass, `wait` its own back-off; `lasting`
    that, where the registration says nothing, LangGraph itself would not try again after such an error.
    """

    now: datetime
    draw: float
    permanent: str | None = None
    wait: timedelta | None = None
    lasting: bool = False


def consecutive_after(tally: Tally, ending: Ending) -> int:
    """Count charged attempts without progress in a row; any progress starts the count anew."""
    if ending.advanced:
        return 0
    return tally.consecutive + (1 if is_charged(ending) else 0)


def is_charged(ending: Ending) -> bool:
    """Say whether the attempt counts against its thread; a crash does only where the thread was alone."""
    return ending.outcome in _CHARGED or (ending.outcome is Outcome.CRASHED and ending.alone)


def back_off(failures: int, numbers: PolicyLimits, draw: float) -> timedelta:
    """Exponential back-off with full jitter: anything between nothing and base x 2^(failures - 1), at most the cap."""
    doubled = numbers.retry_base.total_seconds() * 2.0 ** min(max(failures, 1) - 1, 60)
    return timedelta(seconds=min(numbers.retry_cap.total_seconds(), doubled) * draw)


def gives_up(tally: Tally, ending: Ending, numbers: PolicyLimits) -> str | None:
    """Say why the thread must not be tried again before somebody looks at it; None where it may be."""
    if ending.outcome is Outcome.FAILED and ending.error_type in _HOPELESS:
        return f"{ending.error_type} does not pass by itself"
    if consecutive_after(tally, ending) >= numbers.max_attempts:
        return f"{numbers.max_attempts} charged attempts in a row made no progress"
    if tally.attempts >= numbers.max_total_attempts:
        return f"{tally.attempts} attempts in all"
    return None


def after_attempt(tally: Tally, ending: Ending, numbers: PolicyLimits, chance: RetryInputs) -> CasePlacement:
    """Decide where the case stands after an attempt that left work to do."""
    failed = ending.outcome is Outcome.FAILED
    reason = gives_up(tally, ending, numbers)
    if reason and failed and chance.lasting:
        reason = f"{reason}; {ending.error_type} is of a kind that seldom passes by itself"
    if reason := (chance.permanent if failed else None) or reason:
        return CasePlacement(State.QUARANTINED, None, chance.now + numbers.min_age / 2, reason)
    if ending.outcome in _NOT_THE_THREADS_FAULT and not is_charged(ending):
        return CasePlacement(State.DUE, chance.now)
    failures = max(consecutive_after(tally, ending), 1)
    if is_charged(ending) and chance.wait is not None:
        return CasePlacement(State.BACKOFF, chance.now + chance.wait)
    if not is_charged(ending):
        failures = max(failures, min(tally.attempts, 8))
    return CasePlacement(State.BACKOFF, chance.now + back_off(failures, numbers, chance.draw))
