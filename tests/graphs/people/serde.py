"""Serializers that take their time, as large values do: what is saved later may then be stored earlier."""

import random
import time
from typing import Any

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer


class Slow(JsonPlusSerializer):
    """Takes 1 to 30 ms for each value."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        time.sleep(self.latency(obj))
        return super().dumps_typed(obj)

    def latency(self, _: Any) -> float:
        return random.uniform(0.001, 0.03)


class Late(Slow):
    """The worst of these cases: a person's answer takes 30 ms, everything else 1 ms."""

    def latency(self, value: Any) -> float:
        return 0.03 if isinstance(value, str) and value.startswith("answer") else 0.001


SERDES: dict[str, Any] = {"plain": None, "slow": Slow(), "late": Late()}
