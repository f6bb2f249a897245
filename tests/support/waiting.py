"""Waits for events with a deadline, never for a time."""

import time
from collections.abc import Callable
from typing import Any

import pytest

DEADLINE = 60.0
_FIRST_LOOK, _LAST_LOOK = 0.02, 0.1  # seconds between two questions, at first and in the end: to ask costs as well
_SLOWER = 1.1


def eventually(question: Callable[[], Any], deadline: float = DEADLINE, *, last_look: float = _LAST_LOOK) -> Any:
    """Ask until the answer is true; fails when the deadline has passed.

    `last_look` is the longest time between two looks; what must be noticed at once is asked at one pace to the end.
    """
    end, look = time.monotonic() + deadline, _FIRST_LOOK
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > end:
            pytest.fail(f"not within {deadline} s: {question}")
        time.sleep(min(look, last_look))
        look *= _SLOWER
