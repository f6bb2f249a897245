"""Watches which classes values are loaded as: a value whose class is gone is a plain dict, and LangGraph is silent.

A run would go on with that dict and save it. Here only names are noted; preflight decides whether it matters.
"""

import copy
import importlib
import os
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from functools import lru_cache
from inspect import isclass
from typing import Any

import ormsgpack
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from resumed.runtime.fenced_saver import FencedSaver
from resumed.runtime.langgraph_internals import (
    CLASS_CODES,
    SerdeEvent,
    register_serde_event_listener,
    serde_allowlist_of,
)
from resumed.workflows.loaded_workflow import Graph

_LOADING: ContextVar[set[str] | None] = ContextVar("resumed_loading", default=None)


class ClassWatchingSerializer(SerializerProtocol):
    """Loads as another serializer does, and notes in `lost` each class whose values did not come back as its own."""

    def __init__(self, inner: SerializerProtocol, lost: set[str]) -> None:
        """Watch `inner`."""
        self._inner = inner
        self._lost = lost

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        """Save as the watched serializer does."""
        return self._inner.dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """Load as the watched serializer does; a module that exits as it is imported fails this load only."""
        before = _LOADING.set(self._lost)
        try:
            if isinstance(self._inner, JsonPlusSerializer) and data[0] == "msgpack":
                ormsgpack.unpackb(data[1], ext_hook=self._compare, option=ormsgpack.OPT_NON_STR_KEYS)
            return self._inner.loads_typed(data)
        except SystemExit as error:
            message = "a module of the state's classes ended the process as it was imported"
            raise ImportError(message) from error
        finally:
            _LOADING.reset(before)

    def _compare(self, code: int, data: bytes) -> None:
        """Compare one value, and first all within it, with what it is loaded as."""
        parts = ormsgpack.unpackb(data, ext_hook=self._compare, option=ormsgpack.OPT_NON_STR_KEYS)
        if code not in CLASS_CODES:
            return
        wanted = _import_class(parts[0], parts[1])
        packed = ormsgpack.packb(ormsgpack.Ext(code, data))
        if wanted is None or (isclass(wanted) and not isinstance(self._inner.loads_typed(("msgpack", packed)), wanted)):
            self._lost.add(f"{parts[0]}.{parts[1]}")
        elif twin := _find_twin(parts[0], parts[1], wanted):
            self._lost.add(twin)


def watch_classes(saver: FencedSaver, graphs: Iterable[Graph], lost: set[str]) -> FencedSaver:
    """Return a saver that loads for these graphs, an outer one first, and notes in `lost` which classes are gone."""
    for graph in graphs:
        if (allowed := serde_allowlist_of(graph)) is not None:
            saver = saver.with_allowlist(allowed)  # type: ignore[assignment]  # a copy of the same class
    watching = copy.copy(saver)
    watching.serde = _watch_serde(saver.serde, lost)
    return watching


def _watch_serde(serde: Any, lost: set[str]) -> Any:
    if not isinstance(serde, EncryptedSerializer):
        return ClassWatchingSerializer(serde, lost)
    watching = copy.copy(serde)
    watching.serde = _watch_serde(serde.serde, lost)
    return watching


def _on_serde_event(event: SerdeEvent) -> None:
    """Note a class in the value that is just being loaded; the only way to know where a serializer is the user's."""
    lost = _LOADING.get()
    if lost is None:
        return
    module, name = event["module"], event["name"]
    wanted = _import_class(module, name)
    if event["kind"] != "msgpack_unregistered_allowed" or wanted is None:
        lost.add(f"{module}.{name}")
    elif twin := _find_twin(module, name, wanted):
        lost.add(twin)


def _import_class(module: str, name: str) -> object | None:
    try:
        return getattr(importlib.import_module(module), name, None)
    except Exception:  # noqa: BLE001 - whatever an import raises: the class cannot be loaded
        return None


def _find_twin(module: str, name: str, wanted: object) -> str | None:
    """Name a class that exists twice, as its file was imported under two names: `isinstance` would fail."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if not isclass(wanted) or not isinstance(file, str):
        return None
    for other in _modules_by_file(len(sys.modules)).get(os.path.realpath(file), ()):
        twin = getattr(sys.modules.get(other), name, None)
        if isclass(twin) and twin is not wanted and twin.__module__ == other:
            return f"{module}.{name} (its file is also loaded as {other})"
    return None


@lru_cache(maxsize=1)
def _modules_by_file(_modules: int) -> dict[str, tuple[str, ...]]:
    """Map each file to the modules that were read from it; the number of loaded modules is the key of the cache."""
    found: dict[str, tuple[str, ...]] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str):
            path = os.path.realpath(file)
            found[path] = (*found.get(path, ()), name)
    return found


register_serde_event_listener(_on_serde_event)
