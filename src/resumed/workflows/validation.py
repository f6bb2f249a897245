"""What each field of a registration may be: a function for each kind returns the value or raises."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from resumed import durations
from resumed.errors import RegistrationError
from resumed.model import PruneStrategy

Check = Callable[[str, Any], Any]

_LARGEST = 2**31 - 1
_LONGEST_VERSION = 200


def duration(name: str, value: Any) -> timedelta:
    """Accept a timedelta or text such as `30s`; return a timedelta."""
    if isinstance(value, timedelta):
        if not timedelta(0) <= value <= durations.LONGEST:
            raise RegistrationError(f"{name} must be from 0s to {durations.LONGEST.days} days")
        return value
    if not isinstance(value, str):
        raise RegistrationError(f"{name} must be a timedelta or text such as '30s', not {type(value).__name__}")
    try:
        return durations.parse_duration(value)
    except ValueError as error:
        raise RegistrationError(f"{name}: {error}") from None


def positive_duration(name: str, value: Any) -> timedelta:
    """Accept a duration that is longer than zero."""
    accepted = duration(name, value)
    if not accepted:
        raise RegistrationError(f"{name} must be longer than 0s")
    return accepted


def backoff(name: str, value: Any) -> Any:
    """Accept a base and a cap, or a callable from the number of failures to a duration."""
    if callable(value):
        return value
    if not isinstance(value, tuple) or len(value) != 2:  # noqa: PLR2004 - a base and a cap
        raise RegistrationError(f"{name} must be a base and a cap such as ('30s', '1h'), or a callable")
    base, cap = duration(name, value[0]), duration(name, value[1])
    if base > cap:
        raise RegistrationError(f"{name} has a base above its cap")
    return base, cap


def count(name: str, value: Any) -> int:
    """Accept a whole number from 1 on."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LARGEST:
        raise RegistrationError(f"{name} must be a whole number from 1 to {_LARGEST}, not {value!r}")
    return value


def version(name: str, value: Any) -> str:
    """Accept text that metadata and Postgres can hold."""
    if not isinstance(value, str) or not value or "\0" in value or len(value) > _LONGEST_VERSION:
        raise RegistrationError(f"{name} must be text of 1 to {_LONGEST_VERSION} characters without NUL")
    return value


def versions(name: str, value: Any) -> tuple[str, ...]:
    """Accept a list of versions."""
    return tuple(version(name, item) for item in _list_of(name, value))


def names(name: str, value: Any) -> tuple[str, ...]:
    """Accept a list of names."""
    accepted = tuple(_list_of(name, value))
    if not all(isinstance(item, str) and item for item in accepted):
        raise RegistrationError(f"{name} must hold names, each text that is not empty")
    return accepted


def node_names(name: str, value: Any) -> Any:
    """Accept a list of nodes, or `"*"` for all."""
    if value == "*":
        return value
    accepted = names(name, value)
    if "*" in accepted:
        raise RegistrationError(f'{name} must be "*" itself, not a list with it, to mean every node')
    return accepted


def retry_rule(name: str, value: Any) -> Any:
    """Accept an exception class, several, or a predicate; return a tuple of classes or the predicate."""
    kinds = value if isinstance(value, list | tuple) else [value]
    if all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
        return tuple(kinds)
    if callable(value) and not isinstance(value, type):
        return value
    raise RegistrationError(f"{name} must be exception classes, or a callable that takes the exception")


def function(name: str, value: Any) -> Any:
    """Accept anything that can be called."""
    if not callable(value):
        raise RegistrationError(f"{name} must be callable, not {type(value).__name__}")
    return value


def call_mode(name: str, value: Any) -> str:
    """Accept one of the two ways in which a graph can be called."""
    if value not in ("sync", "async"):
        raise RegistrationError(f"{name} must be 'sync' or 'async', not {value!r}")
    return str(value)


def retention_strategy(name: str, value: Any) -> str:
    """Accept one of the two things that can become of finished threads."""
    if value not in tuple(PruneStrategy):
        raise RegistrationError(f"{name} must be 'keep_latest' or 'delete', not {value!r}")
    return str(value)


def boolean(name: str, value: Any) -> bool:
    """Accept True or False."""
    if not isinstance(value, bool):
        raise RegistrationError(f"{name} must be True or False")
    return value


def _list_of(name: str, value: Any) -> Sequence[Any]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise RegistrationError(f"{name} must be a list, not {type(value).__name__}")
    return value
