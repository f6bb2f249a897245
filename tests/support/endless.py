"""A value of a user's whose serialisation does not end before it is told to."""

import threading
from typing import Any

from pydantic import BaseModel


def endless_value() -> tuple[type[BaseModel], threading.Event, threading.Event]:
    """Return the class of such a value, what is set once one is being serialised, and what ends that."""
    inside, end = threading.Event(), threading.Event()

    class Endless(BaseModel):
        def model_dump(self, *_: Any, **__: Any) -> dict[str, Any]:
            inside.set()
            end.wait()
            return {}

    return Endless, inside, end
