"""Judges a thread as an attempt's preflight would, for `scan` and `show`: takes no lock, writes nothing."""

from dataclasses import replace

from resumed.errors import GraphNotMadeError
from resumed.judge.verdict import needs_graph
from resumed.model import Judgement
from resumed.runtime.assessment import Approved, assess_thread, made_for, run_preflight
from resumed.runtime.context import AttemptRequest, WorkerContext
from resumed.runtime.fenced_saver import FencedSaver
from resumed.store import watermark
from resumed.store.connection import open_session


async def inspect_thread(request: AttemptRequest, desk: WorkerContext) -> Judgement | None:
    """Give the verdict that values and graph lead to; None where they have nothing against a resume."""
    async with open_session(desk.target, "resumed inspect") as session:
        await session.execute("select set_config('default_transaction_read_only', 'on', false)")
        seen = await assess_thread(session, await watermark.database_clock(session), request)
        if seen is None or not needs_graph(seen.judgement):
            return None
        saver = FencedSaver(session, seen.snapshot.head.checkpoint_id, request.workflow.policy.serde)
        try:
            await made_for(saver, seen, request)
        except GraphNotMadeError as error:
            return replace(seen.judgement, reason=f"{seen.judgement.reason}; {error}")
        cleared = await run_preflight(saver, seen, request)
        return None if isinstance(cleared, Approved) else cleared
