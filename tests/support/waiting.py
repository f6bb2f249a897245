"""Waits for events with a deadline, never for a time."""

import time
from collections.abc import Callable
from typing import Any

import pytest

DEADLINE = 60.0
_LOOK = 0.02


def eventually(question: Callable[[], Any], deadline: float = DEADLINE) -> Any:
    """Ask until the answer is true; fails when the deadline has passed."""
    end = time.monotonic() + deadline
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > end:
            pytest.fail(f"not within {deadline} s: {question}")
        time.sleep(_LOOK)
