"""Judges a thread as an attempt's preflight would, for `scan` and `show`: takes no lock, writes nothing."""

from dataclasses import replace

from resumed.errors import GraphNotMadeError
from resumed.judge.verdict import needs_graph
from resumed.model import Judgement
from resumed.runtime.assessment import Approved, assess_thread, load_thread_workflow, run_preflight
from resumed.runtime.context import AttemptRequest, WorkerContext
from resumed.runtime.fenced_saver import FencedSaver
from resumed.store.connection import open_session
from resumed.store.thread_rows import read_thread


async def inspect_thread(request: AttemptRequest, worker: WorkerContext) -> Judgement | None:
    """Return the verdict that values and graph lead to; None where they do not object to a resume."""
    async with open_session(worker.target, "resumed inspect") as session:
        await session.execute("select set_config('default_transaction_read_only', 'on', false)")
        assessment = assess_thread(await read_thread(session, request.thread_id), request)
        if assessment is None or not needs_graph(assessment.judgement):
            return None
        saver = FencedSaver(session, assessment.head_id, request.workflow.policy.serde)
        try:
            await load_thread_workflow(saver, assessment, request)
        except GraphNotMadeError as error:
            judgement = assessment.judgement
            return replace(judgement, reason=f"{judgement.reason}; {error}")
        result = await run_preflight(saver, assessment, request)
        return None if isinstance(result, Approved) else result
