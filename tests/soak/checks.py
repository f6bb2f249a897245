"""What must hold after any storm, read from the rows and from the log of side effects."""

from itertools import pairwise
from typing import Any

from support.bench import Bench

_OPEN = "select thread_id, attempt, worker from resumed.attempts where finished_at is null"
_CHARGED = """
select thread_id, attempt, outcome, worker from resumed.attempts
where charged and not (outcome = 'crashed' and worker like '%%-isolation')
"""
_LEFT = """
select distinct c.thread_id, k.state, k.reason, k.quarantine_reason from checkpoints c
left join resumed.cases k using (thread_id)
where k.state is distinct from 'closed'
"""
_FORKED = """
select thread_id, parent_checkpoint_id from checkpoints
where checkpoint_ns = '' group by 1, 2 having count(*) > 1
"""
_OUTCOMES = "select outcome, count(*)::int as attempts from resumed.attempts group by 1 order by 1"


def doubles(bench: Bench) -> list[str]:
    """Threads of which a node ran while somebody else was still at it."""
    threads: dict[str, dict[Any, list[float]]] = {}
    for line in bench.effects():
        threads.setdefault(line["thread"], {}).setdefault((line["pid"], line["attempt"]), []).append(line["at"])
    found = []
    for thread, runs in threads.items():
        spans = sorted((min(instants), max(instants)) for instants in runs.values())
        found += [thread for earlier, later in pairwise(spans) if earlier[1] > later[0]]
    return found


def forked(bench: Bench) -> list[dict[str, Any]]:
    """Checkpoints with two successors: two runs saved on top of the same one."""
    return bench.rows(_FORKED)


def left_open(bench: Bench) -> list[dict[str, Any]]:
    return bench.rows(_OPEN)


def wrongly_charged(bench: Bench) -> list[dict[str, Any]]:
    """Charges for something else than a crash alone."""
    return bench.rows(_CHARGED)


def unfinished(bench: Bench) -> list[dict[str, Any]]:
    return bench.rows(_LEFT)


def outcomes(bench: Bench) -> dict[str, int]:
    return {row["outcome"]: row["attempts"] for row in bench.rows(_OUTCOMES)}
