"""The config that a factory is called with for one thread, and the record of what the factory read of it.

Two threads may share a graph only where everything that its factory read is the same for both. A factory that keeps the
config may read more of it when its nodes run, so a config that outlives the call counts as read entirely.
"""

import gc
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

Key = tuple[tuple[str, str, str], ...]


class ReadLog:
    """What was read of one config: names, or everything."""

    def __init__(self) -> None:
        """Start with nothing read."""
        self.names: set[str] = set()
        self.everything = False
        self._handed_out: weakref.WeakSet[RecordedConfig] = weakref.WeakSet()

    def hand_out(self, values: "RecordedConfig") -> None:
        """Note a mapping through which more may be read later."""
        self._handed_out.add(values)

    def close(self) -> None:
        """Count everything as read where the factory, or what it made, still holds the config."""
        if self._handed_out and not self.everything:
            gc.collect()
        self.everything = self.everything or bool(self._handed_out)

    def key(self, call: Mapping[str, Any]) -> Key:
        """Return what decides which graph a thread gets: names, types and values of what was read of its call."""
        names = sorted(call) if self.everything else sorted(self.names)
        return tuple((name, type(call.get(name)).__name__, repr(call.get(name))) for name in names)


class RecordedConfig(dict[str, Any]):
    """A dictionary that notes which of its names are read; iterating, copying or comparing reads all of them.

    It is never empty to a factory that only asks whether it is, since a thread id is always there.
    """

    __slots__ = ("__weakref__", "_log")

    def __init__(self, values: Mapping[str, Any], log: ReadLog) -> None:
        """Hold these values and note in `log` which are read."""
        super().__init__(values)
        self._log = log
        log.hand_out(self)

    def __hash__(self) -> int:  # type: ignore[override]
        """Hash by identity: a weak set of them is all that needs it."""
        return id(self)

    def __eq__(self, other: object) -> bool:
        """Compare as a dictionary does."""
        return self is other or (self._mark_all_read() and super().__eq__(other))

    def __ne__(self, other: object) -> bool:
        """Compare as a dictionary does."""
        return not self == other

    def __bool__(self) -> bool:
        """Reveal nothing of the call."""
        return True

    def __getitem__(self, name: str) -> Any:
        """Read one value."""
        self._log.names.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        """Read one value, or that it is not there."""
        self._log.names.add(name)
        return super().get(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        """Read one value and take it out."""
        self._log.names.add(name)
        return super().pop(name, *default)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Read one value, or put it there."""
        self._log.names.add(name)
        return super().setdefault(name, default)

    def __contains__(self, name: object) -> bool:
        """Read whether a value is there."""
        self._log.names.add(str(name))
        return super().__contains__(name)

    def copy(self) -> "RecordedConfig":
        """Copy it with the same record: LangChain copies the `configurable` of every config that it completes."""
        return RecordedConfig(
            {name: super(RecordedConfig, self).__getitem__(name) for name in dict.__iter__(self)}, self._log
        )

    def __iter__(self) -> Iterator[str]:
        """Read everything."""
        self._mark_all_read()
        return super().__iter__()

    def __reversed__(self) -> Iterator[str]:
        """Read everything."""
        self._mark_all_read()
        return super().__reversed__()

    def __len__(self) -> int:
        """Read everything."""
        self._mark_all_read()
        return super().__len__()

    def keys(self) -> Any:
        """Read everything."""
        self._mark_all_read()
        return super().keys()

    def values(self) -> Any:
        """Read everything."""
        self._mark_all_read()
        return super().values()

    def items(self) -> Any:
        """Read everything."""
        self._mark_all_read()
        return super().items()

    def popitem(self) -> Any:
        """Read everything."""
        self._mark_all_read()
        return super().popitem()

    def __or__(self, other: Any) -> Any:
        """Read everything."""
        return {**self, **other}

    def __ror__(self, other: Any) -> Any:
        """Read everything."""
        return {**other, **self}

    def __repr__(self) -> str:
        """Read everything."""
        self._mark_all_read()
        return super().__repr__()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Read everything; a deep copy or a pickle is a plain dictionary."""
        return dict, (dict(self.items()),)

    def _mark_all_read(self) -> bool:
        self._log.everything = True
        return True


def config_for(call: Mapping[str, Any], log: ReadLog) -> dict[str, Any]:
    """Build the config of one call of a factory from what the thread's call stored, its id included."""
    values = {name: value for name, value in call.items() if name != "thread_id"}
    return {
        "configurable": RecordedConfig(call, log),
        "metadata": RecordedConfig(values, log),
        "tags": [],
        "callbacks": None,
    }
