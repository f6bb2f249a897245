"""How the tests themselves are dealt out to processes: the longest first, and none is left out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.durations import deal


def stretches(count: int, items: list[int]) -> list[list[int]]:
    """Cut a list as xdist does."""
    cut, left = [], list(items)
    for number in range(count):
        size = len(left) // (count - number)
        cut.append(left[:size])
        left = left[size:]
    return cut


@given(st.lists(st.sampled_from([0, 0, 0, 2, 3, 10, 50])), st.integers(1, 6))
def test_every_test_is_dealt_once(seconds: list[float], count: int) -> None:
    dealt = deal(range(len(seconds)), seconds, count)
    assert sorted(dealt) == list(range(len(seconds)))


@pytest.mark.parametrize("shorts", range(40, 44))
def test_each_process_begins_with_its_share_of_the_long_ones(shorts: int) -> None:
    seconds = [0.0] * shorts + [50, 30, 20, 20, 10, 10]
    cut = stretches(2, deal(range(len(seconds)), seconds, 2))
    costs = [[seconds[index] for index in one] for one in cut]
    assert [sum(one) for one in costs] == [70, 70]
    assert all(one == sorted(one, reverse=True) for one in costs)
    assert [index for one in cut for index in one if not seconds[index]] == list(range(shorts))
