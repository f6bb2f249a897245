"""Owns what each field of a registration may be: one function a kind, which gives the value or raises."""

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
    """Take a timedelta or text such as `30s`."""
    if isinstance(value, timedelta):
        if not timedelta(0) <= value <= durations.LONGEST:
            raise RegistrationError(f"{name} must lie between nothing and {durations.LONGEST.days} days")
        return value
    if not isinstance(value, str):
        raise RegistrationError(f"{name} must be a timedelta or text such as '30s', not {type(value).__name__}")
    try:
        return durations.parse_duration(value)
    except ValueError as error:
        raise RegistrationError(f"{name}: {error}") from None


def lasting(name: str, value: Any) -> timedelta:
    """Take a duration that is more than nothing."""
    given = duration(name, value)
    if not given:
        raise RegistrationError(f"{name} must be more than nothing")
    return given


def back_off(name: str, value: Any) -> Any:
    """Take a base and a cap, or a callable from the number of failures to a duration."""
    if callable(value):
        return value
    if not isinstance(value, tuple) or len(value) != 2:  # noqa: PLR2004 - a base and a cap
        raise RegistrationError(f"{name} must be a base and a cap such as ('30s', '1h'), or a callable")
    base, cap = duration(name, value[0]), duration(name, value[1])
    if base > cap:
        raise RegistrationError(f"{name} has a base above its cap")
    return base, cap


def count(name: str, value: Any) -> int:
    """Take a whole number from 1 on."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _LARGEST:
        raise RegistrationError(f"{name} must be a whole number from 1 to {_LARGEST}, not {value!r}")
    return value


def version(name: str, value: Any) -> str:
    """Take text that metadata and Postgres can hold."""
    if not isinstance(value, str) or not value or "\0" in value or len(value) > _LONGEST_VERSION:
        raise RegistrationError(f"{name} must be text of 1 to {_LONGEST_VERSION} characters without NUL")
    return value


def versions(name: str, value: Any) -> tuple[str, ...]:
    """Take a list of versions."""
    return tuple(version(name, one) for one in _listed(name, value))


def names(name: str, value: Any) -> tuple[str, ...]:
    """Take a list of names."""
    given = tuple(_listed(name, value))
    if not all(isinstance(one, str) and one for one in given):
        raise RegistrationError(f"{name} must hold names, each text that is not empty")
    return given


def nodes(name: str, value: Any) -> Any:
    """Take a list of nodes, or `"*"` for all."""
    if value == "*":
        return value
    given = names(name, value)
    if "*" in given:
        raise RegistrationError(f'{name} must be "*" itself, not a list with it, to mean every node')
    return given


def errors(name: str, value: Any) -> Any:
    """Take an exception class, several, or a predicate."""
    kinds = value if isinstance(value, list | tuple) else [value]
    if all(isinstance(one, type) and issubclass(one, BaseException) for one in kinds):
        return tuple(kinds)
    if callable(value) and not isinstance(value, type):
        return value
    raise RegistrationError(f"{name} must be exception classes, or a callable that takes the exception")


def function(name: str, value: Any) -> Any:
    """Take anything that can be called."""
    if not callable(value):
        raise RegistrationError(f"{name} must be callable, not {type(value).__name__}")
    return value


def face(name: str, value: Any) -> str:
    """Take one of the two ways in which a graph can be called."""
    if value not in ("sync", "async"):
        raise RegistrationError(f"{name} must be 'sync' or 'async', not {value!r}")
    return str(value)


def retention(name: str, value: Any) -> str:
    """Take one of the two things that can become of finished threads."""
    if value not in tuple(PruneStrategy):
        raise RegistrationError(f"{name} must be 'keep_latest' or 'delete', not {value!r}")
    return str(value)


def truth(name: str, value: Any) -> bool:
    """Take True or False."""
    if not isinstance(value, bool):
        raise RegistrationError(f"{name} must be True or False")
    return value


def _listed(name: str, value: Any) -> Sequence[Any]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise RegistrationError(f"{name} must be a list, not {type(value).__name__}")
    return value
