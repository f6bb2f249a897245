"""Our side: the verdict on a copy of a thread, and one attempt on it, in this process and without a worker."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from oracle.journal import COPIES, Journal, Rows
from oracle.plain import State, bound, limit_of, state_of, stops_of
from oracle.recording import Call
from oracle.savers import BothFaces
from resumed.judge.verdict import needs_graph
from resumed.model import Judgement, Verdict
from resumed.runtime.assessment import assess_thread
from resumed.runtime.context import AttemptRequest
from resumed.store.connection import open_session
from resumed.store.thread_rows import read_thread
from resumed.workflows.loaded_workflow import LoadedWorkflow, load_workflow
from resumed.workflows.workflow import Workflow
from support.attempting import Place

NAME = "oracle"
_LAST_ATTEMPT = """
    select outcome, error_type || ': ' || error from resumed.attempts where thread_id = %s order by attempt desc limit 1
"""
_CASE = "select verdict, reason from resumed.cases where thread_id = %s"
RESUMABLE = (Verdict.FAILED, Verdict.STOPPED)


@dataclass(frozen=True)
class Attempted:
    """What one attempt did: its outcome, or the verdict for which it was refused."""

    said: str
    outcome: str | None
    error: str | None
    verdict: str | None
    reason: str | None


class Ours:
    """Judges and tries the copy in the schema `copies`."""

    def __init__(self, journal: Journal, place: Place, pool: Any) -> None:
        self._journal, self._pool = journal, pool
        place.worker = replace(place.worker, target=journal.target(COPIES))
        self._place = place

    def load(self, call: Call, upto: int) -> Rows:
        self._journal.replay(call.source, call.thread, upto, COPIES)
        return self._journal.rows(COPIES)

    def rows(self) -> Rows:
        return self._journal.rows(COPIES)

    def workflow(self, call: Call) -> LoadedWorkflow:
        context = call.options.get("context")
        policy = Workflow(
            graph=call.graph,
            interrupt_before=stops_of(call, "interrupt_before"),
            interrupt_after=stops_of(call, "interrupt_after"),
            recursion_limit=limit_of(call),
            context=(lambda _: context) if context is not None else None,
            serde=call.saver.serde,
        )
        made = load_workflow(NAME, policy, call.graph)
        if made is None:
            message = "it is no graph"
            raise TypeError(message)
        return made

    async def verdict(self, call: Call) -> Judgement | None:
        """The verdict that `scan` would name; None where there is no thread."""
        request = self._place.request(self.workflow(call), call.thread)
        seen = await self._seen(request)
        if seen is None or not needs_graph(seen):
            return seen
        said = await self._place.inspect(request.workflow, call.thread)
        return said if said is not None else seen

    async def _seen(self, request: AttemptRequest) -> Judgement | None:
        async with open_session(self._place.worker.target) as session:
            found = assess_thread(await read_thread(session, request.thread_id), request)
        return found.judgement if found is not None else None

    async def attempt(self, call: Call) -> Attempted:
        """Make one attempt, as a worker would."""
        for _ in range(3):
            said = await self._place.attempt(self.workflow(call), call.thread)
            if said in ("tried", "looked"):
                break
            await asyncio.sleep(1)
        made = self._journal.session.execute(_LAST_ATTEMPT, [call.thread]).fetchone()
        if made is None:
            judgement = await self.verdict(call)
            verdict, reason = (judgement.verdict.value, judgement.reason) if judgement else (None, None)
            return Attempted(said, None, None, verdict, reason)
        outcome, error = made
        verdict, reason = self._journal.session.execute(_CASE, [call.thread]).fetchone() or (None, None)
        return Attempted(said, outcome, error, verdict, reason)

    async def state(self, call: Call) -> State:
        return await state_of(bound(call, BothFaces(self._pool, serde=call.saver.serde)), call)
