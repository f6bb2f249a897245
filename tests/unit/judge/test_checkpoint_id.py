"""What a checkpoint id says of time, held against the ids that LangGraph really makes."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.base.id import UUID, uuid6

from resumed.judge.checkpoint_id import first_at, made_at, plausible_span
from unit.judge.builders import NOW, SECOND, id_at

EPOCH = datetime(1582, 10, 15, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
INSTANTS = st.datetimes(datetime(1583, 1, 1), datetime(5000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
NOISE = st.integers(0, (1 << 62) - 1)


def test_the_time_of_a_real_id_is_the_time_that_langgraph_put_in() -> None:
    for made in (uuid6() for _ in range(200)):
        assert made_at(str(made)) == EPOCH + timedelta(microseconds=made.time // 10)


def test_an_id_of_a_known_moment_tells_that_moment() -> None:
    # Written by LangGraph 1.2 for the nanosecond 1_700_000_000_123_456_700 of the Unix epoch.
    ticks = 1_700_000_000_123_456_700 // 100 + 0x01B21DD213814000
    made = str(UUID(int=(ticks >> 12) << 80 | (ticks & 0xFFF) << 64, version=6))
    assert made_at(made) == datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)


@given(st.integers(0, (1 << 128) - 1))
def test_any_uuid_6_tells_its_time_to_the_microsecond(number: int) -> None:
    made = UUID(int=number, version=6)
    assert made_at(str(made)) == EPOCH + timedelta(microseconds=made.time // 10)


@pytest.mark.parametrize(
    "other",
    [
        "",
        "1",
        "checkpoint-7",
        "not-a-uuid6-at-all",
        "c232ab00-9414-11ec-b3c8-9f6bdeced846",  # version 1
        "f47ac10b-58cc-4372-a567-0e02b2c3d479",  # version 4
        "018bcfe5-687b-7fff-8000-000000000000",  # version 7
        "1ee83b10-c0a8-6cc8-b3c8-9f6bdeced84",  # one digit short
        "1ee83b10-c0a8-6cc8-b3c8-9f6bdeced8466",  # one too many
        "1ee83b10c0a86cc8b3c89f6bdeced846",
        "1ee83b10-c0a8-6cc8-b3c8-9f6bdeced846\n",
        " 1ee83b10-c0a8-6cc8-b3c8-9f6bdeced846",
        "1ee83b10-c0a8-6cc8-b3c8-9f6bdeceg846",
        "\u0661ee83b10-c0a8-6cc8-b3c8-9f6bdeced846",  # a digit, but an Arabic one
    ],
)
def test_what_is_no_uuid_6_tells_no_time(other: str) -> None:
    assert made_at(other) is None


@given(INSTANTS)
def test_the_first_id_of_an_instant_tells_that_instant(instant: datetime) -> None:
    assert made_at(first_at(instant)) == instant


@given(INSTANTS, NOISE)
def test_no_id_of_an_instant_sorts_outside_of_it(instant: datetime, noise: int) -> None:
    made = id_at(instant, noise)
    assert first_at(instant) <= made < first_at(instant + MICROSECOND)


@given(INSTANTS, st.timedeltas(-MICROSECOND * 3, MICROSECOND * 3) | st.timedeltas(-100 * SECOND, 100 * SECOND), NOISE)
def test_a_window_keeps_exactly_the_ids_that_were_made_since_its_start(
    start: datetime, later: timedelta, noise: int
) -> None:
    assert (id_at(start + later, noise) >= first_at(start)) == (later >= timedelta(0))


@given(st.lists(INSTANTS, min_size=2, max_size=2, unique=True), NOISE, NOISE)
def test_text_sorts_ids_by_when_they_were_made(instants: list[datetime], one: int, another: int) -> None:
    ids = [id_at(instant, noise) for instant, noise in zip(sorted(instants), (one, another), strict=True)]
    assert sorted(ids) == ids
    assert made_at(ids[0]) < made_at(ids[1])


def test_real_ids_lie_between_the_first_ids_of_their_own_time_and_the_next() -> None:
    ids = [str(uuid6()) for _ in range(200)]
    assert sorted(ids) == ids
    for one in ids:
        made = made_at(one)
        assert made is not None
        assert first_at(made) <= one < first_at(made + MICROSECOND)


def test_the_first_id_is_the_same_in_every_time_zone() -> None:
    assert first_at(NOW.astimezone(timezone(timedelta(hours=9)))) == first_at(NOW)


@pytest.mark.parametrize("before", [EPOCH - SECOND, datetime(1, 1, 1, tzinfo=UTC)])
def test_an_instant_before_all_ids_gives_the_lowest_id(before: datetime) -> None:
    assert first_at(before) == first_at(EPOCH) == "00000000-0000-6000-0000-000000000000"


@pytest.mark.parametrize(
    ("made", "inside"),
    [
        (NOW, True),
        (NOW + timedelta(days=365), True),
        (datetime(1970, 1, 1, tzinfo=UTC), True),
        (datetime(1969, 12, 31, tzinfo=UTC), False),
        (NOW + timedelta(days=3651), False),
    ],
)
def test_an_id_is_plausible_from_the_unix_epoch_to_ten_years_ahead(made: datetime, inside: bool) -> None:
    lowest, highest = plausible_span(NOW)
    assert (lowest <= id_at(made) < highest) is inside


@pytest.mark.parametrize("other", ["", "1", "checkpoint-7", "f47ac10b-58cc-4372-a567-0e02b2c3d479"])
def test_a_text_that_tells_no_time_lies_outside_the_plausible_span(other: str) -> None:
    lowest, highest = plausible_span(NOW)
    assert not lowest <= other < highest
