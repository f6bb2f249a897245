"""Which policy a workflow has, and what rows alone say against pruning a thread."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from resumed import Workflow
from resumed.errors import RegistrationError
from resumed.judge.checkpoint_id import first_at
from resumed.judge.retention import PrunePolicy, grouped_policies, needs_graph_to_prune, policy_of, prune_refusal
from resumed.judge.verdict import ANY_CHANNEL, Ages, Circumstances, ThreadSnapshot, judge_snapshot
from resumed.judge.workflow_match import WorkflowMatch
from resumed.model import Case, PolicyLimits, PruneStrategy, Refusal, Registration, State, Verdict
from resumed.rows import Head, Run

NOW = datetime(2026, 5, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LIMITS = PolicyLimits(HOUR, DAY, 5, 5, HOUR, HOUR, HOUR, 4)
ORDERS = Registration("orders", "1", (), (), LIMITS, NOW)
KEEP, DELETE = PruneStrategy.KEEP_LATEST, PruneStrategy.DELETE


def snapshot(age: timedelta = 40 * DAY, **fields: Any) -> ThreadSnapshot:
    made = first_at(NOW - age)
    head = Head("orders_1", made, made, stub=False, source="loop", updated_channels=("total",), null_channels=(),
        metadata_workflow="orders", metadata_graph=None, metadata_version=None, metadata_attempt=None)  # fmt: skip
    return ThreadSnapshot(replace(head, **fields), ())


def case(**fields: Any) -> Case:
    made = Case("orders_1", "orders", None, Verdict.FINISHED, "", State.CLOSED, "other", "", NOW, NOW, None, None, None,
        1, 0, 1)  # fmt: skip
    return replace(made, **fields)


def refusal(found: ThreadSnapshot, retain: timedelta = 30 * DAY, **fields: Any) -> Refusal | None:
    registration = fields.pop("registration", ORDERS)
    around = Circumstances(NOW, WorkflowMatch("orders", (registration,)), Ages(HOUR, DAY), **fields)
    return prune_refusal(found, around, judge_snapshot(found, around), retain)


def test_a_workflows_own_word_goes_before_the_settings() -> None:
    own = replace(ORDERS, retention=DELETE, retain=HOUR)
    assert policy_of(own, DAY, KEEP) == PrunePolicy("orders", DELETE, HOUR)
    assert policy_of(replace(own, retain=None), DAY, KEEP) == PrunePolicy("orders", DELETE, DAY)
    assert policy_of(replace(own, retain=None), None, KEEP) == PrunePolicy("orders", DELETE, 30 * DAY)
    assert policy_of(ORDERS, DAY, KEEP) == PrunePolicy("orders", KEEP, DAY)
    assert policy_of(ORDERS, None, DELETE) is None


def test_policies_that_share_a_time_are_looked_for_together_and_any_change_begins_anew() -> None:
    a, b, c = PrunePolicy("a", KEEP, DAY), PrunePolicy("b", DELETE, DAY), PrunePolicy("c", KEEP, HOUR)
    short, long = grouped_policies([a, b, c])
    assert (set(short.policies), set(long.policies)) == ({"c"}, {"a", "b"})
    keys = {
        one.key for parts in ([a], [b], [c], [a, b], [replace(a, strategy=DELETE)]) for one in grouped_policies(parts)
    }
    assert len(keys) == 5
    assert grouped_policies([b, a])[0].key == long.key


def test_a_finished_thread_that_has_been_quiet_for_long_enough_is_pruned() -> None:
    assert refusal(snapshot()) is None
    assert refusal(snapshot(), known=case()) is None
    assert refusal(snapshot(29 * DAY)) is Refusal.RECENT
    assert refusal(snapshot(30 * timedelta(minutes=1)), retain=timedelta(minutes=1)) is Refusal.RECENT  # min_age


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"updated_channels": ("branch:to:pay",)}, Refusal.UNFINISHED),
        ({"null_channels": ("branch:to:pay",)}, Refusal.UNFINISHED),
        ({"edited_inside": ("child:1",)}, Refusal.EDITED),
        ({"newest_id": first_at(NOW - DAY)}, Refusal.RECENT),
        ({"run": Run("orders_1", "1", "orders", None, "open", "", None, NOW, has_input=False)}, Refusal.OPEN_RUN),
        ({"checkpoint_id": "odd", "newest_id": "odd"}, Refusal.RECENT),
    ],
)
def test_what_rows_say_against_it(fields: dict[str, Any], expected: Refusal) -> None:
    assert refusal(snapshot(**fields)) is expected


def test_what_is_beside_the_rows_says_against_it() -> None:
    assert refusal(snapshot(), lock_held=True) is Refusal.LOCKED
    for state in set(State) - {State.CLOSED}:
        assert refusal(snapshot(), known=case(state=state)) is Refusal.OPEN_CASE
    seen = case(
        head="odd", head_seen_at=NOW - 31 * DAY, fingerprint=snapshot(checkpoint_id="odd", newest_id="odd").fingerprint
    )
    assert refusal(snapshot(checkpoint_id="odd", newest_id="odd"), known=seen) is None


def test_where_rows_cannot_tell_the_graph_is_asked_however_old_the_thread_is() -> None:
    unsure = snapshot(updated_channels=None)
    assert judge_snapshot(unsure, Circumstances(NOW, WorkflowMatch("orders", (ORDERS,)), Ages(HOUR, DAY))).verdict is (
        Verdict.EXPIRED
    )
    assert refusal(unsure) is None
    assert refusal(snapshot(updated_channels=None, source="update")) is None
    dynamic = replace(ORDERS, triggers=(ANY_CHANNEL,))
    assert refusal(snapshot(), registration=dynamic) is None
    around = Circumstances(NOW, WorkflowMatch("orders", (dynamic,)), Ages(HOUR, DAY))
    assert needs_graph_to_prune(snapshot(), around)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"retention": "keep"}, "retention must be 'keep_latest' or 'delete'"),
        ({"retain": "7d"}, "retain has no effect without retention"),
        ({"retention": "delete", "retain": "0s"}, "retain must be longer than 0s"),
        ({"retention": "delete", "retain": 7}, "retain must be a timedelta"),
    ],
)
def test_an_impossible_retention_is_refused_at_once(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(RegistrationError, match=said):
        Workflow(graph=None, **fields)


def test_a_retention_is_taken_as_it_is_written() -> None:
    made = Workflow(graph=None, retention="keep_latest", retain="7d")
    assert (made.retention, made.retain) == ("keep_latest", 7 * DAY)
