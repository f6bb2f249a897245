"""Owns registrations that are callables: each is called once a worker, and its context is open as long as that lives.

What they make is given our checkpointer in place of its own, attempt by attempt; what they are given as
`checkpointer` is only a placeholder, and refuses to be used.
"""

import asyncio
import inspect
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from resumed.errors import RegistrationError
from resumed.workflows.loaded import LoadedWorkflow, loaded
from resumed.workflows.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Factory:
    """A registration whose graph is made by calling it."""

    name: str
    policy: Workflow
    make: Callable[..., Any]


async def opened(factory: Factory, contexts: AsyncExitStack, deadline: timedelta) -> LoadedWorkflow | str:
    """Call a factory; gives the workflow, or a sentence that says why there is none."""
    try:
        async with asyncio.timeout(deadline.total_seconds()):
            found = await _made(factory, contexts)
        workflow = loaded(factory.name, factory.policy, found)
    except RegistrationError as error:
        return str(error)
    except TimeoutError:
        return f"its callable did not return within {deadline.total_seconds():.0f} s"
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError):
            raise
        return f"its callable raised {type(error).__name__}"
    return workflow or f"its callable gave a {type(found).__name__}, not a graph"


async def _made(factory: Factory, contexts: AsyncExitStack) -> object:
    given = arguments(factory.make)
    if inspect.iscoroutinefunction(factory.make):
        found = await factory.make(**given)
    else:
        found = await asyncio.to_thread(factory.make, **given)
        found = await found if inspect.isawaitable(found) else found
    if isinstance(found, AbstractAsyncContextManager):
        return await contexts.enter_async_context(found)
    if isinstance(found, AbstractContextManager):
        return await contexts.enter_async_context(_Threaded(found))
    return found


def arguments(make: Callable[..., Any]) -> dict[str, Any]:
    """Give a callable what it asks for by name: `checkpointer`, and `config` as LangGraph's own server gives it.

    Raises RegistrationError where it asks for more.
    """
    offered: dict[str, Any] = {"checkpointer": BaseCheckpointSaver(), "config": {"configurable": {}}}
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):
        return {"checkpointer": offered["checkpointer"]}
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return {"checkpointer": offered["checkpointer"]}
    needed = [one.name for one in parameters if one.default is one.empty and one.kind is not one.VAR_POSITIONAL]
    if unknown := [name for name in needed if name not in offered]:
        raise RegistrationError(f"its callable asks for {', '.join(unknown)}: it is given `checkpointer` and `config`")
    return {one.name: offered[one.name] for one in parameters if one.name in offered}


class _Threaded:
    """A synchronous context manager, entered and left in a thread."""

    def __init__(self, inner: AbstractContextManager[Any]) -> None:
        self._inner = inner

    async def __aenter__(self) -> object:
        return await asyncio.to_thread(self._inner.__enter__)

    async def __aexit__(self, *raised: Any) -> None:  # noqa: PYI036 - passed on as they come
        await asyncio.to_thread(self._inner.__exit__, *raised)
