"""What a message says, how it is signed, and when the next one may be sent."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumed.judge.webhook import (
    EXAMPLES,
    MOST_GROUPS,
    Gathered,
    NoticeGroup,
    known_open,
    pause_after_failure,
    sign_message,
)

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
# The vector of Standard Webhooks' own libraries: the key is what its secret stands for.
KEY = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
groups = st.builds(
    NoticeGroup,
    type=st.sampled_from(["case.quarantined", "case.waiting", "circuit.opened", "workflow.paused"]),
    workflow=st.none() | st.text(max_size=300),
    notices=st.integers(1, 10_000),
    first_at=st.just(NOW),
    last_at=st.just(NOW + MINUTE),
    threads=st.lists(st.text(max_size=300), max_size=12).map(tuple),
)


def group(
    kind: str = "case.quarantined", workflow: str | None = "orders", notices: int = 1, *threads: str
) -> NoticeGroup:
    return NoticeGroup(kind, workflow, notices, NOW, NOW, threads)


def test_notices_of_one_kind_and_workflow_are_one_entry_with_count_and_examples() -> None:
    first = group("case.quarantined", "orders", 700, *(f"t{n}" for n in range(8)))
    second = NoticeGroup("case.quarantined", "orders", 300, NOW + MINUTE, NOW + 2 * MINUTE, ("t1", "u1", "u2", "u3"))
    paused = group("workflow.paused", None)
    message = json.loads(Gathered().with_groups([first]).with_groups([second, paused]).to_message())
    assert message == {
        "type": "notices.collected",
        "timestamp": "2026-11-26T12:02:00.000Z",
        "data": {
            "notices": [
                {
                    "type": "case.quarantined",
                    "workflow": "orders",
                    "count": 1000,
                    "first_at": "2026-11-26T12:00:00.000Z",
                    "last_at": "2026-11-26T12:02:00.000Z",
                    "threads": ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "u1", "u2"],
                    "more": 990,
                },
                {
                    "type": "workflow.paused",
                    "workflow": None,
                    "count": 1,
                    "first_at": "2026-11-26T12:00:00.000Z",
                    "last_at": "2026-11-26T12:00:00.000Z",
                },
            ],
            "left_out": 0,
        },
    }


@given(st.lists(st.lists(groups, max_size=70), max_size=3))
def test_whatever_ids_and_names_there_are_a_message_is_small_ascii_json_that_counts_all(
    pages: list[list[NoticeGroup]],
) -> None:
    gathered = Gathered()
    for page in pages:
        gathered = Gathered.from_text(gathered.with_groups(page).to_text())
    total = sum(one.notices for page in pages for one in page)
    assert gathered.notices == total
    assert len(gathered.groups) <= MOST_GROUPS
    if not total:
        assert gathered.to_text() == ""
        return
    body = gathered.to_message()
    assert body.isascii()
    assert len(body) < 200_000
    data = json.loads(body)["data"]
    assert sum(one["count"] for one in data["notices"]) + data["left_out"] == total
    assert all(len(one.get("threads", [])) <= EXAMPLES for one in data["notices"])


def test_an_id_that_is_no_text_is_no_unpaired_surrogate_in_the_message() -> None:
    body = Gathered().with_groups([group("case.waiting", "a\udcff", 1, "b\udcff")]).to_message()
    assert "\\ud" not in body


def test_there_is_room_for_many_long_ids_but_not_for_all() -> None:
    full = Gathered().with_groups(
        group("case.waiting", f"w{n}", 10, *(f"{n} {m} " + "\N{GRINNING FACE}" * 190 for m in range(10)))
        for n in range(MOST_GROUPS)
    )
    body = full.to_message()
    assert len(body) < 25_000
    assert sum(one["more"] for one in json.loads(body)["data"]["notices"]) > 480


def test_the_signature_is_that_of_standard_webhooks() -> None:
    body = '{"test": 2432232314}'
    signature = sign_message([KEY], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    both = sign_message([b"x" * 24, KEY], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert both.split(" ")[1] == signature


@pytest.mark.parametrize(
    ("failures", "draw", "asked", "pause"),
    [
        (1, 0.0, None, MINUTE),
        (1, 1.0, None, MINUTE),
        (2, 0.0, None, 2 * MINUTE),
        (2, 1.0, None, MINUTE),
        (4, 0.5, None, 6 * MINUTE),
        (7, 0.0, None, HOUR),
        (10_000, 0.0, None, HOUR),
        (10_000, 1.0, None, HOUR / 2),
        (1, 0.0, 10 * MINUTE, 10 * MINUTE),
        (1, 0.0, timedelta(days=999), HOUR),
        (4, 0.0, MINUTE, 8 * MINUTE),
    ],
)
def test_the_pause_doubles_up_to_an_hour_and_is_never_shorter_than_a_minute(
    failures: int, draw: float, asked: timedelta | None, pause: timedelta
) -> None:
    assert pause_after_failure(failures, draw, MINUTE, asked) == pause


def test_a_circuit_is_told_once_until_it_has_closed_and_of_one_that_is_not_seen_nothing_is_known() -> None:
    assert known_open([], ["a", "b"], ["a"]) == {"a"}
    assert known_open(["a"], ["a", "b"], ["a"]) == {"a"}
    assert known_open(["a"], ["b"], []) == {"a"}
    assert known_open(["a"], ["a", "b"], ["b"]) == {"b"}
