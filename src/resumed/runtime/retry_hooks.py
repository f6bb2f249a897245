"""Asks a registration's own callables about an attempt that failed; what they raise counts as no answer."""

from datetime import timedelta

from langgraph._internal._retry import default_retry_on

from resumed import durations
from resumed.workflows.workflow import Workflow


def is_permanent(policy: Workflow, error: BaseException | None) -> str | None:
    """Say why an error will not pass by itself, where the registration's `retry_on` says so."""
    if error is None or policy.retry_on is None:
        return None
    kinds = policy.retry_on
    try:
        passes = isinstance(error, kinds) if isinstance(kinds, tuple) else bool(kinds(error))  # type: ignore[operator]
    except Exception:  # noqa: BLE001 - a broken predicate must not quarantine what it was asked about
        return None
    return None if passes else f"{type(error).__name__} is not among the errors that pass (retry_on)"


def is_lasting(policy: Workflow, error: BaseException | None) -> bool:
    """Say whether LangGraph's own retry policy would not try again after this error; a registration's word is above it.

    It is told, not acted on: a deploy or a repaired service heals what looks lasting.
    """
    return isinstance(error, Exception) and policy.retry_on is None and not default_retry_on(error)


def own_back_off(policy: Workflow, failures: int) -> timedelta | None:
    """How long the registration's own `backoff` says to wait after so many failures; None where it has none."""
    if not callable(policy.backoff):
        return None
    try:
        said = policy.backoff(failures)
        wait = durations.parse_duration(said) if isinstance(said, str) else said
    except Exception:  # noqa: BLE001 - then the daemon's own back-off holds
        return None
    return min(max(wait, timedelta(0)), durations.LONGEST) if isinstance(wait, timedelta) else None
