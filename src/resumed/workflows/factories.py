"""Owns registrations that are callables: what each asks for, and one call of it, whose context lives in a task apart.

What they make is given our checkpointer in place of its own, attempt by attempt; what they are given as
`checkpointer` is only a placeholder, and refuses to be used.
"""

import asyncio
import contextlib
import contextvars
import inspect
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from resumed.errors import RegistrationError
from resumed.workflows.load_errors import load_error
from resumed.workflows.loaded_workflow import LoadedWorkflow, load_workflow
from resumed.workflows.workflow import Workflow

_CONFIG = "config"
_CONFIG_TYPE = "RunnableConfig"


class NoGraphError(RegistrationError):
    """A callable returned something else than a graph."""


@dataclass(frozen=True, slots=True)
class Factory:
    """A registration whose graph is made by calling it; `config_as` names the parameter that takes a config."""

    name: str
    policy: Workflow
    make: Callable[..., Any]
    config_as: str | None = None

    @property
    def per_thread(self) -> bool:
        """Return whether it is called for each thread with what its call stored."""
        return self.config_as is not None and self.policy.per_thread


def factory_of(name: str, policy: Workflow, make: Callable[..., Any]) -> Factory:
    """Take a callable as a registration; raises RegistrationError where it asks for what nobody gives it."""
    return Factory(name, policy, make, _asks(make)[1])


def factory_arguments(made: Factory, config: Mapping[str, Any]) -> dict[str, Any]:
    """Give a callable what it asks for by name: `checkpointer`, and the config as LangGraph's own server gives it."""
    takes_checkpointer, config_as = _asks(made.make)
    given: dict[str, Any] = {"checkpointer": BaseCheckpointSaver()} if takes_checkpointer else {}
    return given | ({config_as: config} if config_as is not None else {})


def _asks(make: Callable[..., Any]) -> tuple[bool, str | None]:
    """Return whether it takes a checkpointer, and the name under which it takes a config."""
    try:
        parameters = list(inspect.signature(make).parameters.values())
    except (TypeError, ValueError):
        return True, None
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        named = {one.name: one for one in parameters if one.kind is not one.VAR_KEYWORD}
        needed = [one for one in named.values() if _needed(one)]
        config_as = next((one.name for one in needed if _takes_config(one)), None)
        _refuse_more(one for one in needed if one.name not in ("checkpointer", config_as))
        return True, config_as
    config_as = next((one.name for one in parameters if _takes_config(one)), None)
    _refuse_more(one for one in parameters if _needed(one) and one.name not in ("checkpointer", config_as))
    return any(one.name == "checkpointer" for one in parameters), config_as


def _needed(one: inspect.Parameter) -> bool:
    return one.default is one.empty and one.kind is not one.VAR_POSITIONAL


def _takes_config(one: inspect.Parameter) -> bool:
    said = one.annotation if isinstance(one.annotation, str) else getattr(one.annotation, "__name__", "")
    return one.name == _CONFIG or said.rpartition(".")[2] == _CONFIG_TYPE


def _refuse_more(unknown: Any) -> None:
    if names := [one.name for one in unknown]:
        raise RegistrationError(f"its callable asks for {', '.join(names)}: it is given `checkpointer` and `config`")


