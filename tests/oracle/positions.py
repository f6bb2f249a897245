"""Judges positions: after each call and edit, whether our verdict is what a real run of a copy says of the thread."""

from dataclasses import dataclass

from oracle.journal import Rows
from oracle.ours import RESUMABLE, Attempted, Ours
from oracle.plain import Plain, told
from oracle.recording import Call
from resumed.model import Judgement, Verdict

_EXPECTED = {
    "nothing": (Verdict.FINISHED,),
    "finished": (Verdict.FINISHED,),
    "waiting": (Verdict.WAITING,),
    "breakpoint": (Verdict.BREAKPOINT,),
    "runs": RESUMABLE,
}


@dataclass(frozen=True)
class Ruling:
    """`right`, `wrong` or `undecidable`, with what both sides said."""

    kind: str
    oracle: str
    ours: str
    why: str = ""


async def judge(call: Call, ours: Ours, plain: Plain) -> Ruling:
    """Rule on the position at the end of a call."""
    before = plain.load(call, call.end)
    call.recall(call.end)
    run = await plain.run(call, approved=False)
    after = plain.rows()
    oracle = told(before, after, run)
    if oracle == "runs":
        plain.load(call, call.end)
        if (await plain.state(call)).interrupts:
            oracle = "waiting"  # LangGraph names a question to the application, though this node would not ask it again
    if oracle == "runs" and call.stops and call.error is None:
        oracle = "breakpoint"  # LangGraph's loop said so itself; a breakpoint after a node stops no later run
    copy = ours.load(call, call.end)
    judgement = await ours.verdict(call)
    said = f"{judgement.verdict.value} ({judgement.reason})" if judgement is not None else "no thread"
    if oracle.startswith("unknown"):
        return Ruling("undecidable", oracle, said, repr(run.error)[:200] if run.error else "")
    if _right(oracle, judgement, copy):
        return Ruling("right", oracle, said)
    if oracle == "breakpoint" and judgement is not None and judgement.verdict in RESUMABLE:
        call.recall(call.end)
        tried = await ours.attempt(call)
        if _stopped_unharmed(copy, ours.rows(), tried):
            return Ruling("right", oracle, said, "only the attempt saw it, and ran nothing")
        return Ruling("wrong", oracle, said, f"the attempt passed it: {tried}")
    made = sorted(map(str, (after.writes - before.writes) | (after.checkpoints - before.checkpoints)))
    return Ruling("wrong", oracle, said, f"{run}; new rows {made[:6]}")


def _right(oracle: str, judgement: Judgement | None, copy: Rows) -> bool:
    if judgement is None:
        return oracle == "nothing" or copy.head is None
    if judgement.verdict in _EXPECTED[oracle]:
        return True
    # An edit, and what was forked, waits for a person whatever is left of it.
    return judgement.verdict is Verdict.EDITED and oracle in ("runs", "breakpoint", "waiting") and copy.edited


def _stopped_unharmed(before: Rows, after: Rows, tried: Attempted) -> bool:
    return not after.new_since(before) and (tried.outcome in (None, "waiting") and tried.verdict != "finished")
