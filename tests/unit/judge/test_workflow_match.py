"""Which workflow a thread belongs to, and which version of it may have the thread."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumed.judge.workflow_match import WorkflowMatch, accepts, match_workflow, workflow_name
from unit.judge.builders import NOW, SECOND, head, registration

NAMES = ("orders", "orders_eu", "orders-eu-west", "mail")
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("thread_id", "name"),
    [
        ("orders_1", "orders"),
        ("orders-1", "orders"),
        ("orders:1", "orders"),
        ("orders_", "orders"),
        ("orders_eu_1", "orders_eu"),
        ("orders_eu-1", "orders_eu"),
        ("orders_eu:1", "orders_eu"),
        ("orders_europe", "orders"),
        ("orders-eu-west_7", "orders-eu-west"),
        ("orders-eu-western", "orders"),
        ("mail:orders_1", "mail"),
        ("orders", None),
        ("orders1", None),
        ("orders.1", None),
        ("orders/1", None),
        ("Orders_1", None),
        ("my_orders_1", None),
        ("", None),
        ("5f0c7a4e-8d1b-4a66-9a40-2f1f0d3c9e11", None),
    ],
)
def test_the_longest_name_before_a_separator_names_the_thread(thread_id: str, name: str | None) -> None:
    assert workflow_name(head(thread_id=thread_id), NAMES, None) == name
    assert workflow_name(head(thread_id=thread_id), reversed(NAMES), None) == name


@pytest.mark.parametrize(
    ("workflow", "graph", "thread_id", "default", "name"),
    [
        ("mail", "orders", "orders_1", "spare", "mail"),
        (None, "mail", "orders_1", "spare", "mail"),
        (None, None, "mail_1", "spare", "mail"),
        (None, None, "something", "spare", "spare"),
        (None, None, "something", None, None),
        ("", "mail", "orders_1", None, "mail"),
        ("", "", "orders_1", None, "orders"),
    ],
)
def test_metadata_comes_before_the_thread_id_and_the_default_comes_last(
    workflow: str | None, graph: str | None, thread_id: str, default: str | None, name: str | None
) -> None:
    seen = head(thread_id=thread_id, metadata_workflow=workflow, metadata_graph=graph)
    assert workflow_name(seen, NAMES, default) == name


@pytest.mark.parametrize("field", ["metadata_workflow", "metadata_graph"])
def test_a_name_in_metadata_that_nobody_registered_is_not_replaced_by_another(field: str) -> None:
    found = match_workflow(head(thread_id="orders_1", **{field: "gone"}), [registration()], "orders")
    assert found == WorkflowMatch("gone", ())


@given(st.lists(st.text("ab_-:", min_size=1, max_size=5), unique=True), st.text("ab_-:", max_size=12))
def test_no_registered_name_that_fits_is_longer_than_the_one_chosen(names: list[str], thread_id: str) -> None:
    chosen = workflow_name(head(thread_id=thread_id), names, None)
    fitting = [name for name in names if thread_id[: len(name)] == name and thread_id[len(name) :][:1] in {*"_-:"}]
    assert (chosen in fitting) == bool(fitting)
    assert all(len(name) <= len(chosen or "") for name in fitting)


@pytest.mark.parametrize(
    ("own", "also", "version", "taken"),
    [
        ("2", (), "2", True),
        ("2", (), "1", False),
        ("2", ("1",), "1", True),
        ("2", ("1",), "2", True),
        ("2", ("1", "1.5"), "1.5", True),
        ("2", ("1",), "0", False),
        ("2", ("1",), "1.0", False),
        ("2", ("10",), "1", False),
        ("2", (), None, True),
        ("2", ("1",), None, True),
        ("1", (), "", True),
        ("1", ("2",), "", True),
        ("", (), None, True),
        ("", (), "1", True),
    ],
)
def test_a_version_takes_its_own_those_it_accepts_and_threads_that_name_none(
    own: str,
    also: tuple[str, ...],
    version: str | None,
    taken: bool,
) -> None:
    assert accepts(registration(version=own, accepts=also), version) is taken


@given(st.text(), st.lists(st.text()))
def test_a_thread_that_names_no_version_is_accepted_by_every_one(version: str, also: list[str]) -> None:
    assert accepts(registration(version=version, accepts=tuple(also)), None)


def test_a_match_holds_only_the_registrations_of_its_name_the_last_seen_first() -> None:
    older = registration(version="1", seen_at=NOW - MINUTE)
    newest = registration(version="2", seen_at=NOW)
    oldest = registration(version="3", seen_at=NOW - 2 * MINUTE)
    other = registration(name="mail")
    assert match_workflow(head(), [older, other, newest, oldest], None) == WorkflowMatch(
        "orders", (newest, older, oldest)
    )


def test_a_thread_without_a_name_is_claimed_by_nobody() -> None:
    assert match_workflow(head(thread_id="something"), [registration()], None) == WorkflowMatch(None, ())


def test_the_default_workflow_claims_what_has_no_name() -> None:
    assert match_workflow(head(thread_id="something"), [registration()], "orders") == WorkflowMatch(
        "orders", (registration(),)
    )


def test_a_default_workflow_that_is_not_registered_claims_nothing() -> None:
    assert match_workflow(head(thread_id="something"), [registration()], "spare") == WorkflowMatch("spare", ())


def test_only_what_was_seen_in_the_last_minute_is_live() -> None:
    fresh = registration(version="1", seen_at=NOW)
    late = registration(version="2", seen_at=NOW - MINUTE + SECOND)
    gone = registration(version="3", seen_at=NOW - MINUTE - SECOND)
    assert WorkflowMatch("orders", (fresh, late, gone)).live(NOW) == (fresh, late)


def test_the_last_seen_registration_that_accepts_the_version_rules_the_thread() -> None:
    second = registration(version="2", seen_at=NOW)
    first = registration(version="1", seen_at=NOW - SECOND)
    ancient = registration(version="1.1", accepts=("1",), seen_at=NOW - timedelta(days=7))
    found = WorkflowMatch("orders", (second, first, ancient))
    assert found.taker("2") is second
    assert found.taker("1") is first
    assert found.taker("1.1") is ancient
    assert found.taker(None) is second
    assert found.taker("0") is None
    assert WorkflowMatch("orders", ()).taker(None) is None
