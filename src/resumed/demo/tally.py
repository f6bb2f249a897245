"""Owns what the demo knows of each thread, and whether all ended as they should. Reads and writes nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_FINISHED = "finished"
_WAITING = "waiting"


@dataclass(slots=True)
class Thread:
    """One thread: where it stood when the application was killed, and what became of it."""

    thread_id: str
    workflow: str
    stopped_at: str = ""
    head: str = ""
    verdict: str = ""
    outcome: str = ""
    attempts: int = 0
    running: bool = False
    seconds: float | None = None

    @property
    def resumable(self) -> bool:
        """Whether the daemon is to do anything about it."""
        return self.verdict not in (_FINISHED, _WAITING)

    @property
    def done(self) -> bool:
        """Whether nothing more is to be expected of it."""
        return not self.resumable or self.outcome in (_FINISHED, _WAITING)

    @property
    def standing(self) -> str:
        """Where it stands now, in a word."""
        return "resuming" if self.running else self.outcome or self.verdict

    @property
    def end(self) -> str:
        """What became of it, in words for the table."""
        untouched = {_FINISHED: "finished before the kill", _WAITING: "waiting, untouched"}
        return self.outcome or untouched.get(self.verdict, "not resumed")


class Tally:
    """All threads of the demo, from what the application, `scan` and the daemon's log say of them."""

    def __init__(self, expected: Mapping[str, Mapping[str, Any]]) -> None:
        """Start with where every thread would stand had nobody been killed."""
        self.expected = expected
        self.threads = {one: Thread(one, one.rpartition("_")[0]) for one in expected}

    def stopped(self, states: Mapping[str, Mapping[str, Any]]) -> None:
        """Note where each thread stood when the application was dead."""
        for thread_id, state in states.items():
            self.threads[thread_id].head = state["head"]
            self.threads[thread_id].stopped_at = ", ".join(
                node if times == 1 else f"{node} x {times}" for node, times in Counter(state["next"]).items()
            )

    def judged(self, scanned: Sequence[Mapping[str, Any]]) -> None:
        """Note the verdicts; a thread that `scan` does not name has nothing left to run."""
        verdicts = {one["thread_id"]: str(one["verdict"]) for one in scanned}
        for thread in self.threads.values():
            thread.verdict = verdicts.get(thread.thread_id, _FINISHED if not thread.stopped_at else "")

    def hear(self, line: Mapping[str, Any]) -> Thread | None:
        """Take in a line of the daemon's log; gives the thread whose attempt has ended by it."""
        thread = self.threads.get(str(line.get("thread_id")))
        if thread is None or not str(line["event"]).startswith("attempt."):
            return None
        thread.running = line["event"] == "attempt.started"
        if line["event"] != "attempt.finished":
            return None
        thread.attempts += 1
        thread.outcome = str(line["outcome"])
        thread.seconds = (thread.seconds or 0.0) + line["duration_ms"] / 1000
        return thread

    @property
    def done(self) -> bool:
        """Whether nothing more is to be expected of any thread."""
        return all(thread.done for thread in self.threads.values())

    def counts(self, workflow: str) -> Counter[str]:
        """Count one workflow's threads by where they stand."""
        return Counter(one.standing for one in self.threads.values() if one.workflow == workflow)

    def wrong(self, states: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Say of each thread that does not stand where it would undisturbed, or was touched without need, what is."""
        said = ((thread, self._fault(thread, states.get(thread.thread_id))) for thread in self.threads.values())
        return [f"{thread.thread_id}: {fault}" for thread, fault in said if fault]

    def _fault(self, thread: Thread, state: Mapping[str, Any] | None) -> str | None:
        expected = self.expected[thread.thread_id]
        if state is None:
            return "it has no checkpoint"
        if not thread.resumable and state["head"] != thread.head:
            return f"it was {thread.verdict} and has been touched"
        if state["next"] != expected["next"] or state["questions"] != expected["questions"]:
            return f"it stands at {', '.join(state['next']) or 'its end'}, {thread.end}"
        return None if state["values"] == expected["values"] else "its state is not that of an undisturbed run"
