"""The ceiling of attempts: it gives way fast, comes back slowly, and never falls to nothing."""

from hypothesis import given
from hypothesis import strategies as st

from resumed.workers.session_limit import SessionLimit


def test_it_halves_once_for_all_sessions_that_are_refused_at_once() -> None:
    ceiling = SessionLimit(16)
    for at in (10.0, 10.1, 10.9):
        ceiling.refused(at)
    assert ceiling.now == 8
    ceiling.refused(11.0)
    assert ceiling.now == 4


def test_it_comes_back_one_by_one() -> None:
    ceiling = SessionLimit(16)
    ceiling.refused(0.0)
    ceiling.served()
    assert ceiling.now == 9
    for _ in range(100):
        ceiling.served()
    assert ceiling.now == 16


@given(st.integers(1, 64), st.lists(st.one_of(st.none(), st.floats(0, 1e6)), max_size=50))
def test_there_is_always_one_and_never_more_than_the_top(top: int, story: list[float | None]) -> None:
    ceiling = SessionLimit(top)
    for at in story:
        ceiling.served() if at is None else ceiling.refused(at)
        assert 1 <= ceiling.now <= top
