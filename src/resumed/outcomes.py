"""Owns what the outcome of an attempt means: for its thread, for its case, and for its reader."""

from dataclasses import dataclass

from resumed.model import Outcome


@dataclass(frozen=True, slots=True)
class OutcomeMeaning:
    """What follows from an outcome, and from no other.

    - charged: counts against `max_attempts`; a crash does only where the thread ran alone.
    - due_at_once: the next attempt does not wait; nothing shows that the thread was to blame.
    - own: the attempt itself brought the thread where it is; otherwise its present owner decides on its case.
    - proves: the thread has shown that it does not end its worker, so it is no suspect any more.
    - error: a warning in the log and an error in a trace; a wait, a deploy or another writer is none.
    - fails_once, fails_resume: the exit code of that command is 1.
    """

    charged: bool = False
    due_at_once: bool = False
    own: bool = True
    proves: bool = True
    error: bool = False
    fails_once: bool = False
    fails_resume: bool = True


_FAILURE = OutcomeMeaning(charged=True, error=True, fails_once=True)
_SUCCESS = OutcomeMeaning(fails_resume=False)

MEANINGS = {
    Outcome.FINISHED: _SUCCESS,
    Outcome.WAITING: _SUCCESS,
    Outcome.FAILED: _FAILURE,
    Outcome.TIMED_OUT: _FAILURE,
    Outcome.NO_PROGRESS: _FAILURE,
    Outcome.INCOMPATIBLE: _FAILURE,
    Outcome.CRASHED: OutcomeMeaning(due_at_once=True, error=True, fails_once=True),
    Outcome.DRAINED: OutcomeMeaning(due_at_once=True, proves=False),
    Outcome.LOCK_LOST: OutcomeMeaning(own=False, proves=False, fails_once=True),
    Outcome.SUPERSEDED: OutcomeMeaning(own=False, proves=False),
}


_OPEN = OutcomeMeaning()


def meaning_of(outcome: Outcome | None) -> OutcomeMeaning:
    """Return what follows from an outcome; nothing from that of an attempt that has not ended."""
    return MEANINGS[outcome] if outcome is not None else _OPEN
