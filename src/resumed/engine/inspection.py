"""Judges a thread as an attempt's preflight would, for `scan` and `show`: takes no lock, writes nothing."""

from dataclasses import replace

from resumed.engine.desk import Desk, Ticket
from resumed.engine.look import Cleared, clear, look, made_for
from resumed.engine.saver import FencedSaver
from resumed.errors import GraphNotMadeError
from resumed.judge.verdict import open_question
from resumed.model import Judgement
from resumed.store import watermarks
from resumed.store.connect import opened


async def inspect(ticket: Ticket, desk: Desk) -> Judgement | None:
    """Give the verdict that values and graph lead to; None where they have nothing against a resume."""
    async with opened(desk.target, "resumed inspect") as session:
        await session.execute("select set_config('default_transaction_read_only', 'on', false)")
        seen = await look(session, await watermarks.clock(session), ticket)
        if seen is None or not open_question(seen.judgement):
            return None
        saver = FencedSaver(session, seen.sighting.head.checkpoint_id, ticket.workflow.policy.serde)
        try:
            await made_for(saver, seen, ticket)
        except GraphNotMadeError as error:
            return replace(seen.judgement, reason=f"{seen.judgement.reason}; {error}")
        cleared = await clear(saver, seen, ticket)
        return None if isinstance(cleared, Cleared) else cleared
