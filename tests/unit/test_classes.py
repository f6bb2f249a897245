"""Values that come back as what they were are not noted, those that do not are; by any serializer, each its own."""

import importlib
import pickle
import re
import sys
import uuid
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from ipaddress import ip_address
from pathlib import Path
from threading import Barrier
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import ormsgpack
import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import EXT_CONSTRUCTOR_KW_ARGS, JsonPlusSerializer
from langgraph.types import Command, Interrupt, Overwrite, Send
from pydantic import BaseModel, SecretStr

from resumed.runtime.class_check import ClassWatchingSerializer


@dataclass
class Order:
    number: int
    parts: list[Any]


class Model(BaseModel):
    number: int


class Colour(Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


WHOLE = {
    "dataclass": Order(1, [Order(2, [])]),
    "pydantic": Model(number=1),
    "enum": Colour.RED,
    "named tuple": Point(1, 2),
    "secret": SecretStr("s"),
    "messages": [HumanMessage("hi", id="1"), AIMessage("yo"), ToolMessage("t", tool_call_id="1")],
    "document": Document("text"),
    "times": [
        datetime.now(UTC),
        date(2026, 1, 1),
        timedelta(1),
        ZoneInfo("UTC"),
        datetime.now(ZoneInfo("Europe/Rome")),
    ],
    "standard": [uuid.uuid4(), Decimal(1), {1, 2}, frozenset({1}), deque([1]), Path("here"), ip_address("::1")],
    "pattern": re.compile("a+"),
    "langgraph": [Send("a", Order(1, [])), Interrupt("why", id="1"), Command(goto="a"), Overwrite([1])],
    "keys": {uuid.UUID(int=1): 1, (1, 2): {Colour.RED: 3}},
    "plain": {"bytes": b"1", "none": None, "deep": [1, 2.5, "x", True]},
}


class Wrapped:
    """A serializer of the user's own around LangGraph's."""

    def __init__(self, meet: Barrier | None = None) -> None:
        self._inner, self._meet = JsonPlusSerializer(), meet

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return self._inner.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        if self._meet is not None:
            self._meet.wait(10)
        return self._inner.loads_typed(data)


def instance(module: str, name: str) -> tuple[str, bytes]:
    """Give what LangGraph saves of an instance of a dataclass."""
    inner = ormsgpack.packb((module, name, {"number": 1}))
    return "msgpack", ormsgpack.packb({"held": ormsgpack.Ext(EXT_CONSTRUCTOR_KW_ARGS, inner)})


@pytest.mark.parametrize("serde", [JsonPlusSerializer(), Wrapped()], ids=["LangGraph's", "the user's"])
@pytest.mark.parametrize("value", WHOLE.values(), ids=WHOLE.keys())
def test_what_comes_back_whole_is_not_noted(value: Any, serde: SerializerProtocol) -> None:
    lost: set[str] = set()
    watching = ClassWatchingSerializer(serde, lost)
    assert watching.loads_typed(watching.dumps_typed(value)) == serde.loads_typed(serde.dumps_typed(value))
    assert lost == set()


@pytest.mark.parametrize("serde", [JsonPlusSerializer(), Wrapped()], ids=["LangGraph's", "the user's"])
@pytest.mark.parametrize(("module", "name"), [("shop.absent", "Order"), (__name__, "Absent"), ("__main__", "Order")])
def test_a_class_that_cannot_be_had_is_noted_by_its_name(module: str, name: str, serde: SerializerProtocol) -> None:
    lost: set[str] = set()
    ClassWatchingSerializer(serde, lost).loads_typed(instance(module, name))
    assert lost == {f"{module}.{name}"}


def test_a_class_that_no_longer_takes_what_was_saved_is_noted() -> None:
    lost: set[str] = set()
    assert ClassWatchingSerializer(JsonPlusSerializer(), lost).loads_typed(instance(__name__, "Order")) == {
        "held": {"number": 1}
    }
    assert lost == {f"{__name__}.Order"}


def test_threads_that_load_side_by_side_note_each_its_own() -> None:
    meet = Barrier(8)
    lost: list[set[str]] = [set() for _ in range(8)]
    watching = [ClassWatchingSerializer(Wrapped(meet), one) for one in lost]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda pair: pair[1].loads_typed(instance("absent", f"C{pair[0]}")), enumerate(watching)))
    assert lost == [{f"absent.C{number}"} for number in range(8)]


class Ending:
    """Ends the process of whoever unpickles it, as a script that is imported does."""

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return exit, (3,)


def test_a_value_that_would_end_the_process_only_fails_to_load() -> None:
    watching = ClassWatchingSerializer(JsonPlusSerializer(pickle_fallback=True), set())
    with pytest.raises(ImportError):
        watching.loads_typed(("pickle", pickle.dumps(Ending())))


@pytest.mark.parametrize("serde", [JsonPlusSerializer(), Wrapped()], ids=["LangGraph's", "the user's"])
def test_a_class_whose_file_is_loaded_under_two_names_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serde: SerializerProtocol
) -> None:
    place = tmp_path / "outer" / "twice.py"
    place.parent.mkdir()
    place.write_text("from enum import Enum\nclass Review(Enum):\n    HELD = 'held'\n")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path), str(place.parent)])
    try:
        first = importlib.import_module("outer.twice")
        lost: set[str] = set()
        watching = ClassWatchingSerializer(serde, lost)
        packed = watching.dumps_typed({"held": first.Review.HELD})
        watching.loads_typed(packed)
        assert lost == set()
        importlib.import_module("twice")
        watching.loads_typed(packed)
        assert lost == {"outer.twice.Review (its file is also loaded as twice)"}
    finally:
        for name in ("twice", "outer.twice", "outer"):
            sys.modules.pop(name, None)
