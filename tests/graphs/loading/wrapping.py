"""Wraps what it traces, as tracing tools do; nothing works otherwise than before."""

import functools
import threading
import time
from typing import Any

from loading import graph


def traced(function: Any) -> Any:
    @functools.wraps(function)
    def call(*given: Any, **named: Any) -> Any:
        return function(*given, **named)

    return call


threading.Thread.start = traced(threading.Thread.start)  # type: ignore[method-assign]
time.sleep = traced(time.sleep)
seen = graph()
