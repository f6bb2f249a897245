"""A head that a person wrote: held, but once asked of the graph whether anything is left to run at all."""

from datetime import timedelta

import pytest

from resumed.judge.verdict import ThreadSnapshot, judge_snapshot
from resumed.model import State, Verdict
from unit.judge.builders import (
    MIN_AGE,
    NOW,
    SECOND,
    case_of,
    circumstances,
    head,
    look,
    matched_by,
    registration,
    snapshot,
)

EDIT = {"source": "update", "updated_channels": None}


@pytest.mark.parametrize("source", ["update", "fork"])
def test_the_graph_is_asked_once_whether_an_edited_thread_has_anything_left_to_run(source: str) -> None:
    found = snapshot(source=source, updated_channels=None)
    asked = look(found, circumstances())
    assert (asked.judgement.verdict, asked.judgement.unsure, asked.placement.state) == (Verdict.EDITED, True, State.DUE)
    known = case_of(found, verdict=Verdict.EDITED, refusal=Verdict.EDITED, refusal_reason="asked", refused_by=("1",))
    told = look(found, circumstances(known=known))
    assert (told.judgement.verdict, told.judgement.unsure, told.placement.state) == (Verdict.EDITED, False, State.HELD)
    assert told.placement.due_at is None


def test_a_new_version_is_asked_anew() -> None:
    found = snapshot(**EDIT)
    known = case_of(found, verdict=Verdict.EDITED, refusal=Verdict.EDITED, refusal_reason="asked", refused_by=("0",))
    assert look(found, circumstances(known=known)).placement.state is State.DUE


@pytest.mark.parametrize(
    ("found", "match"),
    [
        (snapshot(**EDIT), matched_by()),
        (snapshot(**EDIT), matched_by(registration(seen_at=NOW - timedelta(minutes=2)))),
        (snapshot(**EDIT, metadata_version="2"), matched_by(registration())),
        (snapshot(source="update"), matched_by(registration())),
    ],
    ids=["no workflow", "none is live", "another version", "rows can tell"],
)
def test_an_edited_thread_of_which_nobody_need_or_can_be_asked_is_held(found: ThreadSnapshot, match: object) -> None:
    held = look(found, circumstances(match=match))
    assert (held.judgement.verdict, held.placement.state, held.placement.due_at) == (Verdict.EDITED, State.HELD, None)


def test_a_person_who_edits_is_left_alone_until_the_thread_is_quiet() -> None:
    found = snapshot(**EDIT)
    made_quiet = circumstances().now - timedelta(hours=1) + MIN_AGE
    for moment, state in ((made_quiet - SECOND, State.HELD), (made_quiet, State.DUE)):
        match = matched_by(registration(seen_at=moment))
        assert look(found, circumstances(now=moment, match=match)).placement.state is state


def test_what_a_sibling_has_saved_on_an_edited_head_makes_it_the_threads_own_again_after_min_age() -> None:
    before, since = snapshot(**EDIT), snapshot(**EDIT, ran_since=True)
    assert judge_snapshot(since, circumstances()).verdict is Verdict.STOPPED
    known = case_of(before, verdict=Verdict.EDITED, refusal=Verdict.EDITED, refusal_reason="asked", refused_by=("1",))
    assert look(since, circumstances(known=known)).judgement.verdict is Verdict.RUNNING
    later = circumstances(known=known, now=NOW)
    assert look(since, later).judgement.until == NOW + MIN_AGE


def test_what_a_person_edited_inside_a_subgraph_is_held_and_the_graph_is_asked_once() -> None:
    found = snapshot(edited_inside=("outer:1|inner:2",))
    asked = look(found, circumstances())
    assert (asked.judgement.verdict, asked.judgement.unsure, asked.placement.state) == (Verdict.EDITED, True, State.DUE)
    assert "outer|inner" in asked.judgement.reason
    known = case_of(found, verdict=Verdict.EDITED, refusal=Verdict.EDITED, refusal_reason="asked", refused_by=("1",))
    told = look(found, circumstances(known=known))
    assert (told.judgement.verdict, told.judgement.unsure, told.placement.state) == (Verdict.EDITED, False, State.HELD)
    gone_on = look(snapshot(), circumstances(known=known, now=NOW + MIN_AGE))
    assert gone_on.judgement.verdict in (Verdict.STOPPED, Verdict.RUNNING)
    assert found.fingerprint != snapshot().fingerprint


def test_an_edit_inside_a_finished_thread_leaves_it_finished() -> None:
    assert (
        judge_snapshot(snapshot(edited_inside=("inner",), updated_channels=("told",)), circumstances()).verdict
        is Verdict.FINISHED
    )


def test_rows_of_an_ordinary_head_that_are_no_control_rows_are_no_sign_of_life() -> None:
    assert ThreadSnapshot(head(ran_since=True), ()).fingerprint == ThreadSnapshot(head(), ()).fingerprint
