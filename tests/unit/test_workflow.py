"""What a registration may say: every impossible value is refused by name, before a thread is at stake."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from datetime import timedelta
from typing import Any

import pytest

from resumed.errors import RegistrationError
from resumed.model import PolicyLimits
from resumed.workflows.workflow import Workflow
from support.limits import DEFAULT_LIMITS

GRAPH = object()
SECOND = timedelta(seconds=1)


def _with(**fields: Any) -> Workflow:
    return Workflow(graph=GRAPH, **fields)


def test_what_is_left_out_says_nothing() -> None:
    workflow = _with()
    assert workflow.graph is GRAPH
    assert (workflow.version, workflow.accepts, workflow.isolate) == (None, (), False)
    assert (workflow.interrupt_before, workflow.interrupt_after) == ((), ())
    assert workflow.numbers(DEFAULT_LIMITS) == DEFAULT_LIMITS


def test_a_registration_cannot_be_changed_after_it_was_checked() -> None:
    with pytest.raises(FrozenInstanceError):
        _with().max_attempts = 0  # type: ignore[misc]


def test_every_number_that_is_given_takes_the_place_of_the_daemons() -> None:
    workflow = _with(
        min_age=SECOND, max_age=2 * SECOND, max_attempts=3, backoff=(4 * SECOND, 5 * SECOND), timeout=6 * SECOND,
        concurrency=7,
    )  # fmt: skip
    assert workflow.numbers(DEFAULT_LIMITS) == PolicyLimits(
        SECOND, 2 * SECOND, 3, DEFAULT_LIMITS.max_total_attempts, 4 * SECOND, 5 * SECOND, 6 * SECOND, 7
    )


@pytest.mark.parametrize(
    ("fields", "name", "expected"),
    [
        ({"min_age": "0s"}, "min_age", timedelta(0)),
        ({"min_age": timedelta(0)}, "min_age", timedelta(0)),
        ({"max_age": "7d"}, "max_age", timedelta(days=7)),
        ({"max_attempts": 1}, "max_attempts", 1),
        ({"timeout": "PT1H"}, "timeout", timedelta(hours=1)),
        ({"concurrency": 1}, "concurrency", 1),
        ({"backoff": ("0s", "0s")}, "retry_base", timedelta(0)),
        ({"backoff": ("1s", timedelta(minutes=1))}, "retry_cap", timedelta(minutes=1)),
    ],
)
def test_one_number_that_is_given_changes_no_other(fields: dict[str, Any], name: str, expected: object) -> None:
    numbers = _with(**fields).numbers(DEFAULT_LIMITS)
    assert getattr(numbers, name) == expected
    changed = {
        one for one in PolicyLimits.__dataclass_fields__ if getattr(numbers, one) != getattr(DEFAULT_LIMITS, one)
    }
    assert changed <= {name, "retry_base", "retry_cap"} if "backoff" in fields else changed == {name}


def test_a_callable_back_off_leaves_the_numbers_to_the_daemon_and_is_kept() -> None:
    def wait(failures: int) -> timedelta:
        return failures * SECOND

    workflow = _with(backoff=wait)
    assert workflow.backoff is wait
    assert workflow.numbers(DEFAULT_LIMITS) == DEFAULT_LIMITS


@pytest.mark.parametrize("name", ["min_age", "max_age", "timeout"])
def test_a_duration_may_be_text_and_is_then_a_timedelta(name: str) -> None:
    assert getattr(_with(**{name: "1h30m"}), name) == timedelta(hours=1, minutes=30)


def test_versions_may_be_given_in_any_sequence_and_are_kept_as_a_tuple() -> None:
    assert _with(version="2", accepts=["1", "1.5"]).accepts == ("1", "1.5")
    assert _with(version="2", accepts=("1",)).accepts == ("1",)


def test_what_is_not_checked_here_is_kept_as_it_is() -> None:
    def context(thread_id: str) -> str:
        return thread_id

    store, cache, serde = object(), object(), object()
    workflow = _with(
        store=store, cache=cache, serde=serde, context=context, isolate=True, interrupt_before="*",
        interrupt_after=("pack",), configurable=("tenant",), recursion_limit=9, retry_on=(ValueError, OSError),
    )  # fmt: skip
    assert (workflow.store, workflow.cache, workflow.serde, workflow.context) == (store, cache, serde, context)
    assert (workflow.isolate, workflow.interrupt_before, workflow.interrupt_after) == (True, "*", ("pack",))
    assert (workflow.configurable, workflow.recursion_limit) == (("tenant",), 9)
    assert workflow.retry_on == (ValueError, OSError)


def _short(value: object) -> str:
    """The value as it is written, where every process writes it the same."""
    return type(value).__name__ if " at 0x" in repr(value) else repr(value)[:40]


IMPOSSIBLE: list[tuple[str, Any]] = [
    *((name, value) for name in ("min_age", "max_age", "timeout") for value in (
        -SECOND, "-1s", "soon", "", "30", 30, 1.5, True, ("1s",), b"30s", "999999d",
    )),
    *((name, value) for name in ("max_attempts", "concurrency", "recursion_limit") for value in (
        0, -1, 1.0, 2.5, "3", True, False, [1], float("inf"),
    )),
    *(("version", value) for value in ("", 2, 1.5, ("1",), b"1", True)),
    *(("accepts", value) for value in ("1", 1, {"1"}, [1], [""], [b"1"], [["1"]], iter(["1"]))),
    *(("backoff", value) for value in (
        "30s", 30, SECOND, (), (SECOND,), (SECOND, SECOND, SECOND), ["1s", "1h"], (None, "1h"), ("1s", None),
        (1, 2), (-SECOND, SECOND), ("soon", "1h"), {"base": "1s"},
    )),
    *(("context", value) for value in ("context", 1, {"user": "bob"}, ())),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), IMPOSSIBLE, ids=_short)
def test_an_impossible_value_is_refused_by_the_name_of_its_field(name: str, value: Any) -> None:
    with pytest.raises(RegistrationError) as refused:
        _with(**{name: value})
    assert str(refused.value).startswith(name)
    assert "\n" not in str(refused.value)


def _fields(*fields: dict[str, Any]) -> list[Any]:
    return [pytest.param(one, id=repr(one)[:60]) for one in fields]


@pytest.mark.parametrize(
    "fields",
    [
        *_fields(
            {"interrupt_before": "approve"},
            {"interrupt_after": "approve"},
            {"interrupt_before": ["*"]},
            {"interrupt_after": ("*",)},
            {"interrupt_before": 5},
            {"interrupt_before": [None]},
            {"interrupt_after": None},
            {"interrupt_before": True},
            {"accepts": [None]},
            {"timeout": "0s"},
            {"timeout": timedelta(0)},
            {"min_age": timedelta.max},
            {"max_age": timedelta(days=36_501)},
            {"timeout": timedelta.max},
            {"backoff": ("1s", timedelta.max)},
            {"min_age": "2h", "max_age": "1h"},
            {"backoff": ("1h", "30s")},
            {"retry_on": "ValueError"},
            {"retry_on": [ValueError, 5]},
            {"retry_on": int},
            {"configurable": "tenant"},
            {"configurable": 5},
            {"configurable": [None]},
            {"isolate": "no"},
            {"isolate": None},
            {"version": "a\0b"},
            {"version": "x" * 201},
            {"accepts": ["x" * 201]},
            {"max_attempts": 2**31},
            {"concurrency": 2**40},
        ),
    ],
)  # fmt: skip
def test_what_could_only_be_noticed_when_a_thread_is_at_stake_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RegistrationError) as refused:
        _with(**fields)
    assert any(name in str(refused.value) for name in fields)


def test_a_graph_must_be_given() -> None:
    make: Callable[..., object] = Workflow
    with pytest.raises(TypeError, match="graph"):
        make()


def test_fields_are_given_by_name_and_a_misspelt_one_is_refused() -> None:
    make: Callable[..., object] = Workflow
    with pytest.raises(TypeError):
        make(GRAPH)
    with pytest.raises(TypeError, match="max_attempt"):
        make(graph=GRAPH, max_attempt=3)
