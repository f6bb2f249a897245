"""The limit of attempts in hand: it falls fast, rises slowly, and never reaches 0."""

from hypothesis import given
from hypothesis import strategies as st

from resumed.workers.session_limit import SessionLimit


def test_it_halves_once_for_all_sessions_that_are_refused_at_once() -> None:
    limit = SessionLimit(16)
    for at in (10.0, 10.1, 10.9):
        limit.lower(at)
    assert limit.current == 8
    limit.lower(11.0)
    assert limit.current == 4


def test_it_comes_back_one_by_one() -> None:
    limit = SessionLimit(16)
    limit.lower(0.0)
    limit.increase()
    assert limit.current == 9
    for _ in range(100):
        limit.increase()
    assert limit.current == 16


@given(st.integers(1, 64), st.lists(st.one_of(st.none(), st.floats(0, 1e6)), max_size=50))
def test_there_is_always_one_and_never_more_than_the_top(top: int, story: list[float | None]) -> None:
    limit = SessionLimit(top)
    for at in story:
        limit.increase() if at is None else limit.lower(at)
        assert 1 <= limit.current <= top
