"""Owns what follows an attempt: whether it is charged, how long to back off, when to give up. Reads no clock."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from resumed.judge.case import CasePlacement
from resumed.model import Ending, Outcome, PolicyLimits, State
from resumed.outcomes import meaning_of

_PERMANENT_ERRORS = frozenset({"GraphRecursionError", "InvalidUpdateError"})


@dataclass(frozen=True, slots=True)
class Tally:
    """The attempts on a case so far: `attempts` includes the one that just ended, `consecutive` does not yet."""

    attempts: int
    consecutive: int


@dataclass(frozen=True, slots=True)
class RetryInputs:
    """What the decision needs from outside: the time, and one draw from [0, 1) for the jitter.

    `permanent` is why the registration's `retry_on` counts the error as permanent, `wait` the registration's own
    back-off; `lasting`: the registration has no `retry_on`, and LangGraph itself would not retry such an error.
    """

    now: datetime
    draw: float
    permanent: str | None = None
    wait: timedelta | None = None
    lasting: bool = False


def consecutive_after(tally: Tally, ending: Ending) -> int:
    """Count charged attempts without progress in a row; any progress resets the count."""
    if ending.advanced:
        return 0
    return tally.consecutive + (1 if is_charged(ending) else 0)


def is_charged(ending: Ending) -> bool:
    """Return whether the attempt counts against its thread; a crash does so only where the thread ran alone."""
    return meaning_of(ending.outcome).charged or (ending.outcome is Outcome.CRASHED and ending.alone)


def back_off(failures: int, numbers: PolicyLimits, draw: float) -> timedelta:
    """Return an exponential back-off with full jitter: between zero and base x 2^(failures - 1), at most the cap."""
    doubled = numbers.retry_base.total_seconds() * 2.0 ** min(max(failures, 1) - 1, 60)
    return timedelta(seconds=min(numbers.retry_cap.total_seconds(), doubled) * draw)


def give_up_reason(tally: Tally, ending: Ending, numbers: PolicyLimits) -> str | None:
    """Return why the thread needs a person before another attempt; None where it does not."""
    if ending.outcome is Outcome.FAILED and ending.error_type in _PERMANENT_ERRORS:
        return f"{ending.error_type} does not pass by itself"
    if consecutive_after(tally, ending) >= numbers.max_attempts:
        return f"{numbers.max_attempts} charged attempts in a row made no progress"
    if tally.attempts >= numbers.max_total_attempts:
        return f"{tally.attempts} attempts in all"
    return None


def after_attempt(tally: Tally, ending: Ending, numbers: PolicyLimits, chance: RetryInputs) -> CasePlacement:
    """Decide the state of a case after an attempt that left work to do."""
    failed = ending.outcome is Outcome.FAILED
    reason = give_up_reason(tally, ending, numbers)
    if reason and failed and chance.lasting:
        reason = f"{reason}; {ending.error_type} is of a kind that seldom passes by itself"
    if reason := (chance.permanent if failed else None) or reason:
        return CasePlacement(State.QUARANTINED, None, chance.now + numbers.min_age / 2, reason)
    if meaning_of(ending.outcome).due_at_once and not is_charged(ending):
        return CasePlacement(State.DUE, chance.now)
    failures = max(consecutive_after(tally, ending), 1)
    if is_charged(ending) and chance.wait is not None:
        return CasePlacement(State.BACKOFF, chance.now + chance.wait)
    if not is_charged(ending):
        failures = max(failures, min(tally.attempts, 8))
    return CasePlacement(State.BACKOFF, chance.now + back_off(failures, numbers, chance.draw))
