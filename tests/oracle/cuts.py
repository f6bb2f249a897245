"""Judges cuts: killed after each transaction of a call, whether our attempt on a copy comes to the call's own end."""

import asyncio
import sys
from dataclasses import dataclass
from typing import Any

from langgraph.errors import GraphDrained, GraphRecursionError
from langgraph.types import Command

from oracle.journal import Journal, Rows
from oracle.ours import Attempted, Ours
from oracle.plain import Plain, State, told
from oracle.recording import Call

MOST = 40
_SCALARS = (str, int, float, bool, type(None))
_HELD = ("waiting", "breakpoint", "edited", "incompatible")
_DOCUMENTED = ("behind its parent", "ahead of its parent", "a join has counted")


@dataclass(frozen=True)
class Ruling:
    """`equal`, `held`, `explained` or `unexplained`, and why."""

    kind: str
    why: str


@dataclass
class Undisturbed:
    """What a call came to, and what is asked only where a cut differs from it."""

    call: Call
    end: State
    stood: str
    repeats: bool | None = None
    again: State | None = None


@dataclass(frozen=True)
class Cut:
    """One cut: its transaction, the rows then, and what our attempt made of it."""

    xid: int
    before: Rows
    after: Rows
    tried: Attempted
    end: State
    asked: tuple[Any, ...]


