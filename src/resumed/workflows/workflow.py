"""Owns what a registration may say about a workflow: the graph, and the policy under which it is resumed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from resumed import durations
from resumed.errors import RegistrationError
from resumed.model import Numbers

Duration = timedelta | str
Backoff = tuple[Duration, Duration] | Callable[[int], Duration]
RetryOn = type[BaseException] | Sequence[type[BaseException]] | Callable[[BaseException], bool]
Breakpoints = Sequence[str] | str

_DURATIONS = ("min_age", "max_age", "timeout")
_COUNTS = ("max_attempts", "concurrency", "recursion_limit")


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """A graph with the policy under which the daemon resumes its threads.

    Durations are `timedelta` or text such as `"30s"`. What is left out takes the daemon's setting.

    Args:
        graph: A `StateGraph`, a compiled graph, or what `@entrypoint` returns.
        version: The version of this code. It is stamped into the threads that it runs.
        accepts: Other versions whose threads this code can resume. Default: none.
        min_age: Silence before a thread without proof of death is resumed. Default: `RESUMED_MIN_AGE`.
        max_age: Threads already quiet for longer when first seen are left alone. Default: `RESUMED_MAX_AGE`.
        max_attempts: Charged attempts without progress before quarantine. Default: `RESUMED_MAX_ATTEMPTS`.
        backoff: First step and cap of the exponential back-off, or a callable from the number of failures to the
            wait. Default: `RESUMED_RETRY_BASE` and `RESUMED_RETRY_CAP`.
        retry_on: Exception classes, or a predicate, that say which errors pass. Default: all are tried again.
        timeout: After this an attempt is stopped. Default: `RESUMED_ATTEMPT_TIMEOUT`.
        concurrency: Attempts at once in one worker. Default: `RESUMED_CONCURRENCY`.
        isolate: Always run alone, in the isolation worker. Default: False.
        interrupt_before: Nodes before which a run stops for a person, or `"*"`; for breakpoints given per call, which
            LangGraph does not store. Default: none.
        interrupt_after: Nodes after which it does. Default: none.
        recursion_limit: Supersteps of one attempt. Default: `RESUMED_RECURSION_LIMIT`.
        store: The store that the graph is given. Default: the graph's own.
        cache: The cache that the graph is given. Default: the graph's own.
        configurable: Names of the stored scalars that are given back as `config["configurable"]`. Default: all.
        context: A callable from the thread's id to the context of the run. Default: no context.
        serde: The serializer of the checkpoints. Default: LangGraph's.

    Raises:
        RegistrationError: A value is impossible; the message names it.
    """

    graph: Any
    version: str | None = None
    accepts: Sequence[str] = ()
    min_age: Duration | None = None
    max_age: Duration | None = None
    max_attempts: int | None = None
    backoff: Backoff | None = None
    retry_on: RetryOn | None = None
    timeout: Duration | None = None
    concurrency: int | None = None
    isolate: bool = False
    interrupt_before: Breakpoints = ()
    interrupt_after: Breakpoints = ()
    recursion_limit: int | None = None
    store: Any = None
    cache: Any = None
    configurable: Sequence[str] | None = None
    context: Callable[[str], Any] | None = None
    serde: Any = None

    def __post_init__(self) -> None:
        """Refuse what could only be noticed when a thread is at stake."""
        for name in _DURATIONS:
            _set(self, name, _duration(name, getattr(self, name)))
        if isinstance(self.backoff, tuple):
            _set(self, "backoff", tuple(_duration("backoff", one) for one in self.backoff))
        for name in _COUNTS:
            _check_count(name, getattr(self, name))
        _set(self, "version", _version("version", self.version))
        _set(self, "accepts", tuple(_version("accepts", one) for one in _listed("accepts", self.accepts)))
        for name in ("backoff", "context"):
            value = getattr(self, name)
            if value is not None and not callable(value) and not (name == "backoff" and _is_pair(value)):
                raise RegistrationError(f"{name} cannot be {value!r}: it must be callable")

    def numbers(self, defaults: Numbers) -> Numbers:
        """Give the policy as numbers, with the daemon's for what is left out."""
        base, cap = self.backoff if isinstance(self.backoff, tuple) else (None, None)
        own = {
            "min_age": self.min_age,
            "max_age": self.max_age,
            "max_attempts": self.max_attempts,
            "retry_base": base,
            "retry_cap": cap,
            "timeout": self.timeout,
            "concurrency": self.concurrency,
        }
        given: dict[str, Any] = {name: value for name, value in own.items() if value is not None}
        return replace(defaults, **given)


def _set(workflow: Workflow, name: str, value: object) -> None:
    object.__setattr__(workflow, name, value)


def _duration(name: str, value: object) -> timedelta | None:
    if value is None or isinstance(value, timedelta):
        if isinstance(value, timedelta) and value < timedelta(0):
            raise RegistrationError(f"{name} cannot be negative")
        return value
    if not isinstance(value, str):
        raise RegistrationError(f"{name} must be a timedelta or text such as '30s', not {type(value).__name__}")
    try:
        return durations.parse(value)
    except ValueError as error:
        raise RegistrationError(f"{name}: {error}") from None


def _check_count(name: str, value: object) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise RegistrationError(f"{name} must be a whole number of at least 1, not {value!r}")


def _version(name: str, value: object) -> str | None:
    if value is not None and (not isinstance(value, str) or not value):
        raise RegistrationError(f"{name} must be text that is not empty, not {value!r}")
    return value


def _listed(name: str, value: object) -> Sequence[str]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise RegistrationError(f"{name} must be a list of versions, not {value!r}")
    return value


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and None not in value  # noqa: PLR2004 - a base and a cap
