"""Registrations that are callables: what each asks for, and one call of it, whose context lives in a task apart.

The graphs that they make get our checkpointer in place of their own in each attempt; what the callables are given as
`checkpointer` is only a placeholder, and refuses to be used.
"""

import asyncio
import contextlib
import contextvars
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
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
    """A callable returned something other than a graph."""


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
    """Make a registration of a callable; raises RegistrationError where it asks for more than it is given."""
    return Factory(name, policy, make, _read_parameters(make)[1])


def factory_arguments(factory: Factory, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a callable asks for by name: `checkpointer`, and the config as LangGraph's own server passes it."""
    takes_checkpointer, config_as = _read_parameters(factory.make)
    given: dict[str, Any] = {"checkpointer": BaseCheckpointSaver()} if takes_checkpointer else {}
    return given | ({config_as: config} if config_as is not None else {})


def _read_parameters(make: Callable[..., Any]) -> tuple[bool, str | None]:
    """Return whether it takes a checkpointer, and the name under which it takes a config."""
    try:
        parameters = list(inspect.signature(make).parameters.values())
    except (TypeError, ValueError):
        return True, None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        named = [parameter for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD]
        required = [parameter for parameter in named if _is_required(parameter)]
        config_as = next((parameter.name for parameter in required if _takes_config(parameter)), None)
        _refuse_others(required, config_as)
        return True, config_as
    config_as = next((parameter.name for parameter in parameters if _takes_config(parameter)), None)
    _refuse_others([parameter for parameter in parameters if _is_required(parameter)], config_as)
    return any(parameter.name == "checkpointer" for parameter in parameters), config_as


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL


def _takes_config(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    type_name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return parameter.name == _CONFIG or type_name.rpartition(".")[2] == _CONFIG_TYPE


def _refuse_others(required: Sequence[inspect.Parameter], config_as: str | None) -> None:
    if names := [parameter.name for parameter in required if parameter.name not in ("checkpointer", config_as)]:
        raise RegistrationError(f"its callable asks for {', '.join(names)}: it is given `checkpointer` and `config`")


@dataclass(eq=False)
class FactoryInstance:
    """One call of a factory, and the context that it opened, until it is closed.

    The callable, the context that it returns, and all that this starts live in one task of their own, or in one thread
    where they are synchronous: a scope that they cancel is never ours. `on_lost` is called, before anything is closed,
    when the context ends by itself; from then on it has `ended`.
    """

    factory: Factory
    config: Mapping[str, Any]
    on_lost: Callable[["FactoryInstance"], None]
    workflow: "asyncio.Future[LoadedWorkflow]" = field(init=False)
    task: "asyncio.Task[None]" = field(init=False)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False

    def begin(self) -> "FactoryInstance":
        """Call the factory in a task of its own."""
        loop = asyncio.get_running_loop()
        self.workflow = loop.create_future()
        self.task = loop.create_task(self._run(), name=f"factory-{self.factory.name}")
        self.task.add_done_callback(self._on_task_done)
        return self

    async def close(self, patience: timedelta) -> bool:
        """Close the context in the task that entered it; return whether that ended within the patience."""
        self.closing.set()
        await asyncio.wait({self.task}, timeout=patience.total_seconds())
        return self.task.done()

    def error(self) -> BaseException | None:
        """Return what ended it, once it has ended."""
        return asyncio.CancelledError() if self.task.cancelled() else self.task.exception()

    def _on_task_done(self, _: "asyncio.Task[None]") -> None:
        self.ended, error = True, self.error()
        if not self.workflow.done():
            self.workflow.set_exception(error or RegistrationError("its callable ended without a graph"))
            self.workflow.exception()

    async def _run(self) -> None:
        """Call the factory and keep its context open; `sys.exit()` and the like are errors as any other."""
        try:
            if inspect.iscoroutinefunction(self.factory.make):
                await self._keep_open(await self._call(self._take_config()))
            else:
                await self._keep_thread(_ContextThread(partial(self._call, self._take_config())))
        except (SystemExit, KeyboardInterrupt) as error:
            raise RegistrationError(load_error(error)) from None

    def _take_config(self) -> Mapping[str, Any]:
        """Hand over the config: after the call, only the factory may still hold it."""
        config, self.config = self.config, {}
        return config

    def _call(self, config: Mapping[str, Any]) -> Any:
        return self.factory.make(**factory_arguments(self.factory, config))

    async def _keep_open(self, found: Any) -> None:
        """Enter what was made where it is a context, and keep it open."""
        if inspect.isawaitable(found) and not isinstance(found, AbstractAsyncContextManager):
            found = await found
        if isinstance(found, AbstractAsyncContextManager):
            async with found as made:
                await self._serve(made)
        elif isinstance(found, AbstractContextManager):
            await self._keep_thread(_ContextThread(lambda: found))
        else:
            await self._serve(found)

    async def _keep_thread(self, thread: "_ContextThread") -> None:
        """Keep a thread that makes something and, where that is a synchronous context, keeps it open."""
        try:
            found = await thread.start(f"factory-{self.factory.name}")
            await self._keep_open(found)
        finally:
            thread.close.set()
            await asyncio.shield(thread.ended)

    async def _serve(self, made: Any) -> None:
        """Provide the graph until the context is to be closed."""
        workflow = load_workflow(self.factory.name, self.factory.policy, made)
        if workflow is None:
            raise NoGraphError(f"its callable returned a {type(made).__name__}, not a graph")
        self.workflow.set_result(workflow)
        try:
            await self.closing.wait()
        except BaseException:
            self.ended = True
            self.on_lost(self)
            raise


class _ContextThread:
    """A thread that calls something, and enters and exits the synchronous context that this returns."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._to_make = [make]
        self.close = threading.Event()
        self.ended: asyncio.Future[None]
        self._found: asyncio.Future[Any]
        self._loop: asyncio.AbstractEventLoop

    def start(self, name: str) -> "asyncio.Future[Any]":
        """Start the thread; the future gets what the call returns or raises."""
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
                    self._set_result(self._found, made)
                    self.close.wait()
            else:
                self._set_result(self._found, found)
        except BaseException as error:  # noqa: BLE001 - SystemExit of user code too; set on the futures
            kept = RuntimeError("its callable raised StopIteration") if isinstance(error, StopIteration) else error
            for future in (self._found, self.ended):
                self._call_in_loop(future, partial(future.set_exception, kept))
        finally:
            self._set_result(self.ended, None)

    def _set_result(self, future: "asyncio.Future[Any]", value: Any) -> None:
        self._call_in_loop(future, partial(future.set_result, value))

    def _call_in_loop(self, future: "asyncio.Future[Any]", callback: Callable[[], None]) -> None:
        """Have the loop resolve a future that is not done; a closed loop has ended the process with it."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(lambda: None if future.done() else callback())
