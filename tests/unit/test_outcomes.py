"""The one table of what an outcome means."""

import pytest

from resumed.model import Outcome
from resumed.outcomes import MEANINGS, meaning_of


def those(what: str) -> set[str]:
    return {outcome for outcome, meaning in MEANINGS.items() if getattr(meaning, what)}


def test_every_outcome_has_a_meaning() -> None:
    assert MEANINGS.keys() == set(Outcome)


@pytest.mark.parametrize(
    ("what", "outcomes"),
    [
        ("charged", {"failed", "timed_out", "no_progress", "incompatible"}),
        ("due_at_once", {"crashed", "drained"}),
        ("own", set(Outcome) - {"superseded", "lock_lost"}),
        ("proves", set(Outcome) - {"superseded", "lock_lost", "drained"}),
        ("error", {"failed", "timed_out", "crashed", "no_progress", "incompatible"}),
        ("fails_once", set(Outcome) - {"finished", "waiting", "superseded", "drained"}),
        ("fails_resume", set(Outcome) - {"finished", "waiting"}),
    ],
)
def test_what_follows_from_which(what: str, outcomes: set[str]) -> None:
    assert those(what) == outcomes


def test_an_attempt_that_has_not_ended_is_no_error_and_no_success() -> None:
    assert (meaning_of(None).error, meaning_of(None).fails_once, meaning_of(None).fails_resume) == (False, False, True)