@dataclass(eq=False)
class FactoryInstance:
    """One call of a factory, and the context that it opened, for as long as that is wanted.

    The callable, the context it returns, and whatever that starts live in one task of their own, or in one thread
    where they are synchronous: a scope that they cancel is never ours. `lost` is called, before anything is closed,
    when the context ends by itself; from then on it is `over`.
    """

    factory: Factory
    config: Mapping[str, Any]
    lost: Callable[["FactoryInstance"], None]
    workflow: "asyncio.Future[LoadedWorkflow]" = field(init=False)
    task: "asyncio.Task[None]" = field(init=False)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False

    def begin(self) -> "FactoryInstance":
        """Call the factory in a task of its own."""
        loop = asyncio.get_running_loop()
        self.workflow = loop.create_future()
        self.task = loop.create_task(self._live(), name=f"factory-{self.factory.name}")
        self.task.add_done_callback(self._ended)
        return self

    async def leave(self, patience: timedelta) -> bool:
        """Leave the context in the task that entered it; returns whether that ended within the patience."""
        self.leaving.set()
        await asyncio.wait({self.task}, timeout=patience.total_seconds())
        return self.task.done()

    def error(self) -> BaseException | None:
        """Return what ended it, once it has ended."""
        return asyncio.CancelledError() if self.task.cancelled() else self.task.exception()

    def _ended(self, _: "asyncio.Task[None]") -> None:
        self.over, error = True, self.error()
        if not self.workflow.done():
            self.workflow.set_exception(error or RegistrationError("its callable ended without a graph"))
            self.workflow.exception()

    async def _live(self) -> None:
        """Live to the end; what would end the process, such as `sys.exit()`, is an error like any other."""
        try:
            await self._call_and_stay()
        except (SystemExit, KeyboardInterrupt) as error:
            raise RegistrationError(load_error(error)) from None

    async def _call_and_stay(self) -> None:
        if inspect.iscoroutinefunction(self.factory.make):
            await self._settle(await self.factory.make(**factory_arguments(self.factory, self._taken())))
        else:
            await self._beside(_Held(partial(self._call, self._taken())))

    def _taken(self) -> Mapping[str, Any]:
        """Hand over the config; after the call nobody but the factory may still hold it."""
        config, self.config = self.config, {}
        return config

    def _call(self, config: Mapping[str, Any]) -> Any:
        return self.factory.make(**factory_arguments(self.factory, config))

    async def _settle(self, found: Any) -> None:
        """Enter what was made where it is a context, and stay in it."""
        if inspect.isawaitable(found) and not isinstance(found, AbstractAsyncContextManager):
            found = await found
        if isinstance(found, AbstractAsyncContextManager):
            async with found as made:
                await self._stay(made)
        elif isinstance(found, AbstractContextManager):
            await self._beside(_Held(lambda: found))
        else:
            await self._stay(found)

    async def _beside(self, held: "_Held") -> None:
        """Live beside a thread that makes something and, where that is a synchronous context, stays in it."""
        try:
            found = await held.start(f"factory-{self.factory.name}")
            await self._settle(found)
        finally:
            held.leave.set()
            await asyncio.shield(held.ended)

    async def _stay(self, made: Any) -> None:
        workflow = load_workflow(self.factory.name, self.factory.policy, made)
        if workflow is None:
            raise NoGraphError(f"its callable gave a {type(made).__name__}, not a graph")
        self.workflow.set_result(workflow)
        try:
            await self.leaving.wait()
        except BaseException:
            self.over = True
            self.lost(self)
            raise


class _Held:
    """A thread that calls something and enters and leaves, itself, the synchronous context that this returns."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._to_make = [make]
        self.leave = threading.Event()
        self.ended: asyncio.Future[None]
        self._found: asyncio.Future[Any]
        self._loop: asyncio.AbstractEventLoop

    def start(self, name: str) -> "asyncio.Future[Any]":
        """Begin; what comes out, or what was raised, comes through the future."""
        self._loop = asyncio.get_running_loop()
        self._found, self.ended = self._loop.create_future(), self._loop.create_future()
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._run,), name=name, daemon=True).start()
        return self._found

    def _run(self) -> None:
        try:
            found = self._to_make.pop()()
            if isinstance(found, AbstractContextManager) and not isinstance(found, AbstractAsyncContextManager):
                with found as made:
                    self._post(self._found, made)
                    self.leave.wait()
            else:
                self._post(self._found, found)
        except BaseException as error:  # noqa: BLE001 - SystemExit of user code too; told through the futures
            self._post_error(error)
        finally:
            self._post(self.ended, None)

    def _post(self, future: "asyncio.Future[Any]", value: Any) -> None:
        self._call(future, partial(future.set_result, value))

    def _post_error(self, error: BaseException) -> None:
        kept = RuntimeError("its callable raised StopIteration") if isinstance(error, StopIteration) else error
        for future in (self._found, self.ended):
            self._call(future, partial(future.set_exception, kept))

    def _call(self, future: "asyncio.Future[Any]", deed: Callable[[], None]) -> None:
        """Have the loop settle a future that is not settled; one that has ended has taken the process with it."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(lambda: None if future.done() else deed())
