"""Tools that note each time they really run; their keys are the ids of the calls."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from langchain.tools import ToolRuntime, tool
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool
from langgraph.types import Command, interrupt

from agents.effects import note


def _note(name: str, runtime: ToolRuntime) -> None:
    note(name, runtime.tool_call_id or "", runtime.config["configurable"]["thread_id"])


@tool
def look_up(what: str, runtime: ToolRuntime) -> str:
    """Look something up."""
    _note("look_up", runtime)
    return f"{what} is known"


@tool
async def pay(amount: int, runtime: ToolRuntime) -> str:
    """Pay an amount; asynchronous, as most tools of services are."""
    await asyncio.sleep(0)
    _note("pay", runtime)
    return f"paid {amount}"


@tool
def pay_now(amount: int, runtime: ToolRuntime) -> str:
    """Pay an amount, synchronously."""
    _note("pay_now", runtime)
    return f"paid {amount}"


@tool
def remember(what: str, runtime: ToolRuntime) -> Command[Any]:
    """Answer with an update of the state, as tools do that keep something."""
    _note("remember", runtime)
    said = ToolMessage(f"kept {what}", tool_call_id=runtime.tool_call_id or "")
    return Command(update={"messages": [said], "kept": what})


@tool
def ask_first(question: str, runtime: ToolRuntime) -> str:
    """Ask a person from inside the tool, and act on the answer."""
    answer = interrupt({"question": question})
    _note("ask_first", runtime)
    return f"{question}: {answer}"


class SessionClosedError(RuntimeError):
    """A session of tools was used after it had been closed, or from a loop that is not its own."""


@dataclass
class ToolSession:
    """Tools of a server that is talked to over a session, as those of MCP: a reader task on the loop that opened it."""

    requests: asyncio.Queue[tuple[str, asyncio.Future[str]]] = field(default_factory=asyncio.Queue)
    loop: asyncio.AbstractEventLoop | None = None

    async def ask(self, what: str) -> str:
        if self.loop is None:
            raise SessionClosedError("the session of the tools is closed")
        if asyncio.get_running_loop() is not self.loop:
            raise SessionClosedError("the session of the tools belongs to another loop")
        answer: asyncio.Future[str] = self.loop.create_future()
        await self.requests.put((what, answer))
        return await answer

    async def serve(self) -> None:
        while True:
            what, answer = await self.requests.get()
            answer.set_result(f"the server says {what}")

    def tools(self) -> list[BaseTool]:
        @tool
        async def ask_server(what: str, runtime: ToolRuntime) -> str:
            """Ask the server."""
            told = await self.ask(what)
            _note("ask_server", runtime)
            return told

        return [ask_server]


@asynccontextmanager
async def tool_session() -> AsyncIterator[ToolSession]:
    """Open a session and serve it until the context is left; its tools fail from then on."""
    session = ToolSession(loop=asyncio.get_running_loop())
    serving = asyncio.ensure_future(session.serve())
    try:
        yield session
    finally:
        session.loop = None
        serving.cancel()


@dataclass
class Client:
    """A synchronous client of a service; its tool fails once it is closed."""

    is_open: bool = True

    def tools(self) -> list[BaseTool]:
        @tool
        def ask_client(what: str, runtime: ToolRuntime) -> str:
            """Ask through the client."""
            if not self.is_open:
                raise SessionClosedError("the client is closed")
            _note("ask_client", runtime)
            return f"the client says {what}"

        return [ask_client]


@contextmanager
def client() -> Iterator[Client]:
    opened = Client()
    try:
        yield opened
    finally:
        opened.is_open = False
