"""A registration: the graph, and the policy under which its threads are resumed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from resumed.errors import RegistrationError
from resumed.model import PolicyLimits
from resumed.workflows import validation

Duration = timedelta | str
Backoff = tuple[Duration, Duration] | Callable[[int], Duration]
RetryOn = type[BaseException] | Sequence[type[BaseException]] | Callable[[BaseException], bool]
Breakpoints = Sequence[str] | str

_CHECKS: dict[str, validation.Check] = {
    "version": validation.version,
    "accepts": validation.versions,
    "min_age": validation.duration,
    "max_age": validation.positive_duration,
    "max_attempts": validation.count,
    "backoff": validation.backoff,
    "retry_on": validation.retry_rule,
    "timeout": validation.positive_duration,
    "concurrency": validation.count,
    "isolate": validation.boolean,
    "per_thread": validation.boolean,
    "interrupt_before": validation.node_names,
    "interrupt_after": validation.node_names,
    "recursion_limit": validation.count,
    "configurable": validation.names,
    "context": validation.function,
    "face": validation.call_mode,
    "retention": validation.retention_strategy,
    "retain": validation.positive_duration,
}
_OPTIONAL = frozenset(_CHECKS) - {"accepts", "isolate", "per_thread", "interrupt_before", "interrupt_after"}


@dataclass(frozen=True, kw_only=True)
class Workflow:
    """A graph with the policy under which the daemon resumes its threads.

    Durations are `timedelta` or text such as `"30s"`. What is left out takes the daemon's setting.

    Args:
        graph: A `StateGraph`, a compiled graph, what `@entrypoint` returns, or a callable or (async) context manager
            that makes one of these.
        version: The version of this code. It is stamped into the threads that it runs.
        accepts: Other versions whose threads this code can resume. Default: none.
        min_age: Silence before a thread without proof of death is resumed. Default: `RESUMED_MIN_AGE`.
        max_age: Threads already quiet for longer when first seen are left alone. Default: `RESUMED_MAX_AGE`.
        max_attempts: Charged attempts without progress before quarantine. Default: `RESUMED_MAX_ATTEMPTS`.
        backoff: First step and cap of the exponential back-off, or a callable from the number of failures to the
            wait. Default: `RESUMED_RETRY_BASE` and `RESUMED_RETRY_CAP`.
        retry_on: Exception classes, or a predicate, that say which errors pass; any other quarantines at once.
            Default: all are tried again, apart from `GraphRecursionError` and `InvalidUpdateError`.
        timeout: After this an attempt is stopped. Default: `RESUMED_ATTEMPT_TIMEOUT`.
        concurrency: Attempts at once in one worker. Default: `RESUMED_CONCURRENCY`.
        isolate: Always run alone, in the isolation worker. Default: False.
        interrupt_before: Nodes before which a run stops for a person, or `"*"`; for breakpoints given per call, which
            LangGraph does not store. Default: none.
        interrupt_after: Nodes after which it does. Default: none.
        recursion_limit: Supersteps of one attempt. Default: `RESUMED_RECURSION_LIMIT`.
        store: The store that the graph is given. Default: the graph's own.
        cache: The cache that the graph is given. Default: the graph's own.
        configurable: Names of the stored scalars that are restored as `config["configurable"]`. Default: all. Never
            restored are LangGraph's keys, our own and tracing keys.
        context: A callable from the thread's id to the context of the run. Default: no context.
        serde: The serializer of the checkpoints. Default: LangGraph's.
        per_thread: Whether a callable that takes `config` is called for each thread, with what the thread's call
            stored. False: once, with an empty config, where the graph is the same for every thread. Default: True.
        face: `"sync"` where the application calls `invoke`, `"async"` where it calls `ainvoke`, for graphs that can do
            only one. Default: as the registered run did, else `ainvoke`, and `invoke` where the graph refuses that
            before it has run anything.
        retention: What becomes of finished threads: `"keep_latest"` deletes all checkpoints but the newest,
            `"delete"` the whole thread. Default: as `RESUMED_PRUNE_OLDER_THAN` says, which by default is nothing.
        retain: How long after its last sign of life a finished thread is kept whole. Default:
            `RESUMED_PRUNE_OLDER_THAN`, 30 days where that is not set.

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
    per_thread: bool = True
    face: str | None = None
    retention: str | None = None
    retain: Duration | None = None

    def __post_init__(self) -> None:
        """Refuse impossible values now, rather than when a thread is resumed."""
        for name, check in _CHECKS.items():
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL:
                object.__setattr__(self, name, check(name, value))
        if isinstance(self.min_age, timedelta) and isinstance(self.max_age, timedelta) and self.min_age > self.max_age:
            message = "min_age is above max_age: no thread would ever be resumed"
            raise RegistrationError(message)
        if self.retain is not None and self.retention is None:
            message = 'retain has no effect without retention: add retention="keep_latest" or retention="delete"'
            raise RegistrationError(message)

    def numbers(self, defaults: PolicyLimits) -> PolicyLimits:
        """Return the policy as numbers, with the daemon's where the registration has none."""
        base, cap = self.backoff if isinstance(self.backoff, tuple) else (None, None)
        own: dict[str, Any] = {
            "min_age": self.min_age,
            "max_age": self.max_age,
            "max_attempts": self.max_attempts,
            "retry_base": base,
            "retry_cap": cap,
            "timeout": self.timeout,
            "concurrency": self.concurrency,
        }
        return replace(defaults, **{name: value for name, value in own.items() if value is not None})
