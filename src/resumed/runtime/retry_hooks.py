"""Calls a registration's own callables about an attempt that failed; where they raise, the defaults hold."""

from datetime import timedelta
from typing import Any

from langgraph.types import RetryPolicy

from resumed import durations
from resumed.workflows.workflow import Workflow

_RETRIES: Any = RetryPolicy().retry_on


def get_permanent_reason(policy: Workflow, error: BaseException | None) -> str | None:
    """Return why an error will not pass by itself, where the registration's `retry_on` says so."""
    if error is None or policy.retry_on is None:
        return None
    kinds = policy.retry_on
    try:
        passes = isinstance(error, kinds) if isinstance(kinds, tuple) else bool(kinds(error))  # type: ignore[operator]
    except Exception:  # noqa: BLE001 - a broken predicate must not quarantine what it was asked about
        return None
    return None if passes else f"{type(error).__name__} is not among the errors that pass (retry_on)"


def is_lasting(policy: Workflow, error: BaseException | None) -> bool:
    """Return whether LangGraph's own retry policy would not retry after this error, where the registration has none.

    It is reported, not acted on: a deploy or a repaired service heals what looks lasting.
    """
    return isinstance(error, Exception) and policy.retry_on is None and not bool(_RETRIES(error))


def get_backoff(policy: Workflow, failures: int) -> timedelta | None:
    """Return the wait that the registration's own `backoff` wants after so many failures; None where it has none."""
    if not callable(policy.backoff):
        return None
    try:
        answer = policy.backoff(failures)
        wait = durations.parse_duration(answer) if isinstance(answer, str) else answer
    except Exception:  # noqa: BLE001 - then the daemon's own back-off holds
        return None
    return min(max(wait, timedelta(0)), durations.LONGEST) if isinstance(wait, timedelta) else None