class Cutter:
    """Kills the calls of a test at each transaction, on copies."""

    def __init__(self, journal: Journal, ours: Ours, plain: Plain) -> None:
        self._journal, self._ours, self._plain = journal, ours, plain

    def points(self, call: Call) -> tuple[list[int], int]:
        """The transactions after which the call is killed, the last apart; and how many were left out."""
        found = self._journal.transactions(call.source, call.thread, call.start, call.end)[:-1]
        if len(found) <= MOST:
            return found, 0
        chosen = [found[index * len(found) // MOST] for index in range(MOST)]
        return chosen, len(found) - MOST

    async def undisturbed(self, call: Call, stood: str) -> Undisturbed:
        self._plain.load(call, call.end)
        return Undisturbed(call, await self._plain.state(call), stood)

    async def judge(self, whole: Undisturbed, xid: int) -> Ruling:
        """Rule on one cut, with the test's own objects as they were then."""
        call = whole.call
        cut = await self._cut(call, xid, xid)
        if cut.end.equals(whole.end) and not _asks_nobody(cut):
            return Ruling("equal", cut.tried.outcome or f"{cut.tried.said}: {cut.tried.verdict}")
        if cheap := await self._told_by_rows(whole, cut):
            return cheap
        for moment in (call.start, call.end) if cut.tried.outcome is not None else ():
            # Which objects a run has at a cut, the order of its saves does not always tell.
            other = await self._cut(call, xid, moment)
            if other.end.equals(whole.end) and not _asks_nobody(other):
                return Ruling("equal", f"{other.tried.outcome}, with the test's objects of another moment")
        return await self._why(whole, cut)

    async def _cut(self, call: Call, xid: int, moment: int) -> Cut:
        before = self._ours.load(call, xid)
        asked = (await self._ours.state(call)).interrupts if before.head else ()
        call.recall(moment)
        tried = await self._ours.attempt(call)
        return Cut(xid, before, self._ours.rows(), tried, await self._ours.state(call), asked)

    async def _told_by_rows(self, whole: Undisturbed, cut: Cut) -> Ruling | None:
        """Say what explains or holds a cut without any other run of it."""
        call = whole.call
        if said := self._unsaved(call, cut):
            return Ruling("explained", said)
        if (
            cut.tried.outcome in (None, "incompatible")
            and cut.tried.verdict in _HELD
            and (said := await self._documented(call, cut))
        ):
            return Ruling("held", said)
        said = _cannot_be_given_back(call)
        return Ruling("explained", said) if said else None

    async def _why(self, whole: Undisturbed, cut: Cut) -> Ruling:
        call = whole.call
        if not await self._repeats(whole):
            again = f"{_short(whole.end)}, again {_short(whole.again)}" if whole.again else ""
            return Ruling("explained", f"nondeterministic: the call itself, made again, comes to another end: {again}")
        passed = whole.stood in ("waiting", "breakpoint") and cut.tried.outcome == "finished"
        if not passed and cut.tried.outcome is not None and await self._as_plain(call, cut):
            return Ruling("explained", "LangGraph's own resume of this cut comes to the same end as ours")
        return Ruling("unexplained", f"{cut.tried}; undisturbed {_short(whole.end)}, ours {_short(cut.end)}")

    def _unsaved(self, call: Call, cut: Cut) -> str | None:
        """Say what of the call had not been saved when it was killed."""
        start = self._ours.load(call, call.start)
        if cut.before.head is None:
            return "nothing saved yet: no root checkpoint"
        same_head = start.head == cut.before.head
        if same_head and call.given is not None and not isinstance(call.given, Command):
            return "nothing saved yet: the input"
        given = {row for row in cut.before.writes - start.writes if row[3] == "__resume__"}
        answers = isinstance(call.given, Command) and call.given.resume is not None
        if same_head and answers and not given and cut.tried.verdict == "waiting":
            return "nothing saved yet: the answer"
        return None

    async def _documented(self, call: Call, cut: Cut) -> str | None:
        """Say which documented rule holds this thread."""
        verdict, reason = cut.tried.verdict, cut.tried.reason or ""
        if verdict == "edited" and cut.before.edited:
            return "edited or forked, and nothing has run since"
        if verdict == "breakpoint":
            self._plain.load(call, cut.xid)
            run = await self._plain.run(call, approved=False)
            stands = run.stops or told(cut.before, self._plain.rows(), run) == "breakpoint"
            return "approved, and killed before any row of it" if stands and _goes_on(call) else None
        if verdict == "waiting" and "order" in reason:
            return "the order of answer and question cannot be known"
        if verdict == "waiting" and cut.asked:
            return "a question waits, other branches with it"
        if verdict == "incompatible" and _local_classes(reason):
            return "its classes live inside a test's function, where no other process finds them"
        if verdict == "incompatible" and any(one in reason for one in _DOCUMENTED):
            return f"incompatible: {next(one for one in _DOCUMENTED if one in reason)}"
        return None

    async def _repeats(self, whole: Undisturbed) -> bool:
        """Make the call again from where it began: whether it comes to the same end at all."""
        if whole.repeats is None:
            call = whole.call
            self._plain.load(call, call.start)
            config = {**call.config, "callbacks": None}
            call.recall(call.start)
            await self._plain.run(call, approved=True, given=call.given, config=config)
            whole.again = await self._plain.state(call)
            whole.repeats = whole.again.equals(whole.end)
        return whole.repeats

    async def _as_plain(self, call: Call, cut: Cut) -> bool:
        self._plain.load(call, cut.xid)
        call.recall(cut.xid)
        await self._plain.run(call, approved=True)
        return (await self._plain.state(call)).equals(cut.end)


def _asks_nobody(cut: Cut) -> bool:
    """Whether the thread is held for a question that the application cannot see."""
    return cut.tried.outcome is None and cut.tried.verdict == "waiting" and not cut.asked


def _local_classes(reason: str) -> bool:
    """Whether the classes that are missing were never in their modules: only the test's own function knows them."""
    before, _, names = reason.partition(": ")
    if not before.startswith("classes of the state"):
        return False
    found = [name.rpartition(".") for name in names.split(", ")]
    return all(module in sys.modules and not hasattr(sys.modules[module], name) for module, _, name in found)


def _goes_on(call: Call) -> bool:
    return call.given is None or isinstance(call.given, Command)


def _cannot_be_given_back(call: Call) -> str | None:
    """Say what of the call no resume can know, or must not repeat."""
    if isinstance(call.error, GraphRecursionError):
        return "a resume has a step budget of its own"
    if isinstance(call.error, GraphDrained | asyncio.CancelledError | GeneratorExit | TimeoutError):
        return f"the application stopped the call itself ({type(call.error).__name__}); the attempt goes on"
    named = call.config.get("configurable", {})
    own = {key: value for key, value in named.items() if not key.startswith(("__", "checkpoint_", "thread_id"))}
    lost = [key for key, value in own.items() if not isinstance(value, _SCALARS)]
    return f"the call gave objects that no row keeps: {', '.join(lost)}" if lost else None


def _short(state: State) -> str:
    return f"{state.error or repr(state.values)[:200]} next={state.next} interrupts={len(state.interrupts)}"
